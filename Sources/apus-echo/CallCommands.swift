internal import Apus
internal import ArgumentParser
internal import EchoV1
internal import Glibc

/// A command that makes one call: with the asynchronous client or the blocking one.
protocol CallCommand: AsyncParsableCommand, Sendable {
    var client: ClientOptions { get }
    func call(_ echo: Echo_V1_EchoService.Client, _ options: CallOptions, _ report: Report) async throws
    func callBlocking(_ echo: Echo_V1_EchoService.BlockingClient, _ options: CallOptions, _ report: Report) throws
}

extension CallCommand {
    func run() async throws {
        let channel = try client.makeChannel()
        defer { channel.close() }
        let options = client.callOptions
        let report = Report(isVerbose: client.verbose)
        do {
            if client.blocking {
                try await Self.onThread {
                    try self.callBlocking(Echo_V1_EchoService.BlockingClient(channel), options, report)
                }
            } else {
                try await call(Echo_V1_EchoService.Client(channel), options, report)
            }
        } catch let error as RPCError {
            report.failed(error)
            throw ExitCode.failure
        }
    }

    /// Runs what blocks on a thread of its own, as a program that has no tasks would.
    private static func onThread(_ body: @escaping @Sendable () throws -> Void) async throws {
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            let thread = Thread { continuation.resume(with: Result { try body() }) }
            thread.start()
        }
    }
}

struct GetCommand: CallCommand {
    static let configuration = CommandConfiguration(
        commandName: "get",
        abstract: "Calls Get: one text there, the same text back."
    )

    @OptionGroup var client: ClientOptions
    @Argument(help: "The text.") var text: String

    func call(_ echo: Echo_V1_EchoService.Client, _ options: CallOptions, _ report: Report) async throws {
        try report.show(await echo.getWithMetadata(.with { $0.text = text }, options: options))
    }

    func callBlocking(_ echo: Echo_V1_EchoService.BlockingClient, _ options: CallOptions, _ report: Report) throws {
        try report.show(echo.getWithMetadata(.with { $0.text = text }, options: options))
    }
}

struct ExpandCommand: CallCommand {
    static let configuration = CommandConfiguration(
        commandName: "expand",
        abstract: "Calls Expand: one text there, each of its words back."
    )

    @OptionGroup var client: ClientOptions
    @Argument(help: "The text.") var text: String

    func call(_ echo: Echo_V1_EchoService.Client, _ options: CallOptions, _ report: Report) async throws {
        let stream = echo.expand(.with { $0.text = text }, options: options)
        report.show(initial: try await stream.initialMetadata)
        for try await response in stream { report.show(response.text) }
        report.show(trailers: try await stream.trailers)
    }

    func callBlocking(_ echo: Echo_V1_EchoService.BlockingClient, _ options: CallOptions, _ report: Report) throws {
        let stream = echo.expand(.with { $0.text = text }, options: options)
        report.show(initial: try stream.initialMetadata())
        while let response = try stream.next() { report.show(response.text) }
        report.show(trailers: try stream.trailers())
    }
}

struct CollectCommand: CallCommand {
    static let configuration = CommandConfiguration(
        commandName: "collect",
        abstract: "Calls Collect: many texts there, all of them joined back."
    )

    @OptionGroup var client: ClientOptions
    @Argument(help: "The texts; without any, the lines of standard input.") var texts: [String] = []

    func call(_ echo: Echo_V1_EchoService.Client, _ options: CallOptions, _ report: Report) async throws {
        let call = echo.collect(options: options)
        for text in texts { try await call.requests.write(.with { $0.text = text }) }
        if texts.isEmpty { while let line = readLine() { try await call.requests.write(.with { $0.text = line }) } }
        let response = try await call.response()
        report.show(initial: try await call.initialMetadata)
        report.show(response.text)
        report.show(trailers: try await call.trailers)
    }

    func callBlocking(_ echo: Echo_V1_EchoService.BlockingClient, _ options: CallOptions, _ report: Report) throws {
        let call = echo.collect(options: options)
        for text in texts { try call.requests.write(.with { $0.text = text }) }
        if texts.isEmpty { while let line = readLine() { try call.requests.write(.with { $0.text = line }) } }
        let response = try call.response()
        report.show(initial: try call.initialMetadata())
        report.show(response.text)
        report.show(trailers: try call.trailers())
    }
}

struct UpdateCommand: CallCommand {
    static let configuration = CommandConfiguration(
        commandName: "update",
        abstract: "Calls Update: texts there, each back as it comes."
    )

    @OptionGroup var client: ClientOptions
    @Argument(help: "The texts; without any, the lines of standard input.") var texts: [String] = []

    func call(_ echo: Echo_V1_EchoService.Client, _ options: CallOptions, _ report: Report) async throws {
        let call = echo.update(options: options)
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask {
                for text in texts { try await call.requests.write(.with { $0.text = text }) }
                if texts.isEmpty {
                    while let line = readLine() { try await call.requests.write(.with { $0.text = line }) }
                }
                call.requests.finish()
            }
            for try await response in call.responses { report.show(response.text) }
            try await tasks.waitForAll()
        }
        report.show(initial: try await call.responses.initialMetadata)
        report.show(trailers: try await call.responses.trailers)
    }

    func callBlocking(_ echo: Echo_V1_EchoService.BlockingClient, _ options: CallOptions, _ report: Report) throws {
        let call = echo.update(options: options)
        func send(_ text: String) throws {
            try call.requests.write(.with { $0.text = text })
            if let response = try call.responses.next() { report.show(response.text) }
        }
        for text in texts { try send(text) }
        if texts.isEmpty { while let line = readLine() { try send(line) } }
        call.requests.finish()
        while let response = try call.responses.next() { report.show(response.text) }
        report.show(initial: try call.responses.initialMetadata())
        report.show(trailers: try call.responses.trailers())
    }
}
