import ApusBase
import ApusEventLoop
import TestSupport
import Testing

@testable import ApusTransport

/// `rule 28`: how a channel comes to have a connection, and what calls hear when it does not.
@Suite(.timeLimit(.minutes(1))) struct ClientConnectingTests {
    private var exactLimits: ClientLimits {
        var limits = ClientLimits()
        limits.backoff.jitter = 0
        return limits
    }

    @Test func `a channel is idle until it is used, and does nothing twice`() async throws {
        try await withChannel { client in
            #expect(client.channel.connectivity == .idle)
            await client.settle()
            #expect(!client.server.hasWaitingClient)
            client.channel.connect()
            client.channel.connect()
            let connection = try await client.accept()
            client.channel.connect()
            await client.becomes(.ready)
            client.channel.connect()
            try await connection.roundTrip()
            #expect(!client.server.hasWaitingClient)
        }
    }

    @Test func `it is ready with the server's SETTINGS, and not before`() async throws {
        try await withChannel { client in
            let call = client.startUnary()
            let connection = try await client.accept(opening: [])
            try await connection.wait(for: "the client's SETTINGS") { $0.settings != nil }
            await client.settle()
            #expect(client.channel.connectivity == .connecting)
            #expect(connection.input.streams == [])
            try connection.send(.settings())
            try await connection.waitForEnd(of: 1)
            #expect(client.channel.connectivity == .ready)
            try connection.answer(1, "x")
            #expect(await call.value.text == "x")
        }
    }

    @Test func `a refused connection ends the calls that wait, and the error names address and cause`() async throws {
        let port = try FrameServer.refusingPort()
        try await withChannel(clock: ManualClock(), target: "127.0.0.1:\(port)") { client in
            let result = await client.unary()
            #expect(result.code == .unavailable)
            #expect(result.message.contains("127.0.0.1:\(port)"))
            #expect(result.message.contains("Connection refused"), "\(result.message)")
            #expect(result.error?.origin == .local)
            #expect(client.channel.connectivity == .transientFailure)
        }
    }

    @Test func `in back-off calls fail at once, and those that wait for ready wait`() async throws {
        let clock = ManualClock()
        let port = try FrameServer.refusingPort()
        try await withChannel(exactLimits, clock: clock, target: "127.0.0.1:\(port)") { client in
            let first = await client.unary()
            let waiting = await client.beginUnary("x", CallOptions(waitForReady: true))
            #expect(client.channel.connectivity == .transientFailure)
            let second = await client.unary()
            #expect(second.code == .unavailable)
            #expect(second.message == first.message)
            #expect(await client.startStreaming().all().message == first.message)
            waiting.cancel()
            #expect(await waiting.value.code == .cancelled)
        }
    }

    @Test func `attempts follow each other after the delays of the back-off`() async throws {
        let clock = ManualClock()
        let port = try FrameServer.refusingPort()
        try await withChannel(exactLimits, clock: clock, target: "127.0.0.1:\(port)") { client in
            // It keeps the channel trying.
            let waiting = await client.beginUnary("x", CallOptions(waitForReady: true))
            for delay in [1.0, 1.6, 2.56, 4.096] {
                await client.becomes(.transientFailure)
                await client.advance(by: .seconds(delay) - .milliseconds(5))
                #expect(client.channel.connectivity == .transientFailure, "before \(delay) s")
                // It connects, is refused, and waits again, all in what follows from this.
                await client.advance(by: .milliseconds(10))
                let failures = await client.unary().message
                #expect(failures.contains("Connection refused"))
            }
            waiting.cancel()
            #expect(await waiting.value.code == .cancelled)
        }
    }

    @Test func `a channel without calls is idle after its back-off, and connects for the next call`() async throws {
        let clock = ManualClock()
        try await withChannel(exactLimits, clock: clock) { client in
            let call = client.startUnary()
            try await client.accept(opening: []).close(reset: true)
            #expect(await call.value.code == .unavailable)
            #expect(client.channel.connectivity == .transientFailure)
            client.channel.connect()
            await client.settle()
            #expect(client.channel.connectivity == .transientFailure)
            await client.advance(by: .seconds(1))
            #expect(client.channel.connectivity == .idle)
            #expect(!client.server.hasWaitingClient)
            let connection = try await client.connect()
            let next = client.startUnary()
            try await connection.waitForEnd(of: 1)
            try connection.answer(1, "x")
            #expect(await next.value.text == "x")
        }
    }

    @Test func `a call that waits for ready is made when a later attempt connects`() async throws {
        let clock = ManualClock()
        try await withChannel(exactLimits, clock: clock) { client in
            let waiting = client.startUnary("x", CallOptions(waitForReady: true))
            let failing = client.startUnary()
            try await client.accept(opening: []).close()
            #expect(await failing.value.code == .unavailable)
            await client.advance(by: .seconds(1))
            let connection = try await client.accept()
            try await connection.waitForEnd(of: 1)
            try connection.answer(1, "late")
            #expect(await waiting.value.text == "late")
        }
    }

    @Test func `the back-off is reset by SETTINGS, and not by a connection that brings none`() async throws {
        let clock = ManualClock()
        try await withChannel(exactLimits, clock: clock) { client in
            let waiting = client.startUnary("x", CallOptions(waitForReady: true))
            // Connected, and lost without SETTINGS: the second delay is longer than the first.
            try await client.accept(opening: []).close()
            await client.becomes(.transientFailure)
            await client.advance(by: .seconds(1))
            try await client.accept(opening: []).close()
            await client.becomes(.transientFailure)
            await client.advance(by: .seconds(1.5))
            #expect(client.channel.connectivity == .transientFailure)
            await client.advance(by: .seconds(0.1))
            let connection = try await client.accept()
            try await connection.waitForEnd(of: 1)
            try connection.answer(1, "x")
            #expect(await waiting.value.text == "x")
            connection.close()
            await client.becomes(.idle)

            let again = client.startUnary("x", CallOptions(waitForReady: true))
            try await client.accept(opening: []).close()
            await client.becomes(.transientFailure)
            await client.advance(by: .seconds(1))
            let last = try await client.accept()
            try await last.waitForEnd(of: 1)
            try last.answer(1, "again")
            #expect(await again.value.text == "again")
        }
    }

    @Test func `SETTINGS alone reset the back-off, without any call`() async throws {
        try await withChannel(exactLimits, clock: ManualClock()) { client in
            for delay in [1, 1.6] {
                client.channel.connect()
                try await client.accept(opening: []).close()
                await client.becomes(.transientFailure)
                await client.advance(by: .seconds(delay))
                #expect(client.channel.connectivity == .idle)
            }
            try await client.connect().close()
            await client.becomes(.idle)
            client.channel.connect()
            try await client.accept(opening: []).close()
            await client.becomes(.transientFailure)
            await client.advance(by: .seconds(1))
            #expect(client.channel.connectivity == .idle)
        }
    }

    @Test func `a server that says nothing has the connect time-out, and the error says what was waited for`()
        async throws
    {
        let clock = ManualClock()
        try await withChannel(exactLimits, clock: clock) { client in
            let call = client.startUnary()
            let connection = try await client.accept(opening: [])
            try await connection.wait(for: "the client's SETTINGS") { $0.settings != nil }
            await client.advance(by: .seconds(19.9))
            #expect(client.channel.connectivity == .connecting)
            await client.advance(by: .seconds(0.2))
            let result = await call.value
            #expect(result.code == .unavailable)
            #expect(result.message.contains("127.0.0.1:\(client.server.port)"))
            #expect(result.message.contains("SETTINGS"), "\(result.message)")
            #expect(result.message.contains("20"), "\(result.message)")
            #expect(client.channel.connectivity == .transientFailure)
            try await connection.waitUntilClosed()
        }
    }

    private static let foreign: [([UInt8], String)] = [
        (Array("HTTP/1.1 400 Bad Request\r\n\r\n".utf8), "HTTP/1: \"HTTP/1.1 400 Bad Request\""),
        ([0x15, 3, 1, 0, 2, 2, 40], "TLS"), (Array("SSH-2.0-x\r\n".utf8), "does not speak HTTP/2"),
    ]

    @Test(arguments: foreign)
    func `a server that speaks something else is named by what it seems to speak`(bytes: [UInt8], name: String)
        async throws
    {
        try await withChannel(clock: ManualClock()) { client in
            let call = client.startUnary()
            let connection = try await client.accept(opening: [])
            try connection.send(bytes: bytes)
            let result = await call.value
            #expect(result.code == .unavailable)
            #expect(result.message.contains(name), "\(result.message)")
            #expect(client.channel.connectivity == .transientFailure)
        }
    }

    @Test func `while it connects a call may be cancelled, and the next is not`() async throws {
        try await withChannel { client in
            let first = client.startUnary("first")
            let connection = try await client.accept(opening: [])
            let second = await client.beginUnary("second")
            first.cancel()
            #expect(await first.value.code == .cancelled)
            try connection.send(.settings())
            #expect(try await connection.waitForEnd(of: 1).texts == ["second"])
            try connection.answer(1, "x")
            #expect(await second.value.text == "x")
            #expect(connection.input.streams == [1])
        }
    }

    // MARK: A server that takes connections and answers nothing

    @Test func `a server that ends each connection before it answers is left alone for a while`() async throws {
        let clock = ManualClock()
        try await withChannel(exactLimits, clock: clock) { client in
            let call = client.startUnary()
            let waiting = await client.beginUnary("x", CallOptions(waitForReady: true))
            var connections = 0
            // GOAWAY comes with SETTINGS, before any call is sent: all are tried again, elsewhere.
            let goAway = Frame(type: Frame.goAway, payload: bigEndian(0) + bigEndian(0))
            while client.channel.connectivity != .transientFailure, connections < 20 {
                let connection = try await client.accept(opening: [.settings(), goAway])
                connections += 1
                try await connection.waitUntilClosed()
                #expect(connection.input.streams == [])
                connection.close()
                await client.settle()
            }
            #expect(connections > 1 && connections < 20, "after \(connections) connections")
            let outcome = await call.value
            #expect(outcome.code == .unavailable)
            #expect(outcome.message.contains("before it answers"), "\(outcome.message)")
            #expect(await client.unary().code == .unavailable)

            // One that answers makes it good.
            await client.advance(by: .seconds(1))
            let connection = try await client.accept()
            try await connection.waitForEnd(of: 1)
            try connection.answer(1, "x")
            #expect(await waiting.value.text == "x")
            connection.close()
            await client.becomes(.idle)
            let next = client.startUnary()
            try await client.accept(opening: [.settings(), goAway]).waitUntilClosed()
            let last = try await client.accept()
            try await last.waitForEnd(of: 1)
            try last.answer(1, "last")
            #expect(await next.value.text == "last")
        }
    }
}
