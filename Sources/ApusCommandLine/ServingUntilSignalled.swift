package import Apus
internal import Glibc
package import Logging
internal import ServiceLifecycle

extension Server {
    /// Serves until SIGTERM or SIGINT, then lets calls end. Says on standard output where it listens.
    package func serveUntilSignalled(_ logger: Logger) async throws {
        let group = ServiceGroup(services: [self], gracefulShutdownSignals: [.sigterm, .sigint], logger: logger)
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await group.run() }
            tasks.addTask {
                print("listening on \(try await self.listeningAddress)")
                fflush(nil)
            }
            try await tasks.waitForAll()
        }
    }
}
