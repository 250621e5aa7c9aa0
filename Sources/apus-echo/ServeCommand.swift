internal import Apus
internal import ApusCommandLine
internal import ApusServices
internal import ArgumentParser
internal import EchoV1
internal import Logging

struct ServeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Serves echo.v1.EchoService until SIGTERM or SIGINT, then lets calls end."
    )

    @Option(help: "HOST:PORT (port 0 for any), [IPV6]:PORT, unix:PATH or unix-abstract:NAME.")
    var listen = "127.0.0.1:50051"

    @OptionGroup var security: ServerSecurityOptions

    @Option(help: "How to compress responses to clients that accept it: gzip or deflate. Requests may be either.")
    var compression: CompressionArgument?

    @Option(help: "Event loop threads; one for each core when not given.")
    var threads: Int?

    @Option(help: "trace, debug, info, notice, warning, error or critical; on standard error.")
    var logLevel = "info"

    func run() async throws {
        let logger = try Logger.standardError(label: "apus-echo", level: logLevel)
        let address = try ListenAddress(listen)
        let eventLoops = try threads.map { threads in try EventLoopGroup(threads: threads, logger: logger) } ?? .shared
        var configuration = ServerConfiguration()
        if let compression { configuration.responseCompression = compression.algorithm }
        let server = try Server(
            address,
            services: [EchoHandler(), HealthService(), ReflectionService(), ChannelzService()],
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
