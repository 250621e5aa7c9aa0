import Apus

/// Makes calls from threads that block: as many as there are calls in flight.
final class BlockingCaller<D: Dialect>: Caller {
    private typealias Bidirectional = BlockingBidirectionalCall<D.RequestCodec.Message, D.ResponseCodec.Message>

    private let channel: Channel
    private let dialect: D
    private let options: ClientOptions
    private var stream: Bidirectional?

    init(_ channel: Channel, _ dialect: D, _ options: ClientOptions) {
        self.channel = channel
        self.dialect = dialect
        self.options = options
    }

    func makeCalls(_ count: Int) throws -> Latencies {
        switch options.shape {
        case .unary: try unary(count)
        case .pingPong: try pingPong(count)
        case .stream: try oneWay(count)
        }
    }

    func finish() throws {
        guard let stream else { return }
        stream.requests.finish()
        guard try stream.responses.next() == nil else {
            throw WrongAnswer(description: "more messages than were asked for")
        }
    }

    private func unary(_ count: Int) throws -> Latencies {
        let (channel, dialect, options) = (channel, dialect, options)
        let threads = (0..<options.inFlight).map { index in
            WorkThread {
                let share = (count + index) / options.inFlight
                var latencies = Latencies(wanted: options.wantsLatencies, capacity: share)
                for _ in 0..<share {
                    let began = latencies.stamp()
                    let response = try channel.blockingUnary(
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
        for thread in threads { all.append(try thread.wait()) }
        return all
    }

    private func startedStream() throws -> Bidirectional {
        if let stream { return stream }
        let started = channel.blockingBidirectionalStreaming(
            update,
            requestCodec: dialect.requestCodec,
            responseCodec: dialect.responseCodec
        )
        stream = started
        return started
    }

    private func pingPong(_ count: Int) throws -> Latencies {
        let stream = try startedStream()
        var latencies = Latencies(wanted: options.wantsLatencies, capacity: count)
        let ahead = min(options.inFlight, count)
        var began = latencies.stamp()
        for _ in 0..<ahead { try stream.requests.write(dialect.message()) }
        for received in 1...max(count, 1) where count > 0 {
            guard let response = try stream.responses.next() else {
                throw WrongAnswer(description: "the stream ended early")
            }
            try dialect.check(response)
            latencies.record(since: began)
            if received + ahead <= count {
                began = latencies.stamp()
                try stream.requests.write(dialect.message())
            }
        }
        return latencies
    }

    private func oneWay(_ count: Int) throws -> Latencies {
        let responses = channel.blockingServerStreaming(
            `repeat`,
            dialect.message(asking: count),
            requestCodec: dialect.requestCodec,
            responseCodec: dialect.responseCodec
        )
        var received = 0
        while let response = try responses.next() {
            try dialect.check(response)
            received += 1
        }
        guard received == count else { throw WrongAnswer(description: "\(received) messages, not \(count)") }
        return Latencies(wanted: false, capacity: 0)
    }
}
