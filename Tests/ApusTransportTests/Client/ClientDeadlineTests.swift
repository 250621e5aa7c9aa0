import ApusBase
import ApusEventLoop
import TestSupport
import Testing

@testable import ApusTransport

/// Deadlines, on a clock that the tests move.
@Suite(.timeLimit(.minutes(1))) struct ClientDeadlineTests {
    private func expectDeadline(_ outcome: ClientHarness.Outcome, _ words: String...) {
        #expect(outcome.code == .deadlineExceeded)
        #expect(outcome.error?.origin == .local)
        #expect(outcome.message.hasPrefix("the deadline "), "\(outcome.message)")
        for word in words { #expect(outcome.message.contains(word), "\(outcome.message)") }
    }

    @Test(arguments: [Duration.zero, .seconds(-1), .nanoseconds(Int64.min)])
    func `a timeout of nothing ends the call before it begins`(timeout: Duration) async throws {
        try await withChannel(clock: ManualClock()) { client in
            let words = "had passed when the call was made"
            expectDeadline(await client.unary("x", .timeout(timeout)), words)
            expectDeadline(await client.startStreaming(.timeout(timeout)).all(), words)
            await client.settle()
            #expect(client.channel.connectivity == .idle)
            #expect(!client.server.hasWaitingClient)
        }
    }

    @Test func `while the host is being looked up or connected to, the error says so`() async throws {
        try await withChannel(clock: ManualClock()) { client in
            let call = await client.beginUnary("x", .timeout(.seconds(2)))
            let connection = try await client.accept(opening: [])
            try await connection.wait(for: "the client's SETTINGS") { $0.settings != nil }
            await client.settle()
            await client.advance(by: .seconds(2))
            expectDeadline(await call.value, "127.0.0.1:\(client.server.port)", "SETTINGS")
            // Nobody waits for the connection any more; it is made all the same.
            try connection.send(.settings())
            await client.becomes(.ready)
            try await connection.roundTrip()
            #expect(connection.input.streams == [])
        }
    }

    @Test func `in back-off, with wait for ready, the error names the failure`() async throws {
        let port = try FrameServer.refusingPort()
        var limits = ClientLimits()
        limits.backoff.initialDelay = .seconds(1000)
        limits.backoff.maxDelay = .seconds(1000)
        try await withChannel(limits, clock: ManualClock(), target: "127.0.0.1:\(port)") { client in
            #expect(await client.unary().code == .unavailable)
            let call = await client.beginUnary("x", CallOptions(timeout: .seconds(5), waitForReady: true))
            await client.advance(by: .seconds(5))
            expectDeadline(await call.value, "Connection refused")
        }
    }

    @Test func `while the server allows no more calls the error says so`() async throws {
        try await withChannel(clock: ManualClock()) { client in
            let connection = try await client.connect(opening: [.settings([3: 1])])
            let open = await client.beginUnary()
            let waiting = await client.beginUnary("x", .timeout(.seconds(5)))
            try await connection.waitForEnd(of: 1)
            await client.advance(by: .seconds(5))
            expectDeadline(await waiting.value, "while the call waited for")
            try connection.answer(1, "x")
            #expect(await open.value.text == "x")
            try await connection.roundTrip()
            #expect(connection.input.streams == [1])
        }
    }

    @Test func `rule 22: an open call is reset with CANCEL, and no sooner than its deadline`() async throws {
        try await withChannel(clock: ManualClock()) { client in
            let connection = try await client.connect()
            let call = await client.beginUnary("x", .timeout(.seconds(5)))
            try await connection.waitForEnd(of: 1)
            await client.advance(by: .seconds(5) - .milliseconds(5))
            try await connection.roundTrip()
            #expect(connection.request(1).reset == nil)
            await client.advance(by: .milliseconds(10))
            expectDeadline(await call.value)
            #expect(try await connection.waitForReset(of: 1) == ErrorCode.cancel)
        }
    }

    @Test func `rule 22: a stream is cut off in every place where its caller may wait`() async throws {
        try await withChannel(clock: ManualClock()) { client in
            let connection = try await client.connect(opening: [.settings([4: 10])])
            let call = client.startStreaming(.timeout(.seconds(5)))
            try await connection.waitForHead(of: 1)
            let reader = Task { await call.all() }
            let writer = Task { () -> StatusCode in
                do throws(RPCError) {
                    for _ in 0..<1000 { try await call.write([UInt8](repeating: 1, count: 1000)) }
                    return .ok
                } catch {
                    return error.code
                }
            }
            let head = Task { () -> StatusCode in
                do throws(RPCError) { _ = try await call.initialMetadata(); return .ok } catch { return error.code }
            }
            let trailers = Task { () -> StatusCode in
                do throws(RPCError) { _ = try await call.trailers(); return .ok } catch { return error.code }
            }
            try await connection.wait(for: "the window's worth") { ($0.requests[1]?.body.count ?? 0) == 10 }
            await client.advance(by: .seconds(5))
            expectDeadline(await reader.value)
            #expect(await writer.value == .deadlineExceeded)
            #expect(await head.value == .deadlineExceeded)
            #expect(await trailers.value == .deadlineExceeded)
            #expect(try await connection.waitForReset(of: 1) == ErrorCode.cancel)
        }
    }

    @Test func `rule 22: after the deadline whatever the server says is DEADLINE_EXCEEDED`() async throws {
        // The reset that the server sends when its own timer fires, and an answer that was late by a little.
        for frames in [
            [Frame.reset(1, code: ErrorCode.cancel)],
            [.headers(1, .responseHead), .data(1, framed([1])), .headers(1, .trailers(), endStream: true)],
            [.headers(1, .responseHead + .trailers(5, "no"), endStream: true)],
        ] {
            let clock = ManualClock()
            try await withChannel(clock: clock) { client in
                let connection = try await client.connect()
                let call = await client.beginUnary("x", .timeout(.seconds(5)))
                try await connection.waitForEnd(of: 1)
                // The loop is busy while the deadline passes and the answer arrives; it reads before its timers fire.
                let isBusy = Signal()
                let mayGoOn = Signal()
                client.loop.execute {
                    isBusy.send()
                    _ = mayGoOn.block()
                }
                await isBusy.wait()
                try connection.send(frames)
                clock.advance(by: .seconds(5))
                mayGoOn.send()
                expectDeadline(await call.value)
            }
        }
    }

    @Test func `a stream that the server cancels before the deadline is CANCELLED`() async throws {
        try await withChannel(clock: ManualClock()) { client in
            let connection = try await client.connect()
            let call = await client.beginUnary("x", .timeout(.seconds(5)))
            try await connection.waitForEnd(of: 1)
            try connection.send(.reset(1, code: ErrorCode.cancel))
            #expect(await call.value.code == .cancelled)
        }
    }

    @Test func `the deadline of a call that ended touches no call after it`() async throws {
        try await withChannel(clock: ManualClock()) { client in
            let connection = try await client.connect()
            let first = await client.beginUnary("x", .timeout(.seconds(5)))
            try await connection.waitForEnd(of: 1)
            try connection.answer(1, "1")
            #expect(await first.value.text == "1")
            let second = await client.beginUnary("x", .timeout(.seconds(50)))
            try await connection.waitForEnd(of: 3)
            let third = await client.beginUnary()
            try await connection.waitForEnd(of: 5)
            #expect(connection.request(5).head?["grpc-timeout"] == nil)
            await client.advance(by: .seconds(10))
            try await connection.roundTrip()
            #expect(connection.request(3).reset == nil)
            await client.advance(by: .seconds(40))
            expectDeadline(await second.value)
            await client.advance(by: .seconds(1000))
            try connection.answer(5, "3")
            #expect(await third.value.text == "3")
        }
    }

    @Test func `a transparent retry has what is left of the time, and the deadline holds for it`() async throws {
        try await withChannel(clock: ManualClock()) { client in
            let connection = try await client.connect()
            let call = await client.beginUnary("x", .timeout(.seconds(10)))
            try await connection.waitForEnd(of: 1)
            await client.advance(by: .seconds(4))
            try connection.send(.reset(1, code: ErrorCode.refusedStream))
            let text = try #require(try await connection.waitForEnd(of: 3).head?["grpc-timeout"])
            #expect(text.hasPrefix("599") && text.hasSuffix("u") || text == "6000000u", "\(text)")
            await client.advance(by: .seconds(6))
            expectDeadline(await call.value)
            #expect(try await connection.waitForReset(of: 3) == ErrorCode.cancel)
        }
    }
}
