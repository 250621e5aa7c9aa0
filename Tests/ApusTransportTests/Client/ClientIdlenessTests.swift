import ApusBase
import ApusEventLoop
import TestSupport
import Testing

@testable import ApusTransport

/// A channel without calls lets its connection go, on a clock that the tests move.
@Suite(.timeLimit(.minutes(1))) struct ClientIdlenessTests {
    private func limits(_ timeout: Duration?) -> ClientLimits {
        var limits = ClientLimits()
        limits.idleTimeout = timeout
        return limits
    }

    private func expectGoodbye(_ connection: FrameConnection) async throws {
        try await connection.waitUntilClosed()
        #expect(connection.input.goAways.map(\.code) == [ErrorCode.noError])
    }

    @Test func `by default a connection is let go after half an hour without a call, and the next call makes one`()
        async throws
    {
        try await withChannel(clock: ManualClock()) { client in
            let connection = try await client.connect()
            await client.advance(by: .seconds(30 * 60 - 1))
            #expect(client.channel.connectivity == .ready)
            await client.advance(by: .seconds(1))
            try await expectGoodbye(connection)
            await client.becomes(.idle)
            let call = await client.beginUnary("again")
            let next = try await client.accept()
            try await next.waitForEnd(of: 1)
            try next.answer(1, "again")
            #expect(await call.value.text == "again")
        }
    }

    @Test func `the time counts from the end of the last call`() async throws {
        try await withChannel(limits(.seconds(100)), clock: ManualClock()) { client in
            let connection = try await client.connect()
            await client.advance(by: .seconds(90))
            let call = await client.beginUnary()
            try await connection.waitForEnd(of: 1)
            // Far beyond the time-out, with a call open.
            await client.advance(by: .seconds(1000))
            #expect(client.channel.connectivity == .ready)
            try connection.answer(1, "x")
            #expect(await call.value.text == "x")
            await client.settle()
            for _ in 0..<9 { await client.advance(by: .seconds(11)) }
            #expect(client.channel.connectivity == .ready)
            // The channel looks once more at the latest when the call's end is so long ago, and at most that late.
            await client.advance(by: .seconds(1))
            try await expectGoodbye(connection)
            await client.becomes(.idle)
        }
    }

    @Test func `a call now and then keeps the connection`() async throws {
        try await withChannel(limits(.seconds(100)), clock: ManualClock()) { client in
            let connection = try await client.connect()
            for round in 0..<10 {
                await client.advance(by: .seconds(60))
                let call = await client.beginUnary()
                let stream = UInt32(2 * round + 1)
                try await connection.waitForEnd(of: stream)
                try connection.answer(stream, "x")
                #expect(await call.value.text == "x")
            }
            #expect(client.channel.connectivity == .ready)
            #expect(connection.input.goAways.isEmpty)
        }
    }

    @Test func `without a time-out a connection stays`() async throws {
        try await withChannel(limits(nil), clock: ManualClock()) { client in
            _ = try await client.connect()
            for _ in 0..<10 { await client.advance(by: .seconds(100_000)) }
            #expect(client.channel.connectivity == .ready)
        }
    }

    @Test func `a channel is let go of while it watches for idleness`() async throws {
        // `withChannel` sees to it that nothing of the channel is left.
        try await withChannel(limits(.seconds(100)), clock: ManualClock()) { client in
            _ = try await client.connect()
            client.channel.release()
            await client.becomes(.closed)
            await client.advance(by: .seconds(200))
        }
    }
}
