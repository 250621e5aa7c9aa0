import ApusBase
import ApusEventLoop
import TestSupport
import Testing

@testable import ApusTransport

/// What a connection has time for, on a clock that the tests move: who is slow is cut off, and who is idle is not.
@Suite(.timeLimit(.minutes(1))) struct ServerConnectionTimeTests {
    private func limits(_ change: (inout ServerLimits) -> Void) -> ServerLimits {
        var limits = ServerLimits()
        limits.keepalive = nil
        change(&limits)
        return limits
    }

    // MARK: Slow peers

    @Test func `a head that does not end in time ends the connection`() async throws {
        let limits = limits { $0.headerTimeout = .seconds(10) }
        try await withServerConnection(limits: limits) { connection in
            try await connection.assertServes()
            let block = Fields.request("/t/Sync").block
            try await connection.onClient { client in
                try client.send(Frame(type: Frame.headers, stream: 3, payload: block))
                // Something comes all the time.
                try client.send(Frame(type: Frame.continuation, stream: 3, payload: []))
            }
            await connection.loop.settle()
            await connection.advance(by: .seconds(9))
            #expect(connection.client.output.goAways.isEmpty)
            try await connection.onClient { try $0.send(Frame(type: Frame.continuation, stream: 3, payload: [])) }
            await connection.loop.settle()
            await connection.advance(by: .seconds(1))
            try await connection.assertCloses(saying: "header_timeout", logging: "did not end a block of header fields")
        }
    }

    @Test func `heads that come in parts and end in time are no excess, however many`() async throws {
        let limits = limits { $0.headerTimeout = .seconds(10) }
        try await withServerConnection(limits: limits) { connection in
            try await connection.assertServes()
            let block = Fields.request("/t/Sync").block
            for index in 0..<20 {
                let stream = UInt32(index * 2 + 101)
                try await connection.onClient { client in
                    try client.send(Frame(type: Frame.headers, stream: stream, payload: block))
                }
                await connection.loop.settle()
                await connection.advance(by: .seconds(6))
                try await connection.onClient { client in
                    try client.send(
                        Frame(type: Frame.continuation, flags: Frame.endHeadersFlag, stream: stream),
                        .data(stream, framedText("m"), endStream: true)
                    )
                    #expect(try client.waitForEnd(of: stream).status == 0)
                }
            }
        }
    }

    @Test func `a head with a fault in it is not waited for`() async throws {
        let limits = limits { $0.headerTimeout = .seconds(10) }
        try await withServerConnection(limits: limits) { connection in
            try await connection.onClient { client in
                try client.send(.headers(1, .request("/t/Sync", ["connection": "close"])))
                try client.waitForEnd(of: 1)
            }
            await connection.advance(by: .seconds(3600))
            let status = try await connection.onClient { client in
                _ = client.newStream()
                return try client.call("/t/Sync").status
            }
            #expect(status == 0)
        }
    }

    /// Writes until nothing more is let out.
    private let pour = method(
        "Pour",
        .serverStreaming { _, call in
            while true { try await call.write([UInt8](repeating: 1, count: 64 * 1024)) }
        }
    )

    @Test func `a peer that takes nothing from its socket is let go`() async throws {
        let limits = limits { $0.writeStallTimeout = .seconds(60) }
        try await withServerConnection([pour], limits: limits) { connection in
            try await connection.onClient { client in
                let stream = try client.open("/t/Pour")
                try client.send(.data(stream, framedText("m"), endStream: true))
                // It flows, and then nobody reads.
                try client.wait(for: "some data") { $0.answers[stream]?.body.isEmpty == false }
            }
            await connection.loop.settle()
            await connection.advance(by: .seconds(59))
            #expect(connection.core.connections == 1)
            await connection.advance(by: .seconds(61))
            await eventually("the connection's end") { connection.core.connections == 0 }
            #expect(connection.logged("takes nothing of what it is sent") == 1)
        }
    }

    @Test func `a peer that takes a little now and then is kept`() async throws {
        let limits = limits { $0.writeStallTimeout = .seconds(60) }
        try await withServerConnection([pour], limits: limits) { connection in
            let stream = try await connection.onClient { client in
                let stream = try client.open("/t/Pour")
                try client.send(.data(stream, framedText("m"), endStream: true))
                return stream
            }
            for count in 1...10 {
                try await connection.onClient { client in
                    try client.wait(for: "more") { $0.answers[stream]?.body.count ?? 0 > count * 1_000_000 }
                }
                await connection.loop.settle()
                await connection.advance(by: .seconds(50))
                #expect(connection.core.connections == 1)
            }
        }
    }

    @Test func `a consumer that reads its socket and gives no credit may be idle for an hour`() async throws {
        // The default times; PINGs are answered, as every client does.
        try await withServerConnection([pour], opening: [.settings([4: 100_000])]) { connection in
            try await connection.onClient { client in
                let stream = try client.open("/t/Pour")
                try client.send(.data(stream, framedText("m"), endStream: true))
                try client.wait(for: "all that the window lets out") { output in
                    output.answers[stream]?.body.count == 65_535
                }
            }
            for _ in 0..<60 { await connection.advance(by: .seconds(60)) }
            try await connection.onClient { client in
                try client.send(.windowUpdate(0, by: 100_000))
                try client.wait(for: "the rest") { $0.answers[1]?.body.count == 100_000 }
            }
            #expect(connection.client.output.goAways.isEmpty)
        }
    }

    // MARK: Keepalive (rule 23)

    private func keepalive(_ times: Keepalive.Times?) -> ServerLimits { limits { $0.keepalive = times } }

    @Test func `rule 23: by default a client is asked after two hours and has 20 s`() async throws {
        try await withServerConnection { connection in
            connection.client.answersPings = false
            try await connection.assertServes()
            await connection.advance(by: .seconds(7199))
            #expect(connection.core.connections == 1)
            await connection.advance(by: .seconds(1))
            try await connection.onClient { try $0.wait(for: "the PING") { $0.pings.count == 1 } }
            await connection.advance(by: .seconds(19))
            #expect(connection.core.connections == 1)
            await connection.advance(by: .seconds(1))
            await eventually("the connection's end") { connection.core.connections == 0 }
            #expect(connection.logged("a peer did not answer a keepalive PING") == 1)
        }
    }

    @Test func `rule 23: the time runs from the last byte, and any byte is an answer`() async throws {
        let times = Keepalive.Times(time: .seconds(100), timeout: .seconds(20), withoutCalls: true)
        try await withServerConnection(limits: keepalive(times)) { connection in
            connection.client.answersPings = false
            try await connection.assertServes()
            for _ in 0..<5 {
                await connection.advance(by: .seconds(99))
                try await connection.assertServes()
            }
            #expect(connection.client.output.pings.isEmpty)
            await connection.advance(by: .seconds(100))
            try await connection.onClient { try $0.wait(for: "the PING") { $0.pings.count == 1 } }
            await connection.advance(by: .seconds(10))
            // No answer to it, but a sign of life.
            try await connection.assertServes()
            await connection.advance(by: .seconds(90))
            #expect(connection.core.connections == 1)
        }
    }

    @Test func `without calls nobody is asked where that is not wanted`() async throws {
        let times = Keepalive.Times(time: .seconds(100), timeout: .seconds(20), withoutCalls: false)
        try await withServerConnection(limits: keepalive(times)) { connection in
            try await connection.assertServes()
            for _ in 0..<100 { await connection.advance(by: .seconds(50)) }
            #expect(connection.client.output.pings.isEmpty)
            try await connection.assertServes()
        }
    }

    // MARK: Idleness and age (rule 25)

    @Test func `rule 25: a connection without a call for long enough is closed with max_idle`() async throws {
        try await withServerConnection(limits: limits { $0.maxConnectionIdle = .seconds(100) }) { connection in
            for _ in 0..<5 {
                try await connection.assertServes()
                await connection.advance(by: .seconds(99))
            }
            // Bytes that are no call's do not count.
            try await connection.onClient { client in
                try client.send(.ping("idle"))
                try client.wait(for: "the answer") { $0.pingAcks.count == 1 }
            }
            #expect(connection.client.output.goAways.isEmpty)
            await connection.advance(by: .seconds(1))
            try await connection.assertCloses(saying: "max_idle", logging: nil)
            let lasts = connection.client.output.goAways.map(\.last)
            #expect(lasts == [0x7FFF_FFFF, 9])
            #expect(connection.client.output.goAways.allSatisfy { $0.code == ErrorCode.noError })
        }
    }

    @Test func `rule 25: a connection with a call open is not idle, however long the call takes`() async throws {
        try await withServerConnection(limits: limits { $0.maxConnectionIdle = .seconds(100) }) { connection in
            let stream = try await connection.onClient { try $0.open("/t/Collect") }
            for _ in 0..<20 { await connection.advance(by: .seconds(60)) }
            try await connection.onClient { client in
                try client.send(.data(stream, framedText("m"), endStream: true))
                #expect(try client.waitForEnd(of: stream).status == 0)
            }
            #expect(connection.client.output.goAways.isEmpty)
            await connection.advance(by: .seconds(100))
            try await connection.assertCloses(saying: "max_idle", logging: nil)
        }
    }

    @Test func `rule 25: a connection that is old enough drains with max_age, and its calls end`() async throws {
        try await withServerConnection(limits: limits { $0.maxConnectionAge = .seconds(1000) }) { connection in
            let stream = try await connection.onClient { try $0.open("/t/Collect") }
            try await connection.onClient { client in
                try client.send(.ping("there"))
                try client.wait(for: "the answer") { $0.pingAcks.count == 1 }
            }
            await connection.advance(by: .seconds(899))
            try await connection.onClient { client in
                try client.send(.ping("there"))
                try client.wait(for: "the answer") { $0.pingAcks.count == 2 }
            }
            #expect(connection.client.output.goAways.isEmpty)
            // 10 % more or less.
            await connection.advance(by: .seconds(202))
            try await connection.onClient { client in
                try client.wait(for: "both GOAWAYs") { $0.goAways.count == 2 }
                #expect(client.output.goAwayReasons == ["", "max_age"])
            }
            for _ in 0..<100 { await connection.advance(by: .seconds(60)) }
            try await connection.onClient { client in
                try client.send(.data(stream, framedText("m"), endStream: true))
                #expect(try client.waitForEnd(of: stream).status == 0)
            }
            try await connection.assertCloses(saying: "max_age", logging: nil)
        }
    }

    @Test func `rule 25: calls that outlive the grace period of an old connection are stopped`() async throws {
        let limits = limits {
            $0.maxConnectionAge = .seconds(1000)
            $0.maxConnectionAgeGrace = .seconds(30)
        }
        try await withServerConnection(limits: limits) { connection in
            let stream = try await connection.onClient { client in
                let stream = try client.open("/t/Collect")
                try client.send(.ping("there"))
                try client.wait(for: "the answer") { $0.pingAcks.count == 1 }
                return stream
            }
            await connection.advance(by: .seconds(1101))
            try await connection.onClient { try $0.wait(for: "both GOAWAYs") { $0.goAways.count == 2 } }
            await connection.advance(by: .seconds(29))
            #expect(connection.core.connections == 1)
            await connection.advance(by: .seconds(1))
            try await connection.onClient { try $0.waitUntilClosed() }
            #expect(connection.client.answer(stream).reset == ErrorCode.cancel)
            #expect(connection.logged("too old") == 1)
        }
    }

    @Test func `connections that begin together do not grow old together`() async throws {
        var ages: Set<Int> = []
        for _ in 0..<6 {
            try await withServerConnection(limits: limits { $0.maxConnectionAge = .seconds(1000) }) { connection in
                try await connection.assertServes()
                var age = 0
                while connection.client.output.goAways.isEmpty, age < 1200 {
                    age += age < 899 ? 899 : 10
                    await connection.advance(by: .seconds(age == 899 ? 899 : 10))
                    try await connection.onClient { client in
                        try? client.send(.windowUpdate(0, by: 1))
                        _ = try? client.call("/t/Sync")
                    }
                }
                #expect((900...1110).contains(age))
                ages.insert(age)
            }
        }
        #expect(ages.count > 1)
    }
}
