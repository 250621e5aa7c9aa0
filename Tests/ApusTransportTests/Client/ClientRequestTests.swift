import ApusBase
import ApusEventLoop
import TestSupport
import Testing

@testable import ApusTransport

/// What a client sends.
@Suite(.timeLimit(.minutes(1))) struct ClientRequestTests {
    @Test func `the connection begins with the preface and what the client asks for`() async throws {
        var limits = ClientLimits()
        limits.http2.streamWindowBytes = 123_456
        limits.http2.connectionWindowBytes = 234_567
        limits.http2.maxHeaderListBytes = 5000
        try await withChannel(limits) { client in
            let connection = try await client.connect()
            try await connection.roundTrip()
            // INITIAL_WINDOW_SIZE, MAX_HEADER_LIST_SIZE, ENABLE_PUSH, NO_RFC7540_PRIORITIES; nothing of the streams
            // that only a server could open.
            #expect(connection.input.settings == [4: 123_456, 6: 5000, 2: 0, 9: 1])
            #expect(connection.input.connectionCredit == 234_567 - 65_535)
            #expect(connection.input.settingsAcks == 1)
        }
    }

    @Test func `a request's head has the fields that gRPC asks for, in its order, and no others`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            let call = client.startUnary("hello")
            let request = try await connection.waitForEnd(of: 1)
            #expect(
                request.head == [
                    ":method": "POST", ":scheme": "http", ":path": "/t/Unary",
                    ":authority": "127.0.0.1:\(client.server.port)", "te": "trailers",
                    "content-type": "application/grpc", "user-agent": client.channel.limits.userAgent,
                ]
            )
            #expect(request.body == framed(Array("hello".utf8)))
            try connection.answer(1, "hello")
            #expect(await call.value.text == "hello")
        }
    }

    @Test func `metadata follows the head, in order, binary values in base64 without padding`() async throws {
        var limits = ClientLimits()
        limits.authority = "elsewhere"
        limits.userAgent = "mine/1"
        try await withChannel(limits) { client in
            let connection = try await client.connect()
            var metadata: Metadata = ["b": "2", "A": "1", "b": "3"]
            metadata.add(bytes: [1], for: "x-bin")
            metadata.add(bytes: [], for: "y-bin")
            let call = client.startUnary("", CallOptions(timeout: .seconds(1000), metadata: metadata))
            let head = try #require(try await connection.waitForEnd(of: 1).head)
            #expect(
                head.names == [
                    ":method", ":scheme", ":path", ":authority", "te", "content-type", "user-agent", "grpc-timeout",
                    "b", "a", "b", "x-bin", "y-bin",
                ]
            )
            #expect(head[":authority"] == "elsewhere")
            #expect(head["user-agent"] == "mine/1")
            #expect(head.values("b") == ["2", "3"])
            #expect(head["x-bin"] == "AQ")
            #expect(head["y-bin"] == "")
            try connection.answer(1, "")
            #expect(await call.value.text == "")
        }
    }

    /// How each field of a block is represented: the bits that RFC 7541 §6 sets at its start.
    private func representations(of block: [UInt8]) -> [UInt8] {
        var rest = block[...]
        func integer(_ prefixBits: Int) -> Int {
            let limit = 1 << prefixBits - 1
            var value = Int(rest.popFirst() ?? 0) & limit
            guard value == limit else { return value }
            var shift = 0
            while let byte = rest.popFirst() {
                value += Int(byte & 0x7F) << shift
                shift += 7
                if byte & 0x80 == 0 { break }
            }
            return value
        }
        var kinds: [UInt8] = []
        while let first = rest.first {
            let (kind, prefixBits): (UInt8, Int) =
                first & 0x80 != 0 ? (0x80, 7) : first & 0x40 != 0 ? (0x40, 6) : (first & 0xF0, 4)
            kinds.append(kind)
            let index = integer(prefixBits)
            if kind == 0x80 { continue }
            for _ in 0..<(index == 0 ? 2 : 1) {
                let count = integer(7)
                rest = rest.dropFirst(count)
            }
        }
        return kinds
    }

    @Test func `a deadline is sent as what is left of it, and never enters the table of header fields`() async throws {
        let clock = ManualClock()
        try await withChannel(clock: clock) { client in
            let connection = try await client.connect()
            for stream in [1, 3, 5] as [UInt32] {
                let call = client.startUnary("x", .timeout(.milliseconds(1500)))
                let request = try await connection.waitForEnd(of: stream)
                #expect(request.head?["grpc-timeout"] == "1500000u")
                let kinds = representations(of: request.headBlock)
                #expect(kinds.count == 8)
                // A literal that is never indexed, and nothing that is new once the first request has been seen.
                #expect(kinds.last == 0x10)
                if stream > 1 { #expect(!kinds.contains(0x40)) }
                try connection.answer(stream, "x")
                #expect(await call.value.text == "x")
            }
        }
    }

    @Test func `a call that waited tells the server what is left of its time`() async throws {
        let clock = ManualClock()
        try await withChannel(clock: clock) { client in
            let call = await client.beginUnary("x", .timeout(.seconds(10)))
            await client.advance(by: .seconds(4))
            let left = await client.run { 10_000_000_000 - client.loop.now.nanoseconds }
            let connection = try await client.accept()
            let text = try #require(try await connection.waitForEnd(of: 1).head?["grpc-timeout"])
            // The finest unit that fits in eight digits, rounded up.
            #expect(text == "\((left + 999) / 1000)u")
            try connection.answer(1, "x")
            #expect(await call.value.text == "x")
        }
    }

    @Test func `END_STREAM is on the last DATA frame, and an empty message is a message`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            let call = client.startUnary("")
            let request = try await connection.waitForEnd(of: 1)
            #expect(request.frameTypes == [Frame.headers, Frame.data])
            #expect(request.body == [0, 0, 0, 0, 0])
            #expect(request.endedBy == Frame.data)
            try connection.answer(1, "")
            #expect(await call.value.text == "")
        }
    }

    @Test func `a request larger than a frame ends with the last of its frames`() async throws {
        try await withChannel { client in
            let connection = try await client.connect(opening: Frame.openingWithLargeWindows)
            let text = String(repeating: "abcdefgh", count: 50_000)
            let call = client.startUnary(text)
            let request = try await connection.waitForEnd(of: 1)
            #expect(request.texts == [text])
            #expect(request.dataSizes.dropLast().allSatisfy { $0 > 0 && $0 <= 16_384 })
            #expect(request.dataSizes.last != 0)
            try connection.answer(1, "x")
            #expect(await call.value.text == "x")
        }
    }

    @Test func `a stream without messages left is ended by an empty DATA frame`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            let call = client.startStreaming()
            try await call.write("one")
            try await connection.wait(for: "the message") { $0.requests[1]?.texts == ["one"] }
            try await connection.roundTrip()
            #expect(!connection.request(1).hasEnded)
            call.finishWriting()
            let request = try await connection.waitForEnd(of: 1)
            #expect(request.dataSizes == [8, 0])
            #expect(request.endedBy == Frame.data)
            try connection.answer(1)
            #expect(await call.all().code == .ok)
        }
    }

    @Test func `a stream without any message is a head and an empty DATA frame`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            let call = client.startStreaming()
            call.finishWriting()
            let request = try await connection.waitForEnd(of: 1)
            #expect(request.frameTypes == [Frame.headers, Frame.data])
            #expect(request.body == [])
            try connection.answer(1)
            #expect(await call.all().code == .ok)
        }
    }

    // MARK: Limits

    @Test func `a header list over what the server takes is not sent, and the call is told the sizes`() async throws {
        try await withChannel { client in
            // MAX_HEADER_LIST_SIZE
            let connection = try await client.connect(opening: [.settings([6: 1000])])
            let result = await client.unary("x", .metadata(["key": String(repeating: "v", count: 1000)]))
            #expect(result.code == .resourceExhausted)
            #expect(result.message.contains("1000"), "\(result.message)")
            try await connection.roundTrip()
            #expect(connection.input.streams == [])
            let next = client.startUnary()
            try await connection.waitForEnd(of: 1)
            try connection.answer(1, "x")
            #expect(await next.value.text == "x")
        }
    }

    @Test func `a header list just within what the server takes is sent`() async throws {
        let authority = "127.0.0.1:1"
        var limits = ClientLimits()
        limits.authority = authority
        let fixed = RequestTemplate(path: "/t/Unary", scheme: "http", authority: authority, userAgent: limits.userAgent)
        try await withChannel(limits) { client in
            let connection = try await client.connect(opening: [.settings([6: 1000])])
            let room = 1000 - fixed.listBytes - 32 - 3
            let tooMuch = await client.unary("x", .metadata(["key": String(repeating: "v", count: room + 1)]))
            #expect(tooMuch.code == .resourceExhausted)
            let call = client.startUnary("x", .metadata(["key": String(repeating: "v", count: room)]))
            try await connection.waitForEnd(of: 1)
            try connection.answer(1, "x")
            #expect(await call.value.text == "x")
        }
    }

    @Test func `what is over the limit of a request, or cannot be sent, is refused before anything is`() async throws {
        var limits = ClientLimits()
        limits.maxRequestBytes = 10
        try await withChannel(limits) { client in
            #expect(await client.unary("12345678901").code == .resourceExhausted)
            #expect(await client.unary("12345678901", CallOptions(maxRequestBytes: 10)).code == .resourceExhausted)
            #expect(await client.unaryWithMetadata("12345678901").code == .resourceExhausted)
            let reserved = await client.unary("x", .metadata(["grpc-status": "0"]))
            #expect(reserved.code == .internal)
            #expect(reserved.message.contains("grpc-status"))
            let streaming = client.startStreaming(.metadata(["bad key": "0"]))
            #expect(await streaming.all().code == .internal)
            #expect(client.channel.connectivity == .idle)

            let connection = try await client.connect()
            let allowed = client.startUnary("12345678901", CallOptions(maxRequestBytes: 11))
            #expect(try await connection.waitForEnd(of: 1).texts == ["12345678901"])
            try connection.answer(1, "x")
            #expect(await allowed.value.text == "x")
        }
    }

    @Test func `a message over the limit is refused, and its stream goes on`() async throws {
        var limits = ClientLimits()
        limits.maxRequestBytes = 10
        try await withChannel(limits) { client in
            let connection = try await client.connect()
            let call = client.startStreaming()
            try await call.write("1234567890")
            let error = await #expect(throws: RPCError.self) { try await call.write("12345678901") }
            #expect(error?.code == .resourceExhausted)
            try await call.write("after")
            call.finishWriting()
            #expect(try await connection.waitForEnd(of: 1).texts == ["1234567890", "after"])
            try connection.answer(1)
            #expect(await call.all().code == .ok)
        }
    }
}
