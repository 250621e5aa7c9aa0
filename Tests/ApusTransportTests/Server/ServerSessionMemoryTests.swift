import ApusBase
import TestSupport
import Testing

@testable import ApusTransport

/// What a connection and a server may hold.
@Suite(.timeLimit(.minutes(2))) struct ServerSessionMemoryTests {
    private static let kib = 1024

    /// `t/Large` and `t/LargeAtOnce` answer with as many KiB as the request says.
    private let large = [
        method("Large", .unary { message, _ in [UInt8](repeating: 7, count: kibibytes(message)) }),
        method("LargeAtOnce", .synchronousUnary { message, _ in [UInt8](repeating: 7, count: kibibytes(message)) }),
    ]

    private static func kibibytes(_ message: [UInt8]) -> Int { (Int(text(message)) ?? 0) * kib }

    private func ask(_ stream: UInt32, _ path: String, _ text: String) -> [Frame] {
        [.headers(stream, .request(path)), .data(stream, framedText(text), endStream: true)]
    }

    @Test(arguments: ["/t/Large", "/t/LargeAtOnce"])
    func `calls wait to start while the client does not take its answers`(path: String) async throws {
        var limits = ServerLimits()
        limits.connectionSendBufferBytes = 200 * 1024
        try await withSession(large + echoMethods, limits: limits, opening: [.settings([4: 0])]) { session in
            // Fifty answers of 64 KiB are asked for, and none of it is let out.
            await session.receive((0..<50).flatMap { ask(UInt32($0 * 2 + 1), path, "64") })
            await session.loop.settle()
            let queued = try await session.inSession { $0.hot.value.queuedBytes }
            #expect(queued > 200 * 1024 && queued <= 200 * 1024 + 65 * 1024)
            // Credit for all, little by little: every call is answered, with the memory of a few.
            await session.receive(.windowUpdate(0, by: 0x7000_0000))
            for index in 0..<50 { await session.receive(.windowUpdate(UInt32(index * 2 + 1), by: 100_000)) }
            await session.wait(for: "all answers") { output in
                (0..<50).allSatisfy { output.answers[UInt32($0 * 2 + 1)]?.isOver == true }
            }
            #expect(await session.look { output in output.answers.values.allSatisfy { $0.status == 0 } })
            let left = try await session.inSession { $0.hot.value.queuedBytes }
            #expect(left == 0)
        }
    }

    @Test func `a call that waits to start can be cancelled, and its deadline passes`() async throws {
        var limits = ServerLimits()
        limits.connectionSendBufferBytes = 100 * 1024
        limits.maxHandlers = 1000
        let count = SharedCount()
        try await withSession(large, limits: limits, handlers: count, opening: [.settings([4: 0])]) { session in
            await session.receive(ask(1, "/t/Large", "200"))
            await eventually("the answer being queued") {
                (try? await session.inSession { $0.hot.value.queuedBytes > 200 * 1024 }) == true
            }
            await session.receive(ask(3, "/t/Large", "1") + ask(5, "/t/LargeAtOnce", "1"))
            await session.receive(
                .headers(7, .request("/t/Large", ["grpc-timeout": "1m"])),
                .data(7, framedText("1"), endStream: true)
            )
            await session.receive(.reset(3, code: ErrorCode.cancel), .reset(5, code: ErrorCode.cancel))
            await session.wait(for: "the deadline") { $0.answers[7]?.isOver == true }
            #expect(await session.answer(7).status == 4)
            await session.receive(.windowUpdate(0, by: 0x7000_0000), .windowUpdate(1, by: 1 << 20))
            await session.wait(for: "the answer") { $0.answers[1]?.isOver == true }
            await eventually("every handler's end") { count.value == 0 }
            let running = try await session.inSession { $0.hot.value.runningHandlers }
            #expect(running == 0)
            let open = try await session.inSession { $0.openStreams }
            #expect(open == 0)
        }
    }

    @Test func `who is given up while its calls wait leaves nothing behind`() async throws {
        var limits = ServerLimits()
        limits.connectionSendBufferBytes = 100 * 1024
        let count = SharedCount()
        limits.maxHandlers = 1000
        try await withSession(large, limits: limits, handlers: count, opening: [.settings([4: 0])]) { session in
            await session.receive((0..<90).flatMap { ask(UInt32($0 * 2 + 1), "/t/Large", "60") })
            // Given up and made anew, over and over: what waits is not collected.
            for index in 90..<1000 {
                let stream = UInt32(index * 2 + 1)
                await session.receive(ask(stream, "/t/LargeAtOnce", "60") + [.reset(stream, code: ErrorCode.cancel)])
            }
            let waiting = try await session.inSession { session in
                var count = 0
                var next = session.hot.value.firstReady
                while let stream = next {
                    count += 1
                    next = stream.value.next
                }
                return count
            }
            #expect(waiting < 100)
            await session.tearDown()
            await eventually("every handler's end") { count.value == 0 }
        }
    }

    @Test func `what all connections hold is known to the server, and forgotten with them`() async throws {
        let go = Signal()
        let hold = method(
            "Hold",
            .clientStreaming { call in
                await go.wait()
                while try await call.next() != nil {}
                return []
            }
        )
        try await withSession([hold] + large, opening: [.settings([4: 0])]) { session in
            await session.receive(.headers(1, .request("/t/Hold")))
            for _ in 0..<10 { await session.receive(.data(1, framed([UInt8](repeating: 1, count: 16_000)))) }
            let held = session.shard.heldBytesInServer
            #expect(held.value >= 128 * 1024 && held.value <= 170 * 1024)
            await session.receive(ask(3, "/t/Large", "512"))
            await eventually("the answer being queued") { held.value > 512 * 1024 }
            go.send()
            await session.receive(.windowUpdate(1, by: 100), .data(1, [], endStream: true))
            await session.wait(for: "the answer") { $0.answers[1]?.isOver == true }
            #expect(held.value <= 512 * 1024)
            await session.tearDown()
            #expect(held.value == 0)
        }
    }

    @Test func `a server that holds all it may ends requests of those that hold much, and serves others`()
        async throws
    {
        let hold = method(
            "Hold",
            .clientStreaming { _ in
                try await Task.sleep(for: .seconds(3600))
                return []
            }
        )
        try await withSession([hold] + echoMethods, heldBytes: HeldBytes(limit: 300 * 1024)) { session in
            // Someone else holds most of it.
            session.shard.heldBytesInServer.add(299 * 1024)
            await session.receive(.headers(1, .request("/t/Hold")))
            for _ in 0..<5 { await session.receive(.data(1, framed([UInt8](repeating: 1, count: 16_000)))) }
            #expect(await session.answer(1).status == 8)
            #expect(await session.answer(1).message?.contains("holds as many bytes") == true)
            // Small calls go on, here as elsewhere.
            #expect(await session.call(3, "/t/Unary").status == 0)
            #expect(session.shard.heldBytesInServer.value == 299 * 1024)
        }
    }
}
