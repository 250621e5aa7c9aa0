internal import Apus
internal import ApusServices
internal import ArgumentParser
internal import Glibc
internal import Logging
internal import ScenariosWithoutNonsending
internal import ServiceLifecycle

/// The server that Tests/Foreign calls: handlers that misbehave on purpose, and a record of what became of them.
@main
struct ScenariosCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apus-scenarios",
        abstract: "Serves apus.test.v1.ScenarioService and echo.v1.EchoService until SIGTERM or SIGINT."
    )

    @Option(help: "HOST:PORT (port 0 for any), [IPV6]:PORT, unix:PATH or unix-abstract:NAME.")
    var listen = "127.0.0.1:0"

    @Option(help: "Event loop threads; one for each core when not given.")
    var threads: Int?

    @Option(help: "trace, debug, info, notice, warning, error or critical; on standard error.")
    var logLevel = "debug"

    @OptionGroup var limits: LimitOptions
    @OptionGroup var security: SecurityOptions

    func run() async throws {
        guard let level = Logger.Level(rawValue: logLevel) else {
            throw ValidationError("\"\(logLevel)\" is not a log level")
        }
        var logger = Logger(label: "apus-scenarios") { StreamLogHandler.standardError(label: $0) }
        logger.logLevel = level
        do {
            try await serve(logger)
        } catch {
            throw ValidationError("\(error)")
        }
    }

    private func serve(_ logger: Logger) async throws {
        let address = try ListenAddress(listen)
        let eventLoops = try threads.map { threads in try EventLoopGroup(threads: threads, logger: logger) } ?? .shared
        let journal = Journal()
        let server = try Server(
            address,
            services: [
                ScenarioService(journal: journal), ServiceWithoutNonsending(), AsynchronousEcho(), ChannelzService(),
            ],
            security: security.security(journal),
            configuration: limits.configuration,
            eventLoops: eventLoops,
            logger: logger
        )
        let hangUps = security.replaceOnHangUp(server, logger)
        defer { hangUps?.cancel() }
        let group = ServiceGroup(services: [server], gracefulShutdownSignals: [.sigterm, .sigint], logger: logger)
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await group.run() }
            tasks.addTask {
                print("listening on \(try await server.listeningAddress)")
                fflush(nil)
            }
            try await tasks.waitForAll()
        }
    }
}
