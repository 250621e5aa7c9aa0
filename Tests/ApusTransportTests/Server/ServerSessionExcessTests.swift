import ApusBase
import ApusEventLoop
import TestSupport
import Testing

@testable import ApusTransport

/// What a peer may do too much of, and what an honest one may do as much as it wants of.
@Suite(.timeLimit(.minutes(2))) struct ServerSessionExcessTests {
    private func expectCalmed(_ session: SessionHarness, _ reason: String) async {
        let reasons = await session.look { $0.goAwayReasons }
        let codes = await session.look { $0.goAways.map(\.code) }
        #expect(reasons == [reason])
        #expect(codes == [ErrorCode.enhanceYourCalm])
        #expect(session.receiveError != nil || reason == "too_many_stream_errors")
    }

    private func expectServed(_ session: SessionHarness, _ stream: UInt32) async {
        #expect(await session.call(stream, "/t/Sync").status == 0)
        #expect(await session.look { $0.goAways.isEmpty })
    }

    /// A method that waits for its end.
    private let wait = method(
        "Wait",
        .unary { _, _ in
            try await Task.sleep(for: .seconds(3600))
            return []
        }
    )

    // MARK: Cancellations (CVE-2023-44487)

    private func openAndReset(_ first: UInt32, _ count: Int, _ path: String = "/t/Collect") -> [Frame] {
        (0..<UInt32(count)).flatMap { index -> [Frame] in
            let stream = first + 2 * index
            return [.headers(stream, .request(path)), .reset(stream, code: ErrorCode.cancel)]
        }
    }

    @Test(arguments: ["/t/Sync", "/t/Collect", "/none"])
    func `ten thousand calls may be cancelled at once, and the next is too many`(path: String) async throws {
        try await withSession(echoMethods, clock: ManualClock()) { session in
            for batch in 0..<100 { await session.receive(openAndReset(UInt32(batch * 200 + 1), 100, path)) }
            // What is refused is answered at once, and what was answered before its reset does not count.
            if path != "/none" {
                #expect(await session.look { $0.goAways.isEmpty })
                await session.receive(openAndReset(20_001, 1, path))
                await expectCalmed(session, "too_many_cancellations")
            } else {
                await expectServed(session, 20_001)
            }
        }
    }

    @Test func `a thousand cancellations a second are an honest client's, for as long as it likes`() async throws {
        try await withSession(echoMethods, clock: ManualClock()) { session in
            for second in 0..<30 {
                for tenth in 0..<10 {
                    let first = UInt32(second * 2000 + tenth * 200 + 1)
                    await session.receive(openAndReset(first, 100))
                    await session.advance(by: .milliseconds(100))
                }
            }
            await expectServed(session, 100_001)
        }
    }

    @Test func `calls that were open for a while may be cancelled in any number`() async throws {
        var limits = ServerLimits()
        limits.cancellationsPerSecond = 1
        try await withSession(echoMethods, limits: limits, clock: ManualClock()) { session in
            for batch in 0..<20 {
                let streams = (0..<50).map { UInt32(batch * 100 + $0 * 2 + 1) }
                await session.receive(streams.map { .headers($0, .request("/t/Collect")) })
                await session.advance(by: .milliseconds(200))
                await session.receive(streams.map { .reset($0, code: ErrorCode.cancel) })
            }
            await expectServed(session, 10_001)
        }
    }

    @Test func `calls that were answered may be cancelled in any number`() async throws {
        var limits = ServerLimits()
        limits.cancellationsPerSecond = 1
        try await withSession(echoMethods, limits: limits, clock: ManualClock()) { session in
            for batch in 0..<20 {
                let streams = (0..<50).map { UInt32(batch * 100 + $0 * 2 + 1) }
                // A message back, while the stream stays open.
                await session.receive(
                    streams.flatMap { [.headers($0, .request("/t/Update")), .data($0, framedText("m"))] }
                )
                await session.receive(streams.map { .reset($0, code: ErrorCode.cancel) })
            }
            await expectServed(session, 10_001)
        }
    }

    @Test func `ten thousand client streams that the server ends early are no excess`() async throws {
        let refuse = method("Early", .clientStreaming { _ in throw RPCError(code: .aborted, message: "enough") })
        var limits = ServerLimits()
        limits.cancellationsPerSecond = 1
        limits.violationsPerSecond = 1
        try await withSession([refuse] + echoMethods, limits: limits, clock: ManualClock()) { session in
            for batch in 0..<100 {
                let streams = (0..<100).map { UInt32(batch * 200 + $0 * 2 + 1) }
                await session.receive(streams.map { .headers($0, .request("/t/Early")) })
                // The client has not learnt of it yet, then it resets what it sees ended.
                await session.receive(streams.map { .data($0, framedText("m")) })
                await session.receive(streams.map { .reset($0, code: ErrorCode.noError) })
            }
            let resets = await session.look { output in output.answers.values.count { $0.reset == ErrorCode.noError } }
            #expect(resets == 10_000)
            await expectServed(session, 30_001)
        }
    }

    // MARK: Streams reset for the peer's faults (CVE-2025-8671)

    @Test(arguments: [0, 1, 2])
    func `streams that break the rules are reset, and five hundred are too many`(kind: Int) async throws {
        try await withSession(echoMethods + [wait], clock: ManualClock()) { session in
            func fault(_ stream: UInt32) -> [Frame] {
                switch kind {
                case 0:
                    [
                        .headers(stream, .request("/t/Wait")), .data(stream, framedText("m"), endStream: true),
                        .windowUpdate(stream, by: 0x7FFF_FFFF),
                    ]
                case 1: [.headers(stream, .request("/t/Sync", ["connection": "close"]))]
                default: [.headers(stream, .request("/t/Sync", ["bad": "a\0b"]))]
                }
            }
            for index in 0..<500 { await session.receive(fault(UInt32(index * 2 + 1))) }
            #expect(await session.look { $0.goAways.isEmpty })
            let resets = await session.look { $0.answers.values.count { $0.reset != nil } }
            #expect(resets == 500)
            await session.receive(fault(1001))
            await expectCalmed(session, "too_many_stream_errors")
            // What comes after that is not read.
            await session.receive(.headers(1003, .request("/t/Sync")), .data(1003, framedText("m"), endStream: true))
            #expect(await session.look { $0.answers[1003] == nil })
        }
    }

    @Test func `a head of thousands of fields is given up, and so is who sends many`() async throws {
        var limits = ServerLimits()
        limits.violationsPerSecond = 1
        try await withSession(echoMethods, limits: limits, clock: ManualClock()) { session in
            // One byte is `accept-encoding: gzip, deflate` (RFC 7541, appendix A).
            let bomb = Fields.request("/t/Sync").block + [UInt8](repeating: 0x90, count: 10_000)
            func head(_ stream: UInt32) -> Frame {
                Frame(type: Frame.headers, flags: Frame.endHeadersFlag, stream: stream, payload: bomb)
            }
            for index in 0..<5 {
                let stream = UInt32(index * 2 + 1)
                await session.receive(head(stream))
                #expect(await session.answer(stream).reset == ErrorCode.enhanceYourCalm)
            }
            await expectServed(session, 101)
            await session.receive(head(103))
            await expectCalmed(session, "too_many_stream_errors")
        }
    }

    // MARK: Frames that carry nothing (CVE-2019-9512, -9513, -9515, -9518)

    private static let nothing: [String: Frame] = [
        "SETTINGS": .settings(), "empty DATA": .data(1, []), "an answer to a PING": .ping("x", isAck: true),
        "padding": Frame(type: Frame.data, flags: Frame.paddedFlag, stream: 1, payload: [2, 0, 0]),
        "WINDOW_UPDATE": .windowUpdate(1, by: 1),
        "GOAWAY": Frame(type: Frame.goAway, payload: [UInt8](repeating: 0, count: 8)),
    ]

    @Test(arguments: ["SETTINGS", "empty DATA", "an answer to a PING", "padding", "WINDOW_UPDATE", "GOAWAY"])
    func `frames that carry nothing have a rate`(name: String) async throws {
        let frame = try #require(Self.nothing[name])
        try await withSession(echoMethods, clock: ManualClock(), opening: [.settings()]) { session in
            await session.receive(.headers(1, .request("/t/Collect")))
            // A thousand a second pass for ever.
            for _ in 0..<20 {
                await session.receive([Frame](repeating: frame, count: 1000))
                await session.advance(by: .seconds(1))
            }
            #expect(await session.look { $0.goAways.isEmpty })
            await session.receive([Frame](repeating: frame, count: 6000))
            await expectCalmed(session, "too_many_empty_frames")
        }
    }

    @Test func `for each frame of an answer a client may send some of its own`() async throws {
        var limits = ServerLimits()
        limits.emptyFramesPerSecond = 2
        let clock = ManualClock()
        try await withSession(echoMethods, limits: limits, clock: clock, opening: [.settings()]) { session in
            await session.receive(.headers(1, .request("/t/Update")))
            for _ in 0..<1000 {
                await session.receive(
                    .data(1, framedText("m")),
                    .windowUpdate(0, by: 6),
                    .windowUpdate(1, by: 6),
                    .windowUpdate(0, by: 6),
                    .windowUpdate(1, by: 6)
                )
            }
            await expectServed(session, 3)
        }
    }

    @Test func `empty messages, and DATA frames that end a stream, are no frames without a payload`() async throws {
        var limits = ServerLimits()
        limits.emptyFramesPerSecond = 1
        try await withSession(echoMethods, limits: limits, clock: ManualClock()) { session in
            await session.receive(.headers(1, .request("/t/Collect")))
            for _ in 0..<100 { await session.receive([Frame](repeating: .data(1, framed([])), count: 100)) }
            await session.receive(.data(1, [], endStream: true))
            await session.wait(for: "the answer") { $0.answers[1]?.isOver == true }
            #expect(await session.answer(1).status == 0)
            for index in 0..<200 {
                let stream = UInt32(index * 2 + 3)
                await session.receive(
                    .headers(stream, .request("/t/Sync")),
                    .data(stream, framedText("m")),
                    .data(stream, [], endStream: true)
                )
            }
            await expectServed(session, 1001)
        }
    }

    // MARK: PINGs (rule 24)

    @Test func `rule 24: PINGs that come too often end the connection with too_many_pings`() async throws {
        try await withSession(echoMethods, clock: ManualClock()) { session in
            await session.receive(.ping("1"), .ping("2"), .ping("3"))
            #expect(await session.look { $0.pingAcks.count } == 3)
            await session.receive(.ping("4"), .ping("5"))
            await expectCalmed(session, "too_many_pings")
        }
    }

    @Test func `rule 24: a client that measures a stream which flows is not held up`() async throws {
        try await withSession(echoMethods, clock: ManualClock()) { session in
            await session.receive(.headers(1, .request("/t/Update")))
            for index in 0..<500 {
                // As grpc-go does to size its windows: a PING for data that came.
                await session.receive(.data(1, framedText("m")))
                await session.receive(.ping("\(index)"))
                await session.advance(by: .milliseconds(1))
            }
            #expect(await session.look { $0.pingAcks.count } == 500)
            await expectServed(session, 3)
        }
    }

    @Test func `rule 24: a client's keepalive that keeps to the interval goes on for a day`() async throws {
        try await withSession(echoMethods, clock: ManualClock()) { session in
            await session.receive(.headers(1, .request("/t/Collect")))
            for index in 0..<288 {
                await session.receive(.ping("\(index)"))
                await session.advance(by: .seconds(5 * 60))
            }
            await expectServed(session, 3)
        }
    }
}
