internal import Apus
internal import ArgumentParser
internal import Dispatch
internal import Foundation
internal import Glibc
internal import Logging

/// The client that Tests/Foreign sets against peers: it makes the calls that it is told to make in JSON lines on
/// standard input, and says in JSON lines on standard output what became of them.
@main
struct ClientScenariosCommand: ParsableCommand {
    enum Scenario: String, ExpressibleByArgument {
        /// Commands on standard input, until it ends; ``Command`` has them.
        case session
        /// One blocking call on the main thread of a process that has no task.
        case mainThread = "main-thread"
    }

    static let configuration = CommandConfiguration(
        commandName: "apus-client-scenarios",
        abstract: "Makes calls of a server as it is told on standard input."
    )

    @Argument var scenario: Scenario
    @OptionGroup var options: ChannelOptions

    @Option(help: "trace, debug, info, notice, warning, error or critical; on standard error.")
    var logLevel = "debug"

    func run() throws {
        guard let level = Logger.Level(rawValue: logLevel) else {
            throw ValidationError("\"\(logLevel)\" is not a log level")
        }
        var logger = Logger(label: "apus-client-scenarios") { StreamLogHandler.standardError(label: $0) }
        logger.logLevel = level
        let channel: Channel
        do {
            channel = try options.channel(logger)
        } catch let error as RPCError {
            return Output.say("refused", ["code": .string("\(error.code)"), "message": .string(error.message)])
        }
        switch scenario {
        case .session: serve(Session(channel, options, logger))
        case .mainThread:
            RunningCall(.unary(path: "/apus.test.v1.ScenarioService/Get"), channel).runBlocking()
            channel.close()
        }
    }

    /// Commands are read by a thread of their own, so that the main thread serves the main actor.
    private func serve(_ session: Session) {
        let reader = Thread {
            while let line = readLine() { session.obey(line) }
            session.end()
            Glibc.exit(0)
        }
        reader.start()
        dispatchMain()
    }
}

/// The target, and the values of the channel's configuration that tests set; what is not given stays at its default.
struct ChannelOptions: ParsableArguments {
    @Option var target: String
    @Option var maxRequestBytes: Int?
    @Option var maxResponseBytes: Int?
    @Option var maxHeaderListBytes: Int?
    @Option var streamWindowBytes: Int?
    @Option var connectionWindowBytes: Int?
    @Option var sendQueueBytes: Int?
    @Option var connectTimeoutMs: Int?
    @Option var initialBackoffMs: Int?
    @Option var keepaliveTimeMs: Int?
    @Option var keepaliveTimeoutMs: Int?
    @Flag var keepaliveWithoutCalls = false
    @Option var idleTimeoutMs: Int?
    @Option var writeStallTimeoutMs: Int?
    @Option(help: "Compresses requests unless a call says otherwise.") var requestCompression: String?
    @Flag(help: "Tells servers that responses may be compressed.") var acceptCompressed = false
    @Option var authority: String?
    @Option var userAgent: String?
    @Option(help: "Event loop threads of the channel's own; otherwise it shares those of the process.")
    var threads: Int?
    @OptionGroup var security: SecurityOptions

    var configuration: ChannelConfiguration {
        var configuration = ChannelConfiguration()
        if let maxRequestBytes { configuration.maxRequestBytes = maxRequestBytes }
        if let maxResponseBytes { configuration.maxResponseBytes = maxResponseBytes }
        if let maxHeaderListBytes { configuration.maxHeaderListBytes = maxHeaderListBytes }
        if let streamWindowBytes { configuration.streamWindowBytes = streamWindowBytes }
        if let connectionWindowBytes { configuration.connectionWindowBytes = connectionWindowBytes }
        if let sendQueueBytes { configuration.sendQueueBytes = sendQueueBytes }
        if let connectTimeoutMs { configuration.connectTimeout = .milliseconds(connectTimeoutMs) }
        if let initialBackoffMs { configuration.initialBackoff = .milliseconds(initialBackoffMs) }
        configuration.keepaliveTime = keepaliveTimeMs.map { .milliseconds($0) }
        if let keepaliveTimeoutMs { configuration.keepaliveTimeout = .milliseconds(keepaliveTimeoutMs) }
        configuration.keepaliveWithoutCalls = keepaliveWithoutCalls
        if let idleTimeoutMs { configuration.idleTimeout = .milliseconds(idleTimeoutMs) }
        if let writeStallTimeoutMs { configuration.writeStallTimeout = .milliseconds(writeStallTimeoutMs) }
        if let requestCompression { configuration.requestCompression = CompressionAlgorithm(requestCompression) }
        configuration.acceptsCompressedResponses = acceptCompressed
        configuration.authority = authority
        configuration.userAgent = userAgent
        return configuration
    }

    func channel(_ logger: Logger) throws -> Channel {
        let loops = try threads.map { threads in try EventLoopGroup(threads: threads, logger: logger) } ?? .shared
        return try Channel(
            target,
            security: security.security,
            configuration: configuration,
            eventLoops: loops,
            logger: logger
        )
    }
}
