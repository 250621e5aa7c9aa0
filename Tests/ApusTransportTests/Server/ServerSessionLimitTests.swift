import ApusBase
import TestSupport
import Testing

@testable import ApusTransport

/// How many handlers may run.
@Suite(.timeLimit(.minutes(1))) struct ServerSessionLimitTests {
    /// A handler that runs until it is told to end, and does not care for cancellation.
    private func stubborn(_ go: Signal) -> ServedMethod {
        method(
            "Stubborn",
            .clientStreaming { _ in
                await Task.detached { await go.wait() }.value
                return []
            }
        )
    }

    private func limits(perConnection count: Int) -> ServerLimits {
        var limits = ServerLimits()
        limits.maxHandlersPerConnection = count
        return limits
    }

    @Test func `over the connection's limit a stream is refused, and taken again when there is room`() async throws {
        let go = Signal()
        try await withSession([stubborn(go)] + echoMethods, limits: limits(perConnection: 2)) { session in
            await session.receive(.headers(1, .request("/t/Stubborn")))
            await session.receive(.headers(3, .request("/t/Stubborn")))
            await session.receive(.headers(5, .request("/t/Unary")), .data(5, framedText("m"), endStream: true))
            #expect(await session.answer(5).frameTypes == [Frame.reset])
            #expect(await session.answer(5).reset == ErrorCode.refusedStream)
            go.send()
            await session.wait(for: "both ends") { $0.answers[1]?.isOver == true && $0.answers[3]?.isOver == true }
            #expect(await session.call(7, "/t/Unary").status == 0)
        }
    }

    @Test func `streams that come in one read are held to the limit too`() async throws {
        let go = Signal()
        try await withSession([stubborn(go)], limits: limits(perConnection: 2)) { session in
            await session.receive((0..<6).map { .headers(UInt32($0 * 2 + 1), .request("/t/Stubborn")) })
            let running = try await session.inSession { $0.hot.value.runningHandlers }
            #expect(running <= 2)
            go.send()
        }
    }

    @Test func `a handler whose stream was reset counts until it returns`() async throws {
        let go = Signal()
        try await withSession([stubborn(go)] + echoMethods, limits: limits(perConnection: 3)) { session in
            for stream in [UInt32(1), 3, 5] {
                await session.receive(.headers(stream, .request("/t/Stubborn")))
                await session.receive(.reset(stream, code: ErrorCode.cancel))
            }
            await session.receive(.headers(7, .request("/t/Unary")), .data(7, framedText("m"), endStream: true))
            #expect(await session.answer(7).reset == ErrorCode.refusedStream)
            go.send()
            await eventually("the handlers' ends") {
                (try? await session.inSession { $0.hot.value.runningHandlers }) == 0
            }
            #expect(await session.call(9, "/t/Unary").status == 0)
        }
    }

    @Test func `over the server's limit a call is RESOURCE_EXHAUSTED, and every kind of handler is counted back`()
        async throws
    {
        let go = Signal()
        let count = SharedCount()
        var limits = ServerLimits()
        limits.maxHandlers = 1
        let failing = method("Fail", .synchronousUnary { _, _ in throw RPCError(code: .aborted, message: "") })
        try await withSession([stubborn(go), failing] + echoMethods, limits: limits, handlers: count) { session in
            for (index, name) in ["Sync", "Unary", "Collect", "Expand", "Update", "Fail", "Sync"].enumerated() {
                let answer = await session.call(UInt32(index * 2 + 1), "/t/\(name)")
                #expect(answer.status == (name == "Fail" ? 10 : 0), "\(name)")
                #expect(count.value == 0)
            }
            await session.receive(.headers(21, .request("/t/Stubborn")))
            for (index, name) in ["Sync", "Unary", "Collect"].enumerated() {
                #expect(await session.call(UInt32(23 + index * 2), "/t/\(name)").status == 8)
            }
            go.send()
            await session.wait(for: "the end") { $0.answers[21]?.isOver == true }
            #expect(await session.call(31, "/t/Unary").status == 0)
            #expect(count.value == 0)
        }
    }

    @Test(arguments: [false, true])
    func `rule 29: streams over the limit are refused, whether the client knows it or not, and no others`(
        isAcknowledged: Bool
    ) async throws {
        let go = Signal()
        var limits = ServerLimits()
        limits.http2.maxConcurrentStreams = 3
        try await withSession([stubborn(go)], limits: limits, acknowledgesSettings: isAcknowledged) { session in
            for stream in [UInt32(1), 3, 5, 7] { await session.receive(.headers(stream, .request("/t/Stubborn"))) }
            #expect(await session.answer(5).reset == nil)
            #expect(await session.answer(7).reset == ErrorCode.refusedStream)
            #expect(await session.look { $0.goAways.count } == 0)
            go.send()
        }
    }

    @Test func `far more streams at once than SETTINGS allow end the connection`() async throws {
        let go = Signal()
        var limits = ServerLimits()
        limits.http2.maxConcurrentStreams = 3
        #expect(limits.http2.streamsUntilFault == 103)
        try await withSession([stubborn(go)], limits: limits) { session in
            let heads = (0..<104).map { Frame.headers(UInt32(2 * $0 + 1), .request("/t/Stubborn")) }
            await session.receive(heads)
            #expect(await session.look { $0.goAways.map(\.code) } == [ErrorCode.protocolError])
            go.send()
        }
    }

    @Test(arguments: [(0, 100), (99, 199), (100, 200), (1000, 2000), (UInt32.max / 2 + 1, UInt32.max)])
    func `how many are too many does not overflow`(limit: UInt32, count: UInt32) {
        var settings = HTTP2Settings()
        settings.maxConcurrentStreams = limit
        #expect(settings.streamsUntilFault == count)
    }
}
