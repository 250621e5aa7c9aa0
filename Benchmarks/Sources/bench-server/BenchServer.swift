import Apus
import Glibc
import Logging

/// The server that `floor` and `budget` measure. It prints `listening on ADDRESS`, and stops on SIGTERM or SIGINT.
///
/// `main` is synchronous, since callgrind does not survive an asynchronous one: it waits for a signal while a task runs
/// the server.
@main
struct BenchServer {
    static func main() {
        let options: Options
        do {
            options = try Options(CommandLine.arguments.dropFirst())
        } catch {
            end(complaining: "\(error)\nusage: \(Options.usage)", status: 2)
        }
        let signals = TerminationSignals()  // before there are threads that could take one
        Task.detached {
            do {
                try await serve(options)
            } catch {
                end(complaining: "\(error)", status: 1)
            }
        }
        signals.wait()
        exit(0)
    }

    private static func serve(_ options: Options) async throws {
        var logger = Logger(label: "bench-server") { StreamLogHandler.standardError(label: $0) }
        logger.logLevel = .warning
        let server = try Server(
            options.address,
            services: [options.service],
            security: try options.security,
            eventLoops: try EventLoopGroup(threads: options.threads, logger: logger),
            logger: logger
        )
        print("listening on \(try await server.listen())")
        fflush(nil)  // standard output may be a pipe
        await server.waitUntilStopped()
    }
}

private func end(complaining message: String, status: Int32) -> Never {
    var line = "bench-server: \(message)\n"
    line.withUTF8 { _ = write(STDERR_FILENO, $0.baseAddress, $0.count) }
    exit(status)
}

/// SIGTERM and SIGINT, held back from every thread so that the main thread can wait for one.
private struct TerminationSignals {
    private var set = sigset_t()

    init() {
        sigemptyset(&set)
        sigaddset(&set, SIGTERM)
        sigaddset(&set, SIGINT)
        pthread_sigmask(SIG_BLOCK, &set, nil)
    }

    func wait() {
        var set = set
        var received: Int32 = 0
        sigwait(&set, &received)
    }
}
