import ApusBase
import TestSupport
import Testing

@testable import ApusTransport

/// Calls of methods that are not in the server's table.
@Suite(.timeLimit(.minutes(1))) struct FallbackTests {
    private func fallback(
        on executor: HandlerExecutor = .eventLoop,
        maxBytes: Int = 1 << 20,
        _ handler: @escaping @Sendable (CallContext) async throws -> Void
    ) -> Fallback {
        Fallback(executor: executor, maxRequestBytes: maxBytes, maxResponseBytes: maxBytes, handler: handler)
    }

    /// Answers each message with the method's name and the message.
    private func naming(on executor: HandlerExecutor = .eventLoop) -> Fallback {
        fallback(on: executor) { call in
            while let message = try await call.next() { try await call.write("\(call.method) got \(text(message))") }
        }
    }

    @Test(arguments: [
        ("/s/Get", "s/Get"), ("/a.b.C/d-e", "a.b.C/d-e"), ("/é/ü", "é/ü"), ("//Get", nil), ("/s/", nil), ("/s", nil),
        ("/", nil), ("", nil), ("s/Get", nil), ("/s/Get/", nil), ("/s/a/b", nil), ("///", nil),
    ])
    func `a path names a method if it has two names and no more`(path: String, method: String?) {
        #expect(MethodDescriptor(path: Array(path.utf8).span)?.description == method)
    }

    @Test func `a path that is not UTF-8 names no method`() {
        #expect(MethodDescriptor(path: [UInt8](arrayLiteral: 0x2F, 0x73, 0x2F, 0xFF).span) == nil)
        #expect(MethodDescriptor(path: [UInt8](arrayLiteral: 0x2F, 0xC3, 0x2F, 0xA9).span) == nil)
    }

    @Test(arguments: [HandlerExecutor.eventLoop, .globalConcurrent])
    func `a method that is not in the table is the fallback's, one that is there is not`(
        executor: HandlerExecutor
    ) async throws {
        try await withSession(echoMethods, fallback: naming(on: executor)) { session in
            let made = await session.call(1, "/any.Service/Any", "one")
            #expect(made.messages?.map(text) == ["any.Service/Any got one"])
            #expect(made.status == 0)
            for (index, name) in ["Sync", "Unary", "Update"].enumerated() {
                let answer = await session.call(UInt32(3 + 2 * index), "/t/\(name)", "two")
                #expect(answer.messages?.map(text) == ["two"])
            }
            let sibling = await session.call(11, "/t/Missing", "three")
            #expect(sibling.messages?.map(text) == ["t/Missing got three"])
        }
    }

    @Test(arguments: ["/", "/s", "/s/", "//Get", "/s/Get/", "/s/a/b"])
    func `a path that names no method is UNIMPLEMENTED with a fallback too`(path: String) async throws {
        let notes = Notes()
        try await withSession([], fallback: fallback { _ in notes.add("ran") }) { session in
            let answer = await session.call(1, path)
            #expect(answer.status == 12)
            #expect(answer.isTrailersOnly)
        }
        #expect(notes.all == [])
    }

    @Test func `calls of several methods that are open at once keep them apart`() async throws {
        try await withSession(echoMethods, fallback: naming()) { session in
            let paths = ["/s/A", "/s/B", "/s/A", "/t/Update", "/s/C"]
            for (index, path) in paths.enumerated() {
                await session.receive(.headers(UInt32(1 + 2 * index), .request(path)))
            }
            for (index, path) in paths.enumerated() {
                let stream = UInt32(1 + 2 * index)
                await session.receive(.data(stream, framedText("\(stream)"), endStream: true))
                let answer = await session.answer(stream)
                let expected = path == "/t/Update" ? "\(stream)" : "\(path.dropFirst()) got \(stream)"
                #expect(answer.messages?.map(text) == [expected])
                #expect(answer.status == 0)
            }
        }
    }

    @Test func `whatever came before, each path leads where it would alone`() async throws {
        var random = RandomSource(seed: 8)
        let paths = ["/t/Sync", "/t/Update", "/s/A", "/s/B", "/s", "/t/Missing", "/"]
        try await withSession(echoMethods, fallback: naming()) { session in
            for index in 0..<500 {
                let path = paths[Int.random(in: 0..<paths.count, using: &random)]
                let answer = await session.call(UInt32(1 + 2 * index), path, "m")
                switch path {
                case "/t/Sync", "/t/Update": #expect(answer.messages?.map(text) == ["m"])
                case "/s", "/": #expect(answer.status == 12)
                default: #expect(answer.messages?.map(text) == ["\(path.dropFirst()) got m"])
                }
            }
        }
    }

    @Test func `the fallback's limits hold for its calls`() async throws {
        let big = fallback(maxBytes: 10) { call in
            _ = try await call.next()
            try await call.write([UInt8](repeating: 0, count: 11))
        }
        try await withSession(echoMethods, fallback: big) { session in
            let request = await session.call(1, "/s/A", "eleven bytes")
            #expect(request.status == 8)
            #expect(request.message?.contains("limit of 10 of s/A") == true)
            let response = await session.call(3, "/s/B", "ten bytes.")
            #expect(response.status == 8)
            #expect(response.message?.contains("limit of 10 of s/B") == true)
            #expect(await session.call(5, "/t/Sync", "eleven bytes").status == 0)
        }
    }

    @Test func `a handler of the fallback is cancelled with its call`() async throws {
        let notes = Notes()
        let waiting = fallback { call in
            notes.add("began \(call.method)")
            do {
                _ = try await call.next()
            } catch {
                notes.add("\(describe(error)) \(call.method) \(Task.isCancelled)")
            }
        }
        try await withSession([], fallback: waiting) { session in
            await session.receive(.headers(1, .request("/s/A")))
            await session.receive(.reset(1, code: ErrorCode.cancel))
            #expect(notes.all == ["began s/A", "CANCELLED s/A true"])
        }
    }

    @Test func `a context that outlives its call and its connection still names the method`() async throws {
        let kept = Mutexed<[CallContext]>([])
        try await withSession([], fallback: fallback { call in kept.update { $0.append(call) } }) { session in
            for index in 0..<20 { _ = await session.call(UInt32(1 + 2 * index), "/s/M\(index)") }
        }
        #expect(kept.value.map { "\($0.method)" } == (0..<20).map { "s/M\($0)" })
    }

    @Test func `nobody keeps the method of a path whose calls are over`() async throws {
        try await withSession(echoMethods, fallback: naming()) { session in
            var former = WeakMethod()
            for index in 0..<20 {
                _ = await session.call(UInt32(1 + 2 * index), "/s/M\(index)")
                #expect(former.method == nil)
                former = try await session.inSession { WeakMethod($0.hot.value.madeMethod) }
                #expect(former.method?.descriptor.method == "M\(index)")
            }
            _ = await session.call(99, "/t/Sync")
            #expect(former.method == nil)
        }
    }
}

private struct WeakMethod: Sendable {
    private(set) weak var method: ServedMethod?

    init(_ method: ServedMethod? = nil) { self.method = method }
}
