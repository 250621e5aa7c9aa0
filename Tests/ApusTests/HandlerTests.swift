import Apus
import TestSupport
import Testing

/// Handlers as a user writes them.
@Suite(.timeLimit(.minutes(1))) struct HandlerTests {
    private struct Oddity: Error {}

    /// Makes one call of a service and gives its answer.
    private func call(
        _ method: String,
        _ messages: [String] = ["x"],
        _ fields: Fields = [:],
        configuration: ServerConfiguration = ServerConfiguration(),
        _ registration: @escaping @Sendable (inout MethodRegistry) -> Void
    ) async throws -> Answer {
        let server = try makeServer(
            .unixAbstract(name: "unused"),
            [TestService(registration)],
            configuration: configuration
        )
        let (mine, its) = try BlockingClient.socketPair()
        try server.adopt(connectedSocket: its)
        let answer = try await onThread {
            try BlockingClient(descriptor: mine).call("/t/\(method)", messages, fields)
        }
        server.stop()
        await server.waitUntilStopped()
        return answer
    }

    // MARK: Where they run

    @Test func `a handler runs on a thread of the event loops, or on the global pool when that is asked for`()
        async throws
    {
        @Sendable func register(_ registry: inout MethodRegistry, _ name: String, _ options: MethodOptions) {
            registry.unary(.test(name), request: TextCodec(), response: TextCodec(), options: options) { _, _ in
                let before = EventLoop.current != nil
                await Task.yield()
                return "\(before) \(EventLoop.current != nil)"
            }
        }
        for executor in [HandlerExecutor.eventLoop, .globalConcurrent] {
            var configuration = ServerConfiguration()
            configuration.handlerExecutor = executor
            let own = "\(executor == .eventLoop) \(executor == .eventLoop)"
            let answer = try await call("Own", configuration: configuration) { register(&$0, "Own", MethodOptions()) }
            #expect(answer.text == own)
            let loop = try await call("Loop", configuration: configuration) {
                register(&$0, "Loop", MethodOptions(executor: .eventLoop))
            }
            #expect(loop.text == "true true")
            let pool = try await call("Pool", configuration: configuration) {
                register(&$0, "Pool", MethodOptions(executor: .globalConcurrent))
            }
            #expect(pool.text == "false false")
        }
    }

    @Test func `a handler that is an actor's method runs on the actor`() async throws {
        actor Counter {
            var count = 0
            func next() -> Int {
                count += 1
                return count
            }
        }
        let counter = Counter()
        let answer = try await call("Count") { registry in
            registry.unary(.test("Count"), request: TextCodec(), response: TextCodec()) { _, _ in
                "\(await counter.next()) \(await counter.next())"
            }
        }
        #expect(answer.text == "1 2")
    }

    // MARK: How they end

    @Test(arguments: [StatusCode.ok, .cancelled, .notFound, .internal, .unauthenticated])
    func `a thrown RPCError is the status; OK makes no sense and is UNKNOWN`(code: StatusCode) async throws {
        let answer = try await call("Throw") { registry in
            registry.unary(.test("Throw"), request: TextCodec(), response: TextCodec()) { _, _ in
                throw RPCError(code: code, message: "why", metadata: ["k": "v"])
            }
        }
        #expect(answer.status == (code == .ok ? 2 : code.rawValue))
        #expect(answer.message == "why")
        #expect(answer.trailers?["k"] == "v")
    }

    @Test(arguments: [false, true])
    func `another error is UNKNOWN`(isSent: Bool) async throws {
        var configuration = ServerConfiguration()
        configuration.sendsErrorDescriptions = isSent
        let answer = try await call("Throw", configuration: configuration) { registry in
            registry.unary(.test("Throw"), request: TextCodec(), response: TextCodec()) { _, _ in throw Oddity() }
        }
        #expect(answer.status == 2)
        #expect(answer.message?.contains("Oddity") == isSent)
    }

    @Test func `a request that does not decode and a response that does not encode are INTERNAL`() async throws {
        let notes = Notes()
        @Sendable func register(_ registry: inout MethodRegistry) {
            registry.unary(.test("Unary"), request: TextCodec(), response: TextCodec()) { text, _ in
                notes.add("ran")
                return text == "bad" ? "!" : text
            }
            registry.synchronousUnary(.test("Sync"), request: TextCodec(), response: TextCodec()) { text, _ in
                text == "bad" ? "!" : text
            }
            registry.bidirectionalStreaming(.test("Update"), request: TextCodec(), response: TextCodec()) {
                requests,
                responses,
                _ in
                for try await text in requests { try await responses.write(text == "bad" ? "!" : text) }
            }
        }
        for name in ["Unary", "Sync", "Update"] {
            let undecodable = try await call(name, ["!"]) { register(&$0) }
            #expect(undecodable.status == 13)
            #expect(undecodable.message?.contains("could not be decoded") == true)
            let unencodable = try await call(name, ["bad"]) { register(&$0) }
            #expect(unencodable.status == 13)
            #expect(unencodable.message?.contains("could not be encoded") == true)
        }
        #expect(notes.all == ["ran"])
        let answer = try await call("Update", ["a", "b", "!"]) { register(&$0) }
        #expect(answer.texts == ["a", "b"])
        #expect(answer.status == 13)
    }

    // MARK: The context

    @Test func `the context says what came with the call`() async throws {
        let answer = try await call("Look", ["x"], ["k": "v", "grpc-timeout": "1H", "k-bin": "AAE="]) { registry in
            registry.unary(.test("Look"), request: TextCodec(), response: TextCodec()) { _, context in
                let isTimed = (context.timeRemaining ?? .zero) > .seconds(3500)
                let parts = ["\(context.method)", context.authority, "\(context.peer)", "\(context.metadata)"]
                return (parts + ["\(isTimed)", "\(context.isCancelled)"]).joined(separator: " ")
            }
        }
        #expect(answer.text == "t/Look test unix: [k: v, k-bin: 0x0001] true false")
    }

    @Test(arguments: [HandlerExecutor.eventLoop, .globalConcurrent])
    func `initial metadata and trailers go out, from wherever the handler runs`(executor: HandlerExecutor) async throws
    {
        var configuration = ServerConfiguration()
        configuration.handlerExecutor = executor
        let answer = try await call("Add", configuration: configuration) { registry in
            registry.serverStreaming(.test("Add"), request: TextCodec(), response: TextCodec()) {
                _,
                responses,
                context in
                context.addInitialMetadata(["first": "1"])
                context.sendInitialMetadata()
                try await responses.write("a")
                context.addTrailers(["last": "2"])
                context.addTrailers(["last": "3"])
            }
        }
        #expect(answer.head?["first"] == "1")
        #expect(answer.trailers?.values("last") == ["2", "3"])
        #expect(answer.texts == ["a"])
    }

    @Test func `a writer that is kept throws once the call has ended`() async throws {
        let notes = Notes()
        let (ended, tried) = (Signal(), Signal())
        let answer = try await call("Keep") { registry in
            registry.serverStreaming(.test("Keep"), request: TextCodec(), response: TextCodec()) { _, responses, _ in
                try await responses.write("a")
                Task {
                    await ended.wait()
                    do { try await responses.write("late") } catch { notes.add(describe(error)) }
                    tried.send()
                }
            }
        }
        #expect(answer.texts == ["a"])
        ended.send()
        await tried.wait()
        #expect(notes.all == ["INTERNAL"])
    }

    @Test func `a request stream ends with nil, again and again`() async throws {
        let answer = try await call("Read", ["a", "b"]) { registry in
            registry.clientStreaming(.test("Read"), request: TextCodec(), response: TextCodec()) { requests, _ in
                var iterator = requests.makeAsyncIterator()
                var texts: [String] = []
                for _ in 0..<5 { texts.append(try await iterator.next() ?? "nil") }
                return texts.joined(separator: " ")
            }
        }
        #expect(answer.text == "a b nil nil nil")
    }

    // MARK: Many at once

    @Test(arguments: [HandlerExecutor.eventLoop, .globalConcurrent])
    func `many connections with many calls each are all answered`(executor: HandlerExecutor) async throws {
        var configuration = ServerConfiguration()
        configuration.handlerExecutor = executor
        try await withServer(configuration: configuration) { _, port in
            try await withThrowingTaskGroup(of: Int.self) { group in
                for connection in 0..<8 {
                    group.addTask {
                        try await withClient(port) { client in
                            var good = 0
                            for round in 0..<20 {
                                let streams = try (0..<10).map { index in
                                    let stream = try client.open("/t/" + ["Sync", "Unary", "Update"][index % 3])
                                    let text = Array("\(connection) \(round) \(index)".utf8)
                                    try client.send(.data(stream, framed(text), endStream: true))
                                    return stream
                                }
                                for (index, stream) in streams.enumerated() {
                                    let answer = try client.waitForEnd(of: stream)
                                    if answer.text == "\(connection) \(round) \(index)" { good += 1 }
                                }
                            }
                            return good
                        }
                    }
                }
                for try await good in group { #expect(good == 200) }
            }
        }
    }
}
