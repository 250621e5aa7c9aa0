import ApusBase
import TestSupport
import Testing

@testable import ApusTransport

/// Heads of requests: what is refused, and what of one head is seen in the next.
@Suite(.timeLimit(.minutes(1))) struct ServerSessionHeadTests {
    /// Answers with what the handler sees of the head.
    private static func report(_ name: String) -> ServedMethod {
        method(
            name,
            .synchronousUnary { _, context in
                let timed = context.timeRemaining == nil ? "" : " timed"
                return Array("\(context.method) \(context.authority) \(context.metadata)\(timed)".utf8)
            }
        )
    }

    private let methods = [report("A"), report("B")]

    private func refused(_ head: Fields, endStream: Bool = true) async throws -> Answer {
        let notes = Notes()
        let noting = method("Note", .bidirectionalStreaming { _ in notes.add("ran") })
        var answer = Answer()
        try await withSession(methods + [noting]) { session in
            await session.receive(.headers(1, head, endStream: endStream))
            answer = await session.answer(1)
            let next = await session.call(3, "/t/A")
            #expect(next.status == 0, "the connection lives on")
        }
        #expect(notes.all == [])
        return answer
    }

    // MARK: Refusals

    @Test func `a method other than POST is refused with 405`() async throws {
        var head = Fields.request("/t/Note")
        head.list[0].value = Array("GET".utf8)
        let answer = try await refused(head)
        #expect(answer.head?[":status"] == "405")
        #expect(answer.head?["allow"] == "POST")
        #expect(answer.isTrailersOnly)
    }

    @Test(arguments: ["text/html", "application/json", "application/grpc-web", "application/grpcish"])
    func `another content type is refused with 415`(type: String) async throws {
        var head = Fields.request("/t/Note")
        head.list.removeLast()
        head.add("content-type", type)
        let answer = try await refused(head)
        #expect(answer.head?[":status"] == "415")
        #expect(answer.isTrailersOnly)
    }

    @Test func `no content type is refused with 415`() async throws {
        var head = Fields.request("/t/Note")
        head.list.removeLast()
        #expect(try await refused(head).head?[":status"] == "415")
    }

    @Test(arguments: ["/t/Missing", "/other/Note", "/t/Note/", "/", "/t"])
    func `a path that is not served is UNIMPLEMENTED`(path: String) async throws {
        let answer = try await refused(.request(path))
        #expect(answer.status == 12)
        #expect(answer.head?[":status"] == "200")
        #expect(answer.reset == nil)
    }

    @Test func `a request that goes on after its refusal is stopped without an error`() async throws {
        let answer = try await refused(.request("/t/Missing"), endStream: false)
        #expect(answer.status == 12)
        #expect(answer.reset == ErrorCode.noError)
        #expect(answer.frameTypes == [Frame.headers, Frame.reset])
    }

    @Test func `an encoding that is not supported is UNIMPLEMENTED, with those that are`() async throws {
        let answer = try await refused(.request("/t/Note", ["grpc-encoding": "br"]))
        #expect(answer.status == 12)
        #expect(answer.head?["grpc-accept-encoding"] == "identity,gzip,deflate")
    }

    @Test(arguments: [("5x", 13), ("", 13), ("0S", 4), ("0n", 4)])
    func `a deadline that is malformed or passed keeps the handler from starting`(timeout: String, code: Int)
        async throws
    {
        #expect(try await refused(.request("/t/Note", ["grpc-timeout": timeout])).status == code)
    }

    @Test func `metadata that is not base64 fails its stream alone`() async throws {
        #expect(try await refused(.request("/t/Note", ["k-bin": "*"])).status == 13)
    }

    @Test func `a header list over the limit is refused with 431`() async throws {
        let answer = try await refused(.request("/t/Note", ["k": String(repeating: "v", count: 9000)]))
        #expect(answer.head?[":status"] == "431")
        #expect(answer.status == 8)
    }

    @Test func `a list of too many fields is refused with 431`() async throws {
        var head = Fields.request("/t/Note")
        for _ in 0..<130 { head.add("k", "") }
        #expect(try await refused(head).head?[":status"] == "431")
    }

    @Test(arguments: ["a\u{1}b", "a\rb", "a\nb", "a\0b"])
    func `a value with a byte that HTTP/2 forbids resets the stream, and no handler runs`(value: String) async throws {
        for endStream in [true, false] {
            let answer = try await refused(.request("/t/Note", ["k": value]), endStream: endStream)
            #expect(answer.reset == ErrorCode.protocolError)
        }
    }

    @Test func `a malformed head resets the stream, and no handler runs`() async throws {
        let heads: [Fields] = [
            .request("/t/Note", ["connection": "close"]), .request("/t/Note", ["te": "gzip"]), .request("no-slash"),
            .request("/t/Note", [":late": "x"]), .request("/t/Note", ["Upper": "x"]),
            .request("/t/Note", ["host": "a", "host": "b"]),
        ]
        for head in heads { #expect(try await refused(head).reset == ErrorCode.protocolError, "\(head.names)") }
    }

    // MARK: One head after another

    @Test func `a path first seen in a refused request is looked up all the same`() async throws {
        var wrongMethod = Fields.request("/t/B")
        wrongMethod.list[0].value = Array("GET".utf8)
        var wrongType = Fields.request("/t/B")
        wrongType.list[5].value = Array("text/html".utf8)
        let refusals: [Fields] = [
            wrongMethod, wrongType, .request("/t/B", ["grpc-timeout": "x"]), .request("/t/B", ["k-bin": "*"]),
            .request("/t/B", ["k": "a\u{1}"]), .request("/t/B", ["k": String(repeating: "v", count: 9000)]),
            .request("/t/B", ["grpc-encoding": "gzip"]), .request("/t/B", ["connection": "close"]),
        ]
        for refusal in refusals {
            try await withSession(methods) { session in
                let first = await session.call(1, "/t/A")
                #expect(first.text?.hasPrefix("t/A ") == true)
                await session.receive(.headers(3, refusal, endStream: true))
                let second = await session.call(5, "/t/B")
                #expect(second.text?.hasPrefix("t/B ") == true, "\(refusal.names)")
                let missing = await session.call(7, "/t/C")
                #expect(missing.status == 12)
            }
        }
    }

    @Test func `a path that is not served stays so when it comes again`() async throws {
        try await withSession(methods) { session in
            for stream in stride(from: UInt32(1), to: 20, by: 2) {
                let path = stream % 4 == 1 ? "/t/A" : "/t/Missing"
                #expect(await session.call(stream, path).status == (stream % 4 == 1 ? 0 : 12))
            }
        }
    }

    @Test func `a refused stream's head is not taken for that of the next`() async throws {
        var limits = ServerLimits()
        limits.maxHandlersPerConnection = 1
        let hold = method("Hold", .clientStreaming { call in try await call.next() ?? [] })
        try await withSession(methods + [hold], limits: limits) { session in
            await session.receive(.headers(1, .request("/t/Hold")))
            await session.receive(.headers(3, .request("/t/B", ["k": "refused"])))
            #expect(await session.answer(3).reset == ErrorCode.refusedStream)
            await session.receive(.data(1, framedText("m"), endStream: true))
            #expect(await session.call(5, "/t/A", "x", ["k": "v"]).text == "t/A test [k: v]")
        }
    }

    /// Heads that are alike and differ here and there, as literals and as indices into HPACK's table, some of them
    /// refused: each is answered as if it were alone on its connection.
    @Test(arguments: [true, false])
    func `a sequence of heads, alike and not, is answered as each alone would be`(indexing: Bool) async throws {
        var random = RandomSource(seed: indexing ? 18 : 19)
        var limits = ServerLimits()
        limits.http2.maxHeaderListBytes = 1024
        try await withSession(methods, limits: limits) { session in
            var encoder = IndexingEncoder()
            var stream: UInt32 = 1
            for _ in 0..<60 {
                var frames: [Frame] = []
                var expected: [UInt32: String] = [:]
                for _ in 0..<40 {
                    let head = RandomHead(&random)
                    let frame = indexing ? encoder.frame(stream, head.fields) : .headers(stream, head.fields)
                    frames += [frame, .data(stream, framed([]), endStream: true)]
                    expected[stream] = head.expectedAnswer
                    stream += 2
                }
                await session.receive(frames)
                for (stream, expectation) in expected {
                    let answer = await session.answer(stream)
                    let reset = answer.reset == ErrorCode.protocolError ? "reset" : nil
                    let seen = reset ?? (answer.status == 0 ? answer.text : answer.status.map { "status \($0)" })
                    #expect(seen == expectation, "stream \(stream)")
                }
            }
        }
    }
}

/// A head of a call of `t/A` or `t/B` that is much like the others, and what becomes of it.
private struct RandomHead {
    var fields = Fields()
    var expectedAnswer = ""

    init(_ random: inout RandomSource) {
        func oneIn(_ count: Int) -> Bool { Int.random(in: 0..<count, using: &random) == 0 }
        let name = oneIn(4) ? "B" : "A"
        let path = oneIn(12) ? "/t/C" : "/t/\(name)"
        let authority = oneIn(6) ? "other" : "test"
        let isPost = !oneIn(12)
        let isGRPC = !oneIn(12)
        fields = [":method": isPost ? "POST" : "GET", ":scheme": "http", ":path": path, ":authority": authority]
        fields.add("te", "trailers")
        fields.add("content-type", isGRPC ? (oneIn(6) ? "application/grpc+x" : "application/grpc") : "text/plain")
        var timeout = ""
        if !oneIn(3) {
            timeout = oneIn(10) ? "bad" : oneIn(10) ? "0S" : "\(Int.random(in: 100...999, using: &random))S"
            fields.add("grpc-timeout", timeout)
        }
        var metadata: [String] = []
        for index in 0..<Int.random(in: 0...4, using: &random) {
            let key = oneIn(5) ? "x" : "key\(index)"
            let value = oneIn(5) ? "other" : "value\(index)"
            fields.add(key, value)
            metadata.append("\(key): \(value)")
        }
        let isHuge = oneIn(15)
        if isHuge { fields.add("huge", String(repeating: "h", count: 1100)) }
        let isInvalid = oneIn(15)
        if isInvalid { fields.add("invalid", "a\u{1}") }
        let isNotBase64 = oneIn(15)
        if isNotBase64 { fields.add("k-bin", "*") }
        if oneIn(4) {
            fields.add("k-bin", "AAE")
            metadata.append("k-bin: 0x0001")
        }
        let problems: [(Bool, String)] = [
            (isInvalid, "reset"), (isHuge, "status 8"), (!isPost, "status 13"), (!isGRPC, "status 3"),
            (timeout == "bad", "status 13"), (isNotBase64, "status 13"), (path == "/t/C", "status 12"),
            (timeout == "0S", "status 4"),
        ]
        let answer = "t/\(name) \(authority) [\(metadata.joined(separator: ", "))]" + (timeout.isEmpty ? "" : " timed")
        expectedAnswer = problems.first { $0.0 }?.1 ?? answer
    }
}
