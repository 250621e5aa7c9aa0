internal import Apus
internal import ApusCommandLine
internal import ArgumentParser
internal import Logging

struct ServerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "server",
        abstract: "Serves grpc.testing.TestService until SIGTERM or SIGINT, then lets calls end."
    )

    @Option(help: "HOST:PORT (port 0 for any), [IPV6]:PORT, unix:PATH or unix-abstract:NAME.")
    var listen = "127.0.0.1:50051"

    @OptionGroup var security: ServerSecurityOptions

    @Option(help: "Calls that a client may have open at once on a connection.")
    var maxConcurrentStreams: Int?

    @Option(help: "Event loop threads; one for each core when not given.")
    var threads: Int?

    @Option(help: "trace, debug, info, notice, warning, error or critical; on standard error.")
    var logLevel = "info"

    func run() async throws {
        let logger = try Logger.standardError(label: "apus-interop", level: logLevel)
        var configuration = ServerConfiguration()
        configuration.maxRequestBytes = TestServiceHandler.messageBytesMax
        if let maxConcurrentStreams { configuration.maxConcurrentStreams = maxConcurrentStreams }
        let eventLoops = try threads.map { threads in try EventLoopGroup(threads: threads, logger: logger) } ?? .shared
        let server = try Server(
            try ListenAddress(listen),
            services: [TestServiceHandler()],
            security: try security.makeSecurity(),
            configuration: configuration,
            eventLoops: eventLoops,
            logger: logger
        )
        let reloading = security.reloadOnHangUp(server, logger)
        defer { reloading?.cancel() }
        try await server.serveUntilSignalled(logger)
    }
}
