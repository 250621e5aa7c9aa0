import ApusBase
import ApusEventLoop
import TestSupport
import Testing

@testable import ApusTransport

/// A call that is cancelled, by whomever and whenever, ends with CANCELLED, and the server hears of it.
@Suite(.timeLimit(.minutes(1))) struct ClientCancellationTests {
    private func expectCancelled(_ outcome: ClientHarness.Outcome) {
        #expect(outcome.code == .cancelled)
        #expect(outcome.error?.origin == .local)
    }

    // MARK: By the task

    @Test(arguments: [false, true])
    func `a task that is cancelled already never hangs, and sends nothing`(isOnLoop: Bool) async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            for _ in 0..<50 {
                let mayBegin = Signal()
                let executor: (any TaskExecutor)? = isOnLoop ? client.loop : nil
                let task = Task(executorPreference: executor) {
                    // Returns when the task is cancelled.
                    await mayBegin.wait()
                    return [
                        await client.unary(), await client.unaryWithMetadata(), await client.startStreaming().all(),
                    ]
                }
                task.cancel()
                for outcome in await task.value { expectCancelled(outcome) }
            }
            try await connection.roundTrip()
            for request in connection.input.requests.values { #expect(request.reset == ErrorCode.cancel) }
        }
    }

    @Test func `while the channel connects`() async throws {
        try await withChannel { client in
            let unary = client.startUnary()
            let streaming = client.startStreaming()
            let reader = Task { await streaming.all() }
            let connection = try await client.accept(opening: [])
            unary.cancel()
            reader.cancel()
            expectCancelled(await unary.value)
            expectCancelled(await reader.value)
            try connection.send(.settings())
            await client.becomes(.ready)
            try await connection.roundTrip()
            #expect(connection.input.streams == [])
        }
    }

    @Test func `rule 22: while it is open its stream is reset with CANCEL`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            let unary = client.startUnary()
            try await connection.waitForEnd(of: 1)
            unary.cancel()
            expectCancelled(await unary.value)
            #expect(try await connection.waitForReset(of: 1) == ErrorCode.cancel)

            let streaming = client.startStreaming()
            let reader = Task { await streaming.all() }
            try await connection.waitForHead(of: 3)
            try connection.send(.headers(3, .responseHead), .data(3, framed([65])))
            reader.cancel()
            expectCancelled(await reader.value)
            #expect(try await connection.waitForReset(of: 3) == ErrorCode.cancel)
            // What comes after is nobody's, and does no harm.
            try connection.send(.data(3, framed([66])), .headers(3, .trailers(), endStream: true))
            try await connection.roundTrip()
            let next = client.startUnary()
            try await connection.waitForEnd(of: 5)
            try connection.answer(5, "x")
            #expect(await next.value.text == "x")
        }
    }

    @Test func `a task that waits to write cancels the call, and a reader hears of it`() async throws {
        try await withChannel { client in
            let connection = try await client.connect(opening: [.settings([4: 1])])
            let call = client.startStreaming()
            let reader = Task { await call.all() }
            let writer = Task { () -> StatusCode in
                do throws(RPCError) {
                    while true { try await call.write([UInt8](repeating: 1, count: 10_000)) }
                } catch {
                    return error.code
                }
            }
            try await connection.wait(for: "the first byte") { ($0.requests[1]?.body.count ?? 0) == 1 }
            writer.cancel()
            #expect(await writer.value == .cancelled)
            expectCancelled(await reader.value)
            #expect(try await connection.waitForReset(of: 1) == ErrorCode.cancel)
        }
    }

    // MARK: By hand

    @Test func `by hand, from another thread, on the loop, and repeatedly`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            for (index, place) in ["here", "thread", "loop"].enumerated() {
                let stream = UInt32(2 * index + 1)
                let call = client.startStreaming()
                try await connection.waitForHead(of: stream)
                switch place {
                case "thread": try await onThread { call.cancel() }
                case "loop": await client.run { call.cancel() }
                default: call.cancel()
                }
                call.cancel()
                expectCancelled(await call.all())
                call.cancel()
                #expect(try await connection.waitForReset(of: stream) == ErrorCode.cancel, "\(place)")
                let error = await #expect(throws: RPCError.self) { try await call.write("late") }
                #expect(error?.code == .cancelled)
            }
            try await connection.roundTrip()
            #expect(connection.input.frames.filter { $0.type == Frame.reset }.count == 3)
        }
    }

    @Test func `what came before is dropped when the caller cancels, and given out when the server fails`() async throws
    {
        try await withChannel { client in
            let connection = try await client.connect()
            let cancelled = client.startStreaming()
            try await connection.waitForHead(of: 1)
            try connection.send(.headers(1, .responseHead), .data(1, framed([65])))
            try await connection.roundTrip()
            cancelled.cancel()
            await client.settle()
            let outcome = await cancelled.all()
            #expect(outcome.text == "")
            expectCancelled(outcome)

            let failed = client.startStreaming()
            try await connection.waitForHead(of: 3)
            try connection.send(
                .headers(3, .responseHead),
                .data(3, framed([65]) + framed([66])),
                .headers(3, .trailers(9, "no"), endStream: true)
            )
            try await connection.roundTrip()
            let end = await failed.all()
            #expect(end.text == "A,B")
            #expect(end.code == .failedPrecondition)
        }
    }

    // MARK: By letting go

    @Test func `to let go of a call cancels it`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            do {
                let call = client.startStreaming()
                try await call.write("x")
                try await connection.wait(for: "the message") { $0.requests[1]?.texts == ["x"] }
                withExtendedLifetime(call) {}
            }
            #expect(try await connection.waitForReset(of: 1) == ErrorCode.cancel)
        }
    }

    @Test func `to let go of a call that has ended says nothing`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            do {
                let call = client.startStreaming()
                call.finishWriting()
                try await connection.waitForEnd(of: 1)
                try connection.answer(1, "x")
                #expect(await call.all().text == "x")
            }
            try await connection.roundTrip()
            #expect(connection.request(1).reset == nil)
        }
    }

    @Test func `a call that was let go of before it began is not sent, or reset`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            for _ in 0..<100 { _ = client.startStreaming() }
            await client.settle()
            try await connection.roundTrip()
            for request in connection.input.requests.values where request.head != nil {
                #expect(request.reset == ErrorCode.cancel)
            }
        }
    }

    // MARK: A cancel that the loop has yet to hear of

    @Test func `what is half-closed after it was cancelled does not look whole to the server`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            let call = client.startStreaming()
            let other = client.startStreaming()
            try await connection.wait(for: "both calls") { $0.streams.count == 2 }
            try await onThread {
                // The loop takes two things at once: one that holds it up, and the look at what threads have to say.
                let queued = Signal()
                let entered = Signal()
                let said = Signal()
                client.loop.execute { _ = queued.block() }
                client.loop.execute {
                    entered.send()
                    _ = said.block()
                }
                _ = try other.writeNow(Array("x".utf8))
                queued.send()
                _ = entered.block()
                // The half-close is seen by that look, and the cancel in the next turn.
                call.cancel()
                call.finishWriting()
                said.send()
            }
            try await connection.wait(for: "the reset") { $0.requests[1]?.reset != nil }
            #expect(connection.request(1).reset == ErrorCode.cancel)
            #expect(!connection.request(1).hasEnded)
        }
    }

    // MARK: A late cancel

    @Test func `a cancel that comes late does not hit the call that uses the object next`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            let server = Task { try await onThread { connection.echoBlocking() } }
            var random = RandomSource(seed: 7)
            var ends: [StatusCode: Int] = [:]
            for index in 0..<300 {
                // The cancel races with the answer; the call after it must not notice.
                let first = client.startUnary("a\(index)")
                for _ in 0..<Int.random(in: 0...40, using: &random) { await Task.yield() }
                first.cancel()
                let outcome = await first.value
                ends[outcome.code, default: 0] += 1
                if outcome.code == .ok { #expect(outcome.text == "a\(index)") } else { expectCancelled(outcome) }
                #expect(await client.unary("b\(index)").text == "b\(index)")
            }
            #expect(Set(ends.keys).isSubset(of: [.ok, .cancelled]))
            client.channel.close()
            try await server.value
        }
    }
}
