import Apus

let get = MethodDescriptor(service: "echo.v1.EchoService", method: "Get")
let update = MethodDescriptor(service: "echo.v1.EchoService", method: "Update")
let `repeat` = MethodDescriptor(service: "bench.v1.BenchService", method: "Repeat")

/// Makes calls from tasks, on the channel's loop or on the concurrency pool.
final class AsyncCaller<D: Dialect>: Caller {
    private typealias Bidirectional = BidirectionalCall<D.RequestCodec.Message, D.ResponseCodec.Message>

    private let channel: Channel
    private let dialect: D
    private let options: ClientOptions
    /// What the tasks prefer; `nil` for the pool.
    private let executor: (any TaskExecutor)?
    /// The one stream of ping-pong, for warm-up and measurement.
    private var stream: Bidirectional?

    init(_ channel: Channel, _ dialect: D, _ options: ClientOptions) {
        self.channel = channel
        self.dialect = dialect
        self.options = options
        executor = options.variant.place == .loop ? channel.executor : nil
    }

    func makeCalls(_ count: Int) throws -> Latencies {
        let (channel, dialect, options, executor) = (channel, dialect, options, executor)
        switch options.shape {
        case .unary:
            return try waitForTask(preferring: executor) {
                try await Self.unary(channel, dialect, options, count, executor)
            }
        case .pingPong:
            let stream = startedStream()
            return try waitForTask(preferring: executor) {
                try await Self.pingPong(stream, dialect, options, count)
            }
        case .stream:
            return try waitForTask(preferring: executor) {
                try await Self.oneWay(channel, dialect, count)
            }
        }
    }

    func finish() throws {
        guard let stream else { return }
        try waitForTask(preferring: executor) {
            stream.requests.finish()
            guard try await stream.responses.next() == nil else {
                throw WrongAnswer(description: "more messages than were asked for")
            }
        }
    }

    private func startedStream() -> Bidirectional {
        if let stream { return stream }
        let started = channel.bidirectionalStreaming(
            update,
            requestCodec: dialect.requestCodec,
            responseCodec: dialect.responseCodec
        )
        stream = started
        return started
    }

    private static func unary(
        _ channel: Channel,
        _ dialect: D,
        _ options: ClientOptions,
        _ count: Int,
        _ executor: (any TaskExecutor)?
    ) async throws -> Latencies {
        try await withThrowingTaskGroup(of: Latencies.self) { group in
            for index in 0..<options.inFlight {
                group.addTask(executorPreference: executor) {
                    let share = (count + index) / options.inFlight
                    var latencies = Latencies(wanted: options.wantsLatencies, capacity: share)
                    for _ in 0..<share {
                        let began = latencies.stamp()
                        let response = try await channel.unary(
                            get,
                            dialect.message(),
                            requestCodec: dialect.requestCodec,
                            responseCodec: dialect.responseCodec
                        )
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

    private static func pingPong(
        _ stream: Bidirectional,
        _ dialect: D,
        _ options: ClientOptions,
        _ count: Int
    ) async throws -> Latencies {
        // Told apart by their order, so with more than one in flight the times are those of a whole turn.
        var latencies = Latencies(wanted: options.wantsLatencies, capacity: count)
        let ahead = min(options.inFlight, count)
        var began = latencies.stamp()
        for _ in 0..<ahead { try await stream.requests.write(dialect.message()) }
        for received in 1...max(count, 1) where count > 0 {
            guard let response = try await stream.responses.next() else {
                throw WrongAnswer(description: "the stream ended early")
            }
            try dialect.check(response)
            latencies.record(since: began)
            if received + ahead <= count {
                began = latencies.stamp()
                try await stream.requests.write(dialect.message())
            }
        }
        return latencies
    }

    private static func oneWay(_ channel: Channel, _ dialect: D, _ count: Int) async throws -> Latencies {
        let responses = channel.serverStreaming(
            `repeat`,
            dialect.message(asking: count),
            requestCodec: dialect.requestCodec,
            responseCodec: dialect.responseCodec
        )
        var received = 0
        for try await response in responses {
            try dialect.check(response)
            received += 1
        }
        guard received == count else { throw WrongAnswer(description: "\(received) messages, not \(count)") }
        return Latencies(wanted: false, capacity: 0)
    }
}
