internal import Apus
internal import ApusCommandLine
internal import ArgumentParser
internal import Glibc
internal import Logging

struct ClientCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "client",
        abstract: "Runs one case of the tests, or all, against a server.",
        discussion: """
            Prints a line for each case: PASS and its name, or FAIL, its name, what was expected and what came. A case \
            that needs a server started in a special way is left out of `all` unless its option is given, with SKIP. \
            The exit status is 0 when no case failed.

            The cases: \(InteropCase.all.map(\.name).joined(separator: ", ")).
            """
    )

    @Option(name: .customLong("case"), help: "The case to run, or `all`; may be repeated.")
    var cases: [String] = ["all"]

    @Option(
        help: "HOST:PORT, dns:///HOST:PORT, ipv4:A.B.C.D:PORT, ipv6:[ADDRESS]:PORT, unix:PATH or unix-abstract:NAME."
    )
    var target = "127.0.0.1:50051"

    @OptionGroup var security: ClientSecurityOptions
    @OptionGroup var parameters: CaseParameters

    @Option(help: "How long each call may take: a number and ms, s, m or h, such as 500ms.")
    var timeout = TimeoutArgument(duration: .seconds(30))

    @Option(help: "trace, debug, info, notice, warning, error or critical; on standard error.")
    var logLevel = "warning"

    func validate() throws {
        for interopCase in try chosenCases() where cases.contains(interopCase.name) {
            if let obstacle = interopCase.obstacle(in: parameters) {
                throw ValidationError("\(interopCase.name) cannot be run: \(obstacle)")
            }
        }
    }

    func run() async throws {
        let chosen = try chosenCases()
        let logger = try Logger.standardError(label: "apus-interop", level: logLevel)
        let run = try CaseRun(
            target: target,
            security: security.makeSecurity(),
            timeout: timeout.duration,
            parameters: parameters,
            logger: logger
        )
        defer { run.channel.close() }
        var hasFailed = false
        for interopCase in chosen {
            let outcome = await run.outcome(of: interopCase)
            print(outcome)
            fflush(nil)
            if case .failed = outcome { hasFailed = true }
        }
        if hasFailed { throw ExitCode.failure }
    }

    private func chosenCases() throws -> [InteropCase] {
        try cases.flatMap { name throws -> [InteropCase] in
            if name == "all" { return InteropCase.all }
            guard let found = InteropCase.all.first(where: { $0.name == name }) else {
                throw ValidationError("there is no case \"\(name)\"; there are: " + InteropCase.names)
            }
            return [found]
        }
    }
}

/// What some cases are told beside the server.
struct CaseParameters: ParsableArguments {
    @Option(
        help: """
            What the server's limit of concurrent streams is; max_concurrent_streams_connection_scaling needs a server \
            that was started with one.
            """
    )
    var maxConcurrentStreams: Int?

    @Option(help: "client_compressed_unary and client_compressed_streaming: how requests are compressed.")
    var compression = CompressionArgument.gzip

    @Option(help: "rpc_soak and channel_soak: how many calls.")
    var soakIterations = 1000

    @Option(help: "rpc_soak and channel_soak: how many of the calls may fail or be too slow.")
    var soakMaxFailures = 0

    @Option(help: "rpc_soak and channel_soak: how long a call may take, beyond which it has failed.")
    var soakPerIterationMaxAcceptableLatency = TimeoutArgument(duration: .seconds(1))

    @Option(help: "rpc_soak and channel_soak: how long all calls together may take.")
    var soakOverallTimeout = TimeoutArgument(duration: .seconds(60))

    @Option(help: "rpc_soak and channel_soak: the least time from one call's start to the next one's.")
    var soakMinTimeBetweenRpcs = TimeoutArgument(duration: .zero)

    @Option(help: "rpc_soak and channel_soak: bytes of each request's payload.")
    var soakRequestSize = 271_828

    @Option(help: "rpc_soak and channel_soak: bytes of each response's payload.")
    var soakResponseSize = 314_159

    @Option(help: "long_lived_channel: how many calls.")
    var iterations = 10

    @Option(help: "long_lived_channel: the pause between two calls.")
    var iterationInterval = TimeoutArgument(duration: .milliseconds(100))

    func validate() throws {
        if let maxConcurrentStreams, !(1...1000).contains(maxConcurrentStreams) {
            throw ValidationError("--max-concurrent-streams has to be 1 to 1000")
        }
        for (name, value) in [("--soak-iterations", soakIterations), ("--iterations", iterations)] where value < 1 {
            throw ValidationError("\(name) has to be 1 or more")
        }
        if soakMaxFailures < 0 { throw ValidationError("--soak-max-failures has to be 0 or more") }
        let sizes = [("--soak-request-size", soakRequestSize), ("--soak-response-size", soakResponseSize)]
        for (name, value) in sizes where !(0...Int(Int32.max)).contains(value) {
            throw ValidationError("\(name) has to be 0 to \(Int32.max)")
        }
    }
}
