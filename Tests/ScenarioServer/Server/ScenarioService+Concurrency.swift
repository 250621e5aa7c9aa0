internal import Apus

/// State that calls of every loop share, behind an actor; some of its methods are handlers as a whole.
actor Tally {
    private var total = 0

    func add(_ amount: Int) -> Int {
        total += amount
        return total
    }

    /// Reads a stream inside the actor.
    func collect(_ requests: RequestStream<[UInt8]>) async throws -> [UInt8] {
        for try await request in requests { total += request.count }
        return ScenarioService.text("\(total)")
    }

    /// Reads and writes inside the actor.
    func update(_ requests: RequestStream<[UInt8]>, _ responses: ResponseWriter<[UInt8]>) async throws {
        for try await request in requests {
            total += 1
            try await responses.write(request)
        }
    }
}

extension ScenarioService {
    func registerConcurrency(with registry: inout MethodRegistry) {
        registry.unary("ActorAdd") { _, context in
            Self.text("\(await tally.add(CallParameters(context).integer("x-count", default: 1)))")
        }
        // The same actor from a task that no loop runs, at the same time as the call uses it.
        registry.unary("ActorAddFromTasks") { _, context in
            let count = CallParameters(context).integer("x-count", default: 1)
            let other = Task.detached { for _ in 0..<count { _ = await tally.add(1) } }
            for _ in 0..<count { _ = await tally.add(1) }
            await other.value
            return Self.text("\(await tally.add(0))")
        }
        registry.clientStreaming("ActorCollect") { requests, _ in try await tally.collect(requests) }
        registry.bidirectionalStreaming("ActorUpdate") { requests, responses, _ in
            try await tally.update(requests, responses)
        }
        registry.bidirectionalStreaming("ReadWithTimeout") { requests, responses, context in
            let timeout = CallParameters(context).duration
            while true {
                switch try await Self.next(of: requests, within: timeout) {
                case .message(let message): try await responses.write(message)
                case .end: return try await responses.write(Self.text("end"))
                case .timeout: try await responses.write(Self.text("timeout"))
                }
            }
        }
        // Reads in one child task, writes in another, and ends with both.
        registry.bidirectionalStreaming("ReadBesideWrite") { requests, responses, context in
            let count = CallParameters(context).integer("x-count")
            async let read = Self.countMessages(requests)
            async let written: Void = Self.write(count, to: responses)
            try await written
            try await responses.write(Self.text("read \(try await read)"))
        }
    }

    func registerGlobalShapes(with registry: inout MethodRegistry) {
        let global = MethodOptions(executor: .globalConcurrent)
        registry.unary("GlobalGet", global) { request, _ in request }
        registry.serverStreaming("GlobalExpand", global) { request, responses, _ in
            for part in request.split(separator: UInt8(ascii: " ")) { try await responses.write(Array(part)) }
        }
        registry.clientStreaming("GlobalCollect", global) { requests, _ in
            var joined: [UInt8] = []
            for try await request in requests { joined += request }
            return joined
        }
        registry.bidirectionalStreaming("GlobalUpdate", global) { requests, responses, _ in
            for try await request in requests { try await responses.write(request) }
        }
    }

    private enum Read: Sendable {
        case message([UInt8])
        case end
        case timeout
    }

    private static func next(of requests: RequestStream<[UInt8]>, within timeout: Duration) async throws -> Read {
        try await withThrowingTaskGroup(of: Read.self) { group in
            group.addTask {
                var iterator = requests.makeAsyncIterator()
                return try await iterator.next().map { .message($0) } ?? .end
            }
            group.addTask {
                try await Task.sleep(for: timeout)
                return .timeout
            }
            // The loser is cancelled, and the group waits for its end.
            defer { group.cancelAll() }
            return try await group.next() ?? .end
        }
    }

    private static func countMessages(_ requests: RequestStream<[UInt8]>) async throws -> Int {
        var count = 0
        for try await _ in requests { count += 1 }
        return count
    }

    private static func write(_ count: Int, to responses: ResponseWriter<[UInt8]>) async throws {
        for number in 0..<count { try await responses.write(text("\(number)")) }
    }
}
