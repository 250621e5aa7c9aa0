import Apus
import EchoV1

/// Makes unary calls as `AsyncCaller` does on the channel's loop, but by the generated client: what the stub adds.
final class StubCaller: Caller {
    private let channel: Channel
    private let dialect = ProtoDialect()
    private let options: ClientOptions

    init(_ channel: Channel, _ options: ClientOptions) {
        self.channel = channel
        self.options = options
    }

    func makeCalls(_ count: Int) throws -> Latencies {
        guard options.shape == .unary else { throw WrongAnswer(description: "stubs are measured by unary calls") }
        let (channel, dialect, options) = (channel, dialect, options)
        return try waitForTask(preferring: channel.executor) {
            try await Self.unary(Echo_V1_EchoService.Client(channel), dialect, options, count, channel.executor)
        }
    }

    func finish() {}

    private static func unary(
        _ client: Echo_V1_EchoService.Client,
        _ dialect: ProtoDialect,
        _ options: ClientOptions,
        _ count: Int,
        _ executor: any TaskExecutor
    ) async throws -> Latencies {
        try await withThrowingTaskGroup(of: Latencies.self) { group in
            for index in 0..<options.inFlight {
                group.addTask(executorPreference: executor) {
                    let share = (count + index) / options.inFlight
                    var latencies = Latencies(wanted: options.wantsLatencies, capacity: share)
                    for _ in 0..<share {
                        let began = latencies.stamp()
                        let response = try await client.get(dialect.message())
                        try dialect.check(response)
                        latencies.record(since: began)
                    }
                    return latencies
                }
            }
            var all = Latencies(wanted: options.wantsLatencies, capacity: count)
            for try await own in group { all.append(own) }
            return all
        }
    }
}
