import ApusBase
import TestSupport
import Testing

@testable import ApusTransport

/// `rule 34`: what the peer may send, and when.
@Suite(.timeLimit(.minutes(1))) struct ServerSessionCreditTests {
    private static let window = 10_000

    private var limits: ServerLimits {
        var limits = ServerLimits()
        limits.http2.streamWindowBytes = Int32(Self.window)
        return limits
    }

    /// A request body on its way, which keeps to the windows that the server gives.
    private struct Upload {
        let stream: UInt32
        var rest: ArraySlice<UInt8>
        var sent = 0

        init(_ stream: UInt32, _ bytes: [UInt8]) {
            self.stream = stream
            rest = bytes[...]
        }

        var isDone: Bool { rest.isEmpty }

        /// Sends what the stream's window allows, at most so many bytes; `false` when that is nothing.
        mutating func proceed(_ session: SessionHarness, atMost limit: Int = 4000) async -> Bool {
            let room = await session.answer(stream).credit + ServerSessionCreditTests.window - sent
            let piece = rest.prefix(min(room, limit))
            guard !piece.isEmpty else { return false }
            rest = rest.dropFirst(piece.count)
            sent += piece.count
            await session.receive(.data(stream, Array(piece), endStream: rest.isEmpty))
            return true
        }

        /// Sends until the window is used up or everything is sent.
        mutating func proceedAsFarAsPossible(_ session: SessionHarness) async {
            while await proceed(session) {}
        }
    }

    @Test func `a stream's window is given back only as its messages are taken`() async throws {
        let gate = Mutexed(0)
        let take = method(
            "Take",
            .clientStreaming { call in
                var count = 0
                while true {
                    while gate.value <= count { await Task.yield() }
                    guard try await call.next() != nil else { return Array("\(count)".utf8) }
                    count += 1
                }
            }
        )
        try await withSession([take], limits: limits) { session in
            await session.receive(.headers(1, .request("/t/Take")))
            let message = framed([UInt8](repeating: 1, count: 1995))
            var upload = Upload(1, (0..<20).flatMap { _ in message })
            await upload.proceedAsFarAsPossible(session)
            #expect(upload.sent == Self.window)
            #expect(await session.answer(1).credit == 0)
            // Twenty messages of 2000 bytes: the credit follows the taking, and never runs ahead of it.
            for taken in 1...20 {
                gate.update { $0 = taken }
                await eventually("message \(taken) being taken") {
                    (try? await session.inSession { $0.hot.value.bufferedBytes }) == upload.sent - taken * 2000
                }
                #expect(await session.answer(1).credit <= taken * 2000)
                await upload.proceedAsFarAsPossible(session)
            }
            let isDone = upload.isDone
            #expect(isDone)
            gate.update { $0 = 1000 }
            await session.wait(for: "the answer") { $0.answers[1]?.isOver == true }
            #expect(await session.answer(1).text == "20")
        }
    }

    @Test func `the connection's window is given back on receipt, whoever reads`() async throws {
        let go = Signal()
        let hold = method(
            "Hold",
            .clientStreaming { _ in
                await go.wait(); return []
            }
        )
        var limits = limits
        limits.http2.connectionWindowBytes = 65_535
        try await withSession([hold], limits: limits) { session in
            let message = framed([UInt8](repeating: 1, count: 9_000))
            for index in 0..<50 {
                let stream = UInt32(index * 2 + 1)
                await session.receive(.headers(stream, .request("/t/Hold")), .data(stream, message))
            }
            // 450 KB through a window of 64 KB, and no stream's window moved.
            #expect(await session.look { $0.connectionCredit } > 50 * 9000 - 65_535)
            #expect(await session.look { output in output.answers.values.allSatisfy { $0.credit == 0 } })
            #expect(await session.look { $0.goAways.isEmpty })
            go.send()
        }
    }

    @Test(arguments: ["Sync", "Unary", "Collect"])
    func `a message larger than the window gets through where it is waited for`(name: String) async throws {
        let methods = [
            method("Sync", .synchronousUnary { message, _ in Array("\(message.count)".utf8) }),
            method("Unary", .unary { message, _ in Array("\(message.count)".utf8) }),
            method("Collect", .clientStreaming { call in Array("\(try await call.next()?.count ?? -1)".utf8) }),
        ]
        try await withSession(methods, limits: limits) { session in
            for (stream, size) in [(UInt32(1), 9_995), (3, 9_996), (5, 10_000), (7, 200_000)] {
                await session.receive(.headers(stream, .request("/t/\(name)")))
                var upload = Upload(stream, framed([UInt8](repeating: 1, count: size)))
                await upload.proceedAsFarAsPossible(session)
                let isDone = upload.isDone
                #expect(isDone, "\(size) bytes: stuck after \(upload.sent)")
                #expect(await session.answer(stream).text == "\(size)")
            }
        }
    }

    @Test func `a large message stands still while nobody reads, and goes on when somebody does`() async throws {
        let go = Signal()
        let late = method(
            "Late",
            .clientStreaming { call in
                await go.wait()
                return Array("\(try await call.next()?.count ?? -1)".utf8)
            }
        )
        try await withSession([late], limits: limits) { session in
            await session.receive(.headers(1, .request("/t/Late")))
            var upload = Upload(1, framed([UInt8](repeating: 1, count: 50_000)))
            await upload.proceedAsFarAsPossible(session)
            #expect(upload.sent == Self.window)
            go.send()
            await session.wait(for: "credit") { ($0.answers[1]?.credit ?? 0) > 0 }
            await upload.proceedAsFarAsPossible(session)
            let isDone = upload.isDone
            #expect(isDone)
            await session.wait(for: "the answer") { $0.answers[1]?.isOver == true }
            #expect(await session.answer(1).text == "50000")
        }
    }

    @Test(arguments: [HandlerExecutor.eventLoop, .globalConcurrent])
    func `large and small messages in turn get through`(executor: HandlerExecutor) async throws {
        let sum = method(
            "Sum",
            .clientStreaming { call in
                var sizes: [Int] = []
                while let message = try await call.next() { sizes.append(message.count) }
                return Array("\(sizes)".utf8)
            },
            on: executor
        )
        let sizes = [1, 30_000, 0, 0, 9_995, 9_996, 1, 25_000, 3000, 3000, 3000, 3000, 40_000]
        try await withSession([sum], limits: limits) { session in
            await session.receive(.headers(1, .request("/t/Sum")))
            var upload = Upload(1, sizes.flatMap { framed([UInt8](repeating: 1, count: $0)) })
            for _ in 0..<20_000 where !upload.isDone {
                if await !upload.proceed(session, atMost: 1234) { try await Task.sleep(for: .milliseconds(1)) }
            }
            let isDone = upload.isDone
            #expect(isDone, "stuck after \(upload.sent)")
            await session.wait(for: "the answer") { $0.answers[1]?.isOver == true }
            #expect(await session.answer(1).text == "\(sizes)")
        }
    }

    @Test func `padding is given back`() async throws {
        try await withSession(echoMethods, limits: limits) { session in
            await session.receive(.headers(1, .request("/t/Collect")))
            for _ in 0..<200 {
                let payload = [UInt8(200)] + framed([]) + [UInt8](repeating: 0, count: 200)
                await session.receive(Frame(type: Frame.data, flags: Frame.paddedFlag, stream: 1, payload: payload))
            }
            #expect(await session.answer(1).credit > 200 * 206 - Self.window)
        }
    }

    @Test func `over the connection's buffer limit one stream at a time goes on, and all finish`() async throws {
        var limits = limits
        limits.connectionBufferBytes = 25_000
        let collect = method("Collect", .clientStreaming { Array("\(try await $0.next()?.count ?? -1)".utf8) })
        let unary = method("Unary", .unary { message, _ in Array("\(message.count)".utf8) })
        try await withSession([collect, unary], limits: limits) { session in
            var uploads = (0..<6).map { Upload(UInt32($0 * 2 + 1), framed([UInt8](repeating: 1, count: 100_000))) }
            for upload in uploads {
                let name = upload.stream % 4 == 1 ? "Unary" : "Collect"
                await session.receive(.headers(upload.stream, .request("/t/\(name)")))
            }
            var mostBuffered = 0
            var isMoving = true
            while isMoving {
                isMoving = false
                for index in uploads.indices where !uploads[index].isDone {
                    if await uploads[index].proceed(session, atMost: 1000) { isMoving = true }
                }
                mostBuffered = max(mostBuffered, try await session.inSession { $0.hot.value.bufferedBytes })
            }
            let stuck = uploads.filter { !$0.isDone }.map { "stream \($0.stream) after \($0.sent)" }
            #expect(stuck == [])
            for upload in uploads { #expect(await session.answer(upload.stream).text == "100000") }
            // The one in line, and a window for each of the others.
            #expect(mostBuffered < limits.connectionBufferBytes + 100_000 + 6 * 2 * Self.window)
            let left = try await session.inSession { $0.hot.value.bufferedBytes }
            #expect(left == 0)
        }
    }

    @Test func `a stream that is reset makes room for those behind it`() async throws {
        var limits = limits
        limits.connectionBufferBytes = 5000
        try await withSession(echoMethods, limits: limits) { session in
            var first = Upload(1, framed([UInt8](repeating: 1, count: 60_000)))
            var second = Upload(3, framed([UInt8](repeating: 1, count: 60_000)))
            await session.receive(.headers(1, .request("/t/Unary")), .headers(3, .request("/t/Unary")))
            for _ in 0..<20 { _ = await first.proceed(session, atMost: 1000) }
            await second.proceedAsFarAsPossible(session)
            let wasDone = second.isDone
            #expect(!wasDone)
            await session.receive(.reset(1, code: ErrorCode.cancel))
            await second.proceedAsFarAsPossible(session)
            let isDone = second.isDone
            #expect(isDone)
            #expect(await session.answer(3).status == 0)
        }
    }
}
