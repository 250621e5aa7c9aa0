import ApusBase
import ApusEventLoop
import Logging
import TestSupport
import Testing

@testable import ApusTransport

/// A client asks a silent server whether it is still there, on a clock that the tests move (rules 23 and 24).
@Suite(.timeLimit(.minutes(1))) struct ClientKeepaliveTests {
    /// 10 s of silence, then 2 s for an answer.
    private func limits(withoutCalls: Bool = false, time: Duration = .seconds(10)) -> ClientLimits {
        var limits = ClientLimits()
        limits.keepalive = Keepalive.Times(time: time, timeout: .seconds(2), withoutCalls: withoutCalls)
        limits.idleTimeout = nil
        return limits
    }

    /// The PINGs that the client has sent of its own, after all that it does now.
    private func pings(_ connection: FrameConnection, _ client: ClientHarness) async -> Int {
        await client.settle()
        connection.readWhatIsThere()
        return connection.input.pings.count
    }

    private func tooManyPings(_ last: UInt32, text: String = "too_many_pings") -> Frame {
        // ENHANCE_YOUR_CALM (RFC 9113 §7).
        Frame(type: Frame.goAway, payload: bigEndian(last) + bigEndian(11) + Array(text.utf8))
    }

    @Test func `rule 23: without being asked for there is no PING`() async throws {
        var limits = ClientLimits()
        limits.idleTimeout = nil
        try await withChannel(limits, clock: ManualClock()) { client in
            let connection = try await client.connect()
            let call = await client.beginUnary()
            try await connection.waitForEnd(of: 1)
            for _ in 0..<48 { await client.advance(by: .seconds(3600)) }
            #expect(await pings(connection, client) == 0)
            try connection.answer(1, "late")
            #expect(await call.value.text == "late")
        }
    }

    @Test func `rule 23: a PING follows so long after the last byte and not the last PING`() async throws {
        try await withChannel(limits(), clock: ManualClock()) { client in
            let connection = try await client.connect()
            let call = await client.beginUnary()
            try await connection.waitForEnd(of: 1)
            await client.advance(by: .seconds(9))
            #expect(await pings(connection, client) == 0)
            // A byte at 9 s moves it to 19 s.
            try connection.send(.headers(1, .responseHead))
            try await connection.roundTrip()
            await client.advance(by: .seconds(9))
            #expect(await pings(connection, client) == 0)
            await client.advance(by: .seconds(1))
            #expect(await pings(connection, client) == 1)
            try connection.answerPings()
            try await connection.roundTrip()
            await client.advance(by: .seconds(9))
            #expect(await pings(connection, client) == 1)
            await client.advance(by: .seconds(1))
            #expect(await pings(connection, client) == 2)
            try connection.send(
                .data(1, framed(Array("kept".utf8))),
                .headers(1, .trailers(), endStream: true)
            )
            #expect(await call.value.text == "kept")
        }
    }

    @Test func `rule 23: a server that does not answer is lost, its calls are UNAVAILABLE and say why`() async throws {
        try await withChannel(limits(), clock: ManualClock()) { client in
            let connection = try await client.connect()
            let unary = await client.beginUnary()
            let streaming = client.startStreaming()
            try await streaming.write("a")
            try await connection.waitForHead(of: 3)
            await client.advance(by: .seconds(10))
            #expect(await pings(connection, client) == 1)
            await client.advance(by: .seconds(1))
            #expect(client.channel.connectivity == .ready)
            await client.advance(by: .seconds(1))
            for outcome in [await unary.value, await streaming.all()] {
                #expect(outcome.code == .unavailable)
                #expect(outcome.error?.origin == .local)
                #expect(outcome.message.contains("keepalive"), "\(outcome.message)")
                #expect(outcome.message.contains("2.0 seconds"), "\(outcome.message)")
            }
            try await connection.waitUntilClosed()
            // The next call finds a server.
            let next = await client.beginUnary("next")
            let new = try await client.accept()
            try await new.waitForEnd(of: 1)
            try new.answer(1, "there")
            #expect(await next.value.text == "there")
        }
    }

    @Test(arguments: [true, false])
    func `rule 23: any frame is an answer`(isAck: Bool) async throws {
        try await withChannel(limits(), clock: ManualClock()) { client in
            let connection = try await client.connect()
            let call = await client.beginUnary()
            try await connection.waitForEnd(of: 1)
            await client.advance(by: .seconds(10))
            for round in 1...3 {
                #expect(await pings(connection, client) == round)
                await client.advance(by: .seconds(1))
                if isAck { try connection.answerPings() } else { try connection.send(.windowUpdate(0, by: 1)) }
                try await connection.roundTrip()
                // Two seconds after the PING the client does not miss its answer, which came a second after it.
                await client.advance(by: .seconds(1))
                #expect(client.channel.connectivity == .ready)
                await client.advance(by: .seconds(8))
                #expect(await pings(connection, client) == round)
                await client.advance(by: .seconds(1))
            }
            try connection.answer(1, "x")
            #expect(await call.value.text == "x")
        }
    }

    @Test func `rule 23: no PING while there is no call, and one at once when a call follows long silence`()
        async throws
    {
        try await withChannel(limits(), clock: ManualClock()) { client in
            let connection = try await client.connect()
            for _ in 0..<10 { await client.advance(by: .seconds(60)) }
            #expect(await pings(connection, client) == 0)
            #expect(client.channel.connectivity == .ready)
            let call = await client.beginUnary()
            try await connection.waitForEnd(of: 1)
            #expect(await pings(connection, client) == 1)
            await client.advance(by: .seconds(2))
            #expect(await call.value.code == .unavailable)
        }
    }

    @Test func `rule 23: a call that follows a short silence asks nothing`() async throws {
        try await withChannel(limits(), clock: ManualClock()) { client in
            let connection = try await client.connect()
            for _ in 0..<10 { await client.advance(by: .seconds(60)) }
            try await connection.roundTrip()
            let call = await client.beginUnary()
            try await connection.waitForEnd(of: 1)
            #expect(await pings(connection, client) == 0)
            await client.advance(by: .seconds(10))
            #expect(await pings(connection, client) == 1)
            try connection.answer(1, "x")
            #expect(await call.value.text == "x")
        }
    }

    @Test func `rule 23: with PINGs asked for without calls an idle connection is found to be lost`() async throws {
        try await withChannel(limits(withoutCalls: true), clock: ManualClock()) { client in
            let connection = try await client.connect()
            await client.advance(by: .seconds(10))
            #expect(await pings(connection, client) == 1)
            try connection.answerPings()
            try await connection.roundTrip()
            await client.advance(by: .seconds(10))
            #expect(await pings(connection, client) == 2)
            await client.advance(by: .seconds(2))
            await client.becomes(.idle)
            try await connection.waitUntilClosed()
        }
    }

    @Test func `rule 23: a connection that drains is watched to its end`() async throws {
        try await withChannel(limits(), clock: ManualClock()) { client in
            let connection = try await client.connect()
            let call = await client.beginUnary()
            try await connection.waitForEnd(of: 1)
            try connection.send(Frame(type: Frame.goAway, payload: bigEndian(1) + bigEndian(0)))
            try await connection.roundTrip()
            await client.advance(by: .seconds(10))
            #expect(await pings(connection, client) == 1)
            await client.advance(by: .seconds(2))
            let outcome = await call.value
            #expect(outcome.code == .unavailable)
            #expect(outcome.message.contains("keepalive"), "\(outcome.message)")
        }
    }

    @Test(arguments: [true, false])
    func `rule 23: with keepalive on, TCP_USER_TIMEOUT is its timeout`(isOn: Bool) async throws {
        try await withChannel(isOn ? limits() : ClientLimits(), clock: ManualClock()) { client in
            _ = try await client.connect()
            let value = await client.run { [channel = client.channel] in
                (channel.state.value.connection?.descriptor).flatMap {
                    try? SystemCalls.option(.userTimeoutMilliseconds, of: $0)
                }
            }
            #expect(value == (isOn ? 2000 : 0))
        }
    }

    // MARK: rule 24

    @Test func `rule 24: too many pings double the time for new connections, and are logged`() async throws {
        let notes = Mutexed<[String]>([])
        let logger = Logger(label: "test") { _ in LogNotes(notes) }
        try await withChannel(limits(), clock: ManualClock(), logger: logger) { client in
            var connection = try await client.connect()
            for seconds in [10, 20, 40] {
                let call = await client.beginUnary()
                try await connection.waitForEnd(of: 1)
                await client.advance(by: .seconds(seconds - 1))
                #expect(await pings(connection, client) == 0)
                await client.advance(by: .seconds(1))
                #expect(await pings(connection, client) == 1)
                try connection.send(tooManyPings(1))
                connection.close()
                #expect(await call.value.code == .unavailable)
                await client.becomes(.idle)
                if seconds < 40 { connection = try await client.connect() }
            }
            let warnings = notes.value.filter { $0.contains("too frequent") }
            #expect(warnings.count == 3, "\(notes.value)")
            #expect(warnings.last?.contains("80.0 seconds") == true, "\(warnings)")
        }
    }

    @Test func `rule 24: another reason to calm down doubles nothing`() async throws {
        try await withChannel(limits(), clock: ManualClock()) { client in
            let first = try await client.connect()
            try first.send(tooManyPings(0, text: "too much of something else"))
            await client.becomes(.idle)
            let connection = try await client.connect()
            let call = await client.beginUnary()
            try await connection.waitForEnd(of: 1)
            await client.advance(by: .seconds(10))
            #expect(await pings(connection, client) == 1)
            try connection.answer(1, "x")
            #expect(await call.value.text == "x")
        }
    }

    @Test func `rule 24: the doubling ends at a day`() async throws {
        try await withChannel(limits(time: .seconds(80_000)), clock: ManualClock()) { client in
            for _ in 0..<3 {
                let connection = try await client.connect()
                try connection.send(tooManyPings(0))
                await client.becomes(.idle)
            }
            let time = await client.run { [channel = client.channel] in channel.keepalive?.time }
            #expect(time == .seconds(86_400))
        }
    }
}
