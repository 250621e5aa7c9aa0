import ApusBase
import TestSupport
import Testing

@testable import ApusTransport

/// Calls of every shape that go as they should.
@Suite(.timeLimit(.minutes(1))) struct ServerSessionCallTests {
    @Test func `the server's SETTINGS say what it was configured with`() async throws {
        var limits = ServerLimits()
        limits.http2.maxConcurrentStreams = 7
        limits.http2.streamWindowBytes = 12_345
        limits.http2.connectionWindowBytes = 100_000
        limits.http2.maxHeaderListBytes = 2048
        try await withSession(echoMethods, limits: limits) { session in
            let settings = await session.look { $0.settings }
            #expect(settings?[3] == 7)
            #expect(settings?[4] == 12_345)
            #expect(settings?[6] == 2048)
            #expect(settings?[2] == 0)
            #expect(settings?[9] == 1)
            let credit = await session.look { $0.connectionCredit }
            #expect(credit == 100_000 - 65_535)
            let acks = await session.look { $0.settingsAcks }
            #expect(acks == 1)
        }
    }

    @Test(arguments: ["Sync", "Unary"])
    func `a unary call is answered with a head, its message and OK`(name: String) async throws {
        try await withSession(echoMethods) { session in
            let answer = await session.call(1, "/t/\(name)", "hello")
            #expect(answer.head?[":status"] == "200")
            #expect(answer.head?["content-type"] == "application/grpc")
            #expect(answer.text == "hello")
            #expect(answer.status == 0)
            #expect(answer.message == nil)
            #expect(answer.reset == nil)
        }
    }

    @Test(arguments: ["Sync", "Unary"])
    func `a request that comes byte by byte is the same request`(name: String) async throws {
        try await withSession(echoMethods) { session in
            let frames: [Frame] = [
                .headers(1, .request("/t/\(name)", ["k": "v"])), .data(1, framedText("hello")),
                .data(1, [], endStream: true),
            ]
            for byte in frames.bytes { await session.run { session.take([byte]) } }
            await session.loop.settle()
            let answer = await session.answer(1)
            #expect(answer.text == "hello")
            #expect(answer.status == 0)
        }
    }

    @Test func `an empty message is a message`() async throws {
        try await withSession(echoMethods) { session in
            let answer = await session.call(1, "/t/Unary", "")
            #expect(answer.messages == [[]])
            #expect(answer.status == 0)
        }
    }

    @Test func `a client-streaming handler waits for messages as they come`() async throws {
        try await withSession(echoMethods) { session in
            await session.receive(.headers(1, .request("/t/Collect")))
            for text in ["a", "b", "c"] {
                await session.receive(.data(1, framedText(text)))
                let answer = await session.answer(1)
                #expect(answer.head == nil)
            }
            // Two at once, one of them in two pieces.
            let two = framedText("dd") + framedText("ee")
            await session.receive(.data(1, Array(two.prefix(9))))
            await session.receive(.data(1, Array(two.dropFirst(9))))
            await session.receive(.data(1, [], endStream: true))
            let answer = await session.answer(1)
            #expect(answer.text == "a.b.c.dd.ee.")
            #expect(answer.status == 0)
        }
    }

    @Test func `a request stream of no messages is one`() async throws {
        try await withSession(echoMethods) { session in
            await session.receive(.headers(1, .request("/t/Collect"), endStream: true))
            await session.receive(.headers(3, .request("/t/Update")), .data(3, [], endStream: true))
            #expect(await session.answer(1).text == "")
            #expect(await session.answer(3).status == 0)
        }
    }

    @Test func `a bidirectional call answers each message as it comes`() async throws {
        try await withSession(echoMethods) { session in
            await session.receive(.headers(1, .request("/t/Update")))
            for count in 1...5 {
                await session.receive(.data(1, framedText("m\(count)")))
                let answer = await session.answer(1)
                #expect(answer.texts == (1...count).map { "m\($0)" })
                #expect(!answer.isOver)
            }
            await session.receive(.data(1, [], endStream: true))
            let answer = await session.answer(1)
            #expect(answer.status == 0)
            #expect(answer.reset == nil)
        }
    }

    @Test func `a server-streaming call sends its messages in order, then OK`() async throws {
        try await withSession(echoMethods) { session in
            let answer = await session.call(1, "/t/Expand", "stream")
            #expect(answer.texts == ["s", "t", "r", "e", "a", "m"])
            #expect(answer.status == 0)
        }
    }

    @Test func `a server-streaming call without messages is Trailers-Only`() async throws {
        try await withSession(echoMethods) { session in
            let answer = await session.call(1, "/t/Expand", "")
            #expect(answer.isTrailersOnly)
            #expect(answer.status == 0)
        }
    }

    @Test func `calls of all kinds share a connection, many at once`() async throws {
        try await withSession(echoMethods) { session in
            let names = ["Sync", "Unary", "Collect", "Expand", "Update"]
            var frames: [Frame] = []
            let streams = (0..<90).map { UInt32($0 * 2 + 1) }
            for stream in streams { frames.append(.headers(stream, .request("/t/" + names[Int(stream) % 5]))) }
            for stream in streams.reversed() { frames.append(.data(stream, framedText("m\(stream)"))) }
            for stream in streams { frames.append(.data(stream, [], endStream: true)) }
            await session.receive(frames)
            for stream in streams {
                let answer = await session.answer(stream)
                #expect(answer.status == 0, "stream \(stream)")
                let all = (answer.messages ?? []).flatMap { $0 }
                #expect(text(all) == "m\(stream)" + (stream % 5 == 2 ? "." : ""), "stream \(stream)")
            }
            let (open, running) = try await session.inSession { ($0.openStreams, $0.hot.value.runningHandlers) }
            #expect(open == 0)
            #expect(running == 0)
        }
    }

    @Test func `padding is no part of a message`() async throws {
        try await withSession(echoMethods) { session in
            let body = framedText("padded")
            let padded = Frame(
                type: Frame.data,
                flags: Frame.paddedFlag,
                stream: 1,
                payload: [9] + body + .init(repeating: 0, count: 9)
            )
            await session.receive(.headers(1, .request("/t/Unary")), padded, .data(1, [], endStream: true))
            #expect(await session.answer(1).text == "padded")
        }
    }

    @Test func `trailers of the request end it`() async throws {
        try await withSession(echoMethods) { session in
            await session.receive(
                .headers(1, .request("/t/Unary")),
                .data(1, framedText("m")),
                .headers(1, ["some": "trailer"], endStream: true)
            )
            #expect(await session.answer(1).text == "m")
            // What they said is in no later head.
            let answer = await session.call(3, "/t/Sync")
            #expect(answer.status == 0)
        }
    }

    @Test func `an answer larger than the peer's window goes out as the window grows`() async throws {
        let big = method("Big", .synchronousUnary { _, _ in [UInt8](repeating: 7, count: 200_000) })
        try await withSession([big], opening: [.settings([4: 1000])]) { session in
            await session.receive(.headers(1, .request("/t/Big")), .data(1, framedText("x"), endStream: true))
            #expect(await session.answer(1).body.count == 1000)
            await session.receive(.windowUpdate(1, by: 64_535))
            // The connection's window is 65,535.
            #expect(await session.answer(1).body.count == 65_535)
            #expect(await session.answer(1).trailers == nil)
            await session.receive(.windowUpdate(1, by: 1_000_000), .windowUpdate(0, by: 1_000_000))
            let answer = await session.answer(1)
            #expect(answer.messages == [[UInt8](repeating: 7, count: 200_000)])
            #expect(answer.status == 0)
        }
    }

    /// A DATA frame that is written in place leaves room for the trailers that nghttp2 hands out behind it: the first
    /// answer moves the end of the last one, byte by byte, over the end of the buffer.
    @Test func `answers of a frame each fill the output to its end and no further`() async throws {
        let exact = method(
            "Exact",
            .synchronousUnary { message, _ in [UInt8](repeating: 9, count: 16_000 + message.count) }
        )
        for extra in stride(from: 100, through: 340, by: 1) {
            try await withSession([exact]) { session in
                let sizes = [extra, 379, 379, 379]
                let requests = sizes.enumerated().flatMap { index, size in
                    let stream = UInt32(index * 2 + 1)
                    let body = framed([UInt8](repeating: 1, count: size))
                    return [Frame.headers(stream, .request("/t/Exact")), .data(stream, body, endStream: true)]
                }
                await session.receive(requests)
                for (index, size) in sizes.enumerated() {
                    let answer = await session.answer(UInt32(index * 2 + 1))
                    #expect(answer.messages?.map(\.count) == [16_000 + size])
                    #expect(answer.status == 0)
                }
            }
        }
    }
}
