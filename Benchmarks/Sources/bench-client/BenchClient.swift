import Apus
import Glibc
import Logging

/// Makes calls of one shape, in one way.
protocol Caller {
    /// Makes so many calls, or sends so many messages, and checks each answer.
    func makeCalls(_ count: Int) throws -> Latencies
    /// Ends what `makeCalls` left open.
    func finish() throws
}

/// The client that `run` and `budget` measure. After its warm-up it prints `ready` and waits for a line; after its
/// calls it prints their figures as JSON.
@main
struct BenchClient {
    static func main() {
        let options: ClientOptions
        do {
            options = try ClientOptions(CommandLine.arguments.dropFirst())
        } catch {
            end(complaining: "\(error)\nusage: \(ClientOptions.usage)", status: 2)
        }
        do {
            try measure(options)
        } catch {
            end(complaining: "\(error)", status: 1)
        }
    }

    private static func measure(_ options: ClientOptions) throws -> Never {
        var logger = Logger(label: "bench-client") { StreamLogHandler.standardError(label: $0) }
        logger.logLevel = .warning
        let loops = try EventLoopGroup(threads: 1, logger: logger)
        let channel = try Channel(options.target, eventLoops: loops, logger: logger)
        let caller = makeCaller(channel, options)
        if options.warmUp > 0 { _ = try caller.makeCalls(options.warmUp) }
        print("ready")
        fflush(nil)  // standard output may be a pipe
        _ = readLine()

        let (began, usedBefore) = (now(CLOCK_MONOTONIC), now(CLOCK_PROCESS_CPUTIME_ID))
        var latencies = try caller.makeCalls(options.calls)
        let (used, ended) = (now(CLOCK_PROCESS_CPUTIME_ID) - usedBefore, now(CLOCK_MONOTONIC))
        guard latencies.count == (options.wantsLatencies && options.shape != .stream ? options.calls : 0) else {
            throw WrongAnswer(description: "\(latencies.count) of \(options.calls) calls were made")
        }
        try caller.finish()
        latencies.sort()
        print(
            #"{"calls":\#(options.calls),"seconds":\#(Double(ended - began) / 1e9),"#
                + #""cpu_microseconds":\#(Double(used) / 1e3),"p50_microseconds":\#(latencies.percentile(50)),"#
                + #""p99_microseconds":\#(latencies.percentile(99))}"#
        )
        fflush(nil)
        // While the channel lives: its end would be work on another thread, of which the process's end lets pass now
        // more, now less, so that instructions would differ from run to run.
        withExtendedLifetime(channel) { exit(0) }
    }

    private static func makeCaller(_ channel: Channel, _ options: ClientOptions) -> any Caller {
        switch options.variant {
        case .rawAsync, .rawElsewhere: AsyncCaller(channel, RawDialect(), options)
        case .rawBlocking: BlockingCaller(channel, RawDialect(), options)
        case .protoAsync, .protoElsewhere: AsyncCaller(channel, ProtoDialect(), options)
        case .protoBlocking: BlockingCaller(channel, ProtoDialect(), options)
        case .stubAsync: StubCaller(channel, options)
        }
    }
}

private func end(complaining message: String, status: Int32) -> Never {
    var line = "bench-client: \(message)\n"
    line.withUTF8 { _ = write(STDERR_FILENO, $0.baseAddress, $0.count) }
    exit(status)
}
