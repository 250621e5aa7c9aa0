import ApusBase
import ApusEventLoop
import TestSupport
import Testing

@testable import ApusTransport

/// Which addresses a channel tries, and when: the rest of `rule 28`.
@Suite(.timeLimit(.minutes(1))) struct ClientAddressTests {
    @Test func `the addresses are tried in turn until one speaks HTTP/2`() async throws {
        let closed = try FrameServer.refusingPort()
        let other = try FrameServer()
        let good = try FrameServer()
        let target = "ipv4:127.0.0.1:\(closed),127.0.0.1:\(other.port),127.0.0.1:\(good.port)"
        try await withChannel(clock: ManualClock(), target: target) { client in
            let call = client.startUnary()
            let wrong = try await other.accept(opening: [])
            try wrong.send(bytes: Array("HTTP/1.1 200 OK\r\n\r\n".utf8))
            let connection = try await good.accept()
            let request = try await connection.waitForEnd(of: 1)
            #expect(request.head?[":authority"] == "127.0.0.1:\(closed)")
            try connection.answer(1, "x")
            #expect(await call.value.text == "x")
        }
    }

    @Test func `an address that says nothing holds the next one up for a quarter of a second`() async throws {
        let silent = try FrameServer.silentPort()
        let good = try FrameServer()
        let target = "ipv4:127.0.0.1:\(silent),127.0.0.1:\(good.port)"
        try await withChannel(clock: ManualClock(), target: target) { client in
            let call = await client.beginUnary()
            await client.advance(by: .milliseconds(245))
            #expect(!good.hasWaitingClient)
            await client.advance(by: .milliseconds(10))
            let connection = try await good.accept()
            try await connection.waitForEnd(of: 1)
            try connection.answer(1, "x")
            #expect(await call.value.text == "x")
        }
    }

    @Test func `when all say nothing the connect time-out ends it, and the error names them`() async throws {
        let ports = [try FrameServer.silentPort(), try FrameServer.silentPort()]
        let target = "ipv4:127.0.0.1:\(ports[0]),127.0.0.1:\(ports[1])"
        try await withChannel(clock: ManualClock(), target: target) { client in
            let call = await client.beginUnary()
            await client.advance(by: .milliseconds(300))
            await client.advance(by: .seconds(20))
            let outcome = await call.value
            #expect(outcome.code == .unavailable)
            for port in ports { #expect(outcome.message.contains("127.0.0.1:\(port)"), "\(outcome.message)") }
            #expect(client.channel.connectivity == .transientFailure)
        }
    }

    @Test func `when no address is of use the error tells of each`() async throws {
        let ports = [try FrameServer.refusingPort(), try FrameServer.refusingPort()]
        let target = "ipv4:127.0.0.1:\(ports[0]),127.0.0.1:\(ports[1])"
        try await withChannel(clock: ManualClock(), target: target) { client in
            let result = await client.unary()
            for port in ports { #expect(result.message.contains("127.0.0.1:\(port)"), "\(result.message)") }
        }
    }

    @Test func `a host that is looked up leads to its addresses`() async throws {
        let server = try FrameServer()
        try await withChannel(target: "dns:///localhost:\(server.port)") { client in
            let call = client.startUnary()
            let connection = try await server.accept()
            let request = try await connection.waitForEnd(of: 1)
            #expect(request.head?[":authority"] == "localhost:\(server.port)")
            try connection.answer(1, "x")
            #expect(await call.value.text == "x")
        }
    }

    @Test func `a host that does not exist is UNAVAILABLE, by name`() async throws {
        try await withChannel(clock: ManualClock(), target: "no-such-host.invalid:1") { client in
            let result = await client.unary()
            #expect(result.code == .unavailable)
            #expect(result.message.contains("no-such-host.invalid"))
        }
    }

    @Test func `unix sockets are reached by path and by name`() async throws {
        let name = "apus-client-test-\(UInt64.random(in: 0 ... .max))"
        let listener = try ListeningSocket.bind(.unixAbstract(name: name))
        try await withChannel(target: "unix-abstract:\(name)") { client in
            let call = client.startUnary()
            let accepted = Mutexed<CInt?>(nil)
            await eventually("a client") {
                if case .connection(let descriptor, _) = listener.accept() { accepted.update { $0 = descriptor } }
                return accepted.value != nil
            }
            let connection = FrameConnection(descriptor: try #require(accepted.value))
            try connection.send(.settings())
            await client.becomes(.ready)
            let request = try await connection.waitForEnd(of: 1)
            #expect(request.head?[":authority"] == "localhost")
            try connection.answer(1, "x")
            #expect(await call.value.text == "x")
            connection.close()
        }
        let missing = "unix:/nonexistent/\(name)"
        try await withChannel(clock: ManualClock(), target: missing) { client in
            let result = await client.unary()
            #expect(result.code == .unavailable)
            #expect(result.message.contains("No such file"), "\(result.message)")
        }
    }
}
