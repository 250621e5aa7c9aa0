import ApusBase
import TestSupport
import Testing

@testable import ApusTransport

/// How a client reads what a server answers, rule by rule.
@Suite(.timeLimit(.minutes(1))) struct ClientResponseTests {
    /// Makes a call that the server answers with the frames given.
    private func outcome(
        limits: ClientLimits = ClientLimits(),
        options: CallOptions = CallOptions(),
        _ frames: [Frame]
    ) async throws -> ClientHarness.Outcome {
        let result = Mutexed<ClientHarness.Outcome?>(nil)
        try await withChannel(limits) { client in
            let connection = try await client.connect()
            let call = Task { await client.unaryWithMetadata("x", options) }
            try await connection.waitForEnd(of: 1)
            try connection.send(frames)
            let value = await call.value
            result.update { $0 = value }
            // Whatever it was, the connection lives on.
            let next = client.startUnary()
            try await connection.waitForEnd(of: 3)
            try connection.answer(3, "next")
            #expect(await next.value.text == "next")
        }
        return try #require(result.value)
    }

    private let head = Frame.headers(1, .responseHead)
    private let message = Frame.data(1, framed(Array("m".utf8)))
    private func trailers(_ fields: Fields) -> Frame { .headers(1, fields, endStream: true) }

    @Test func `head, message and trailers become a response with its metadata`() async throws {
        let result = try await outcome([
            .headers(1, .responseHead + ["initial": "1", "grpc-hidden": "x", "a-bin": "AQ=="]), message,
            trailers(.trailers() + ["trailing": "2"]),
        ])
        #expect(result.text == "m")
        #expect(result.initialMetadata["initial"] == "1")
        #expect(result.initialMetadata.bytes(for: "a-bin") == [[1]])
        #expect(result.initialMetadata.count == 2)
        #expect(result.trailers == ["trailing": "2"])
    }

    // MARK: rule 7

    @Test func `rule 7: a unary call without a response, or with two, is UNIMPLEMENTED when its status is OK`()
        async throws
    {
        let none = try await outcome([head, trailers(.trailers() + ["t": "1"])])
        #expect(none.code == .unimplemented)
        #expect(none.message.contains("no response message"))
        #expect(none.trailers == ["t": "1"])
        let two = try await outcome([head, message, message, trailers(.trailers())])
        #expect(two.code == .unimplemented)
        #expect(two.message.contains("more than one response message"))
        let trailersOnly = try await outcome([.headers(1, .responseHead + .trailers(), endStream: true)])
        #expect(trailersOnly.code == .unimplemented)
    }

    @Test func `rule 7: the server's own status counts for more than the number of its messages`() async throws {
        for count in [0, 1, 2] {
            let messages = [Frame](repeating: message, count: count)
            let result = try await outcome([head] + messages + [trailers(.trailers(5, "gone"))])
            #expect(result.code == .notFound)
            #expect(result.message == "gone")
            #expect(result.error?.origin == .peer)
        }
    }

    @Test func `rule 7: an empty message is a message`() async throws {
        let result = try await outcome([head, .data(1, framed([])), trailers(.trailers())])
        #expect(result.text == "")
    }

    // MARK: rules 14, 15

    @Test func `rule 14: a response over the limit is RESOURCE_EXHAUSTED from its length alone`() async throws {
        var limits = ClientLimits()
        limits.maxResponseBytes = 10
        let large = Frame.data(1, [0] + bigEndian(11))
        let result = try await outcome(limits: limits, [head, large])
        #expect(result.code == .resourceExhausted)
        #expect(result.message.contains("11") && result.message.contains("10"))
        #expect(result.error?.origin == .local)
        let exact = Frame.data(1, framed(Array("1234567890".utf8)))
        #expect(try await outcome(limits: limits, [head, exact, trailers(.trailers())]).text == "1234567890")
        let raised = CallOptions(maxResponseBytes: 11)
        let eleven = Frame.data(1, framed(Array("12345678901".utf8)))
        #expect(
            try await outcome(limits: limits, options: raised, [head, eleven, trailers(.trailers())]).text
                == "12345678901"
        )
    }

    @Test func `rule 15: a response cut short in its message is INTERNAL`() async throws {
        for count in 1...5 {
            let cut = Frame.data(1, Array(framed([7]).prefix(count)))
            let result = try await outcome([head, cut, trailers(.trailers())])
            #expect(result.code == .internal, "after \(count) bytes")
            #expect(result.message.contains("in the middle of a message"))
        }
        // A status that says more is kept.
        let status = try await outcome([head, .data(1, [0, 0]), trailers(.trailers(10, "no"))])
        #expect(status.code == .aborted)
    }

    @Test func `rules 12 and 13: a flag that is not known, or names no encoding, is INTERNAL`() async throws {
        let unknown = try await outcome([head, .data(1, framed([1], flag: 2)), trailers(.trailers())])
        #expect(unknown.code == .internal)
        let compressed = try await outcome([head, .data(1, framed([1], flag: 1)), trailers(.trailers())])
        #expect(compressed.code == .internal)
        #expect(compressed.message.contains("no encoding was declared"))
        let gzip = Frame.headers(1, .responseHead + ["grpc-encoding": "gzip"])
        let unsupported = try await outcome([gzip, .data(1, framed([1], flag: 1)), trailers(.trailers())])
        #expect(unsupported.code == .internal)
        #expect(unsupported.message.contains("gzip"))
        // An encoding that is declared and not used is no fault.
        #expect(try await outcome([gzip, message, trailers(.trailers())]).text == "m")
    }

    // MARK: rules 16, 17

    @Test func `rule 16: Trailers-Only is one head, and its metadata are trailers`() async throws {
        let fields = Fields.responseHead + .trailers(9, "not%20now") + ["t": "1"]
        let result = try await outcome([.headers(1, fields, endStream: true)])
        #expect(result.code == .failedPrecondition)
        #expect(result.message == "not now")
        #expect(result.initialMetadata.isEmpty)
        #expect(result.trailers == ["t": "1"])
        #expect(result.error?.metadata == ["t": "1"])
        #expect(result.error?.origin == .peer)
    }

    @Test func `rule 16: grpc-status in a head that something follows is ignored`() async throws {
        let result = try await outcome([
            .headers(1, .responseHead + .trailers(13, "x")), message, trailers(.trailers()),
        ])
        #expect(result.text == "m")
    }

    @Test func `rule 16: informational heads are skipped, and end no stream`() async throws {
        let early = Frame.headers(1, [":status": "103", "link": "x"])
        let result = try await outcome([early, early, head, message, trailers(.trailers())])
        #expect(result.text == "m")
        #expect(result.initialMetadata.isEmpty)
        let last = Frame.headers(1, [":status": "100"], endStream: true)
        #expect(try await outcome([last]).code == .internal)
    }

    @Test func `rule 16: a second head without END_STREAM is INTERNAL`() async throws {
        #expect(try await outcome([head, message, .headers(1, ["grpc-status": "0"])]).code == .internal)
    }

    @Test func `rule 17: an end without trailers is INTERNAL`() async throws {
        let result = try await outcome([head, .data(1, framed(Array("m".utf8)), endStream: true)])
        #expect(result.code == .internal)
        #expect(result.message.contains("without trailers"))
    }

    private static let oddStatuses: [(Fields, String)] = [
        (Fields(), "no grpc-status"), (["grpc-status": ""], "not a number"), (["grpc-status": "x"], "not a number"),
        (["grpc-status": "-1"], "not a number"), (["grpc-status": "17"], "17"),
        (["grpc-status": "99999999999"], "not a number"),
    ]

    @Test(arguments: oddStatuses)
    func `rule 17: a status that is missing, or makes no sense, is UNKNOWN`(fields: Fields, why: String) async throws {
        let result = try await outcome([head, message, trailers(fields + ["t": "1"])])
        #expect(result.code == .unknown)
        #expect(result.message.contains(why), "\(result.message)")
        #expect(result.trailers == ["t": "1"])
    }

    // MARK: rule 18

    private static let statuses: [(String, StatusCode)] = [
        ("400", .internal), ("401", .unauthenticated), ("403", .permissionDenied), ("404", .unimplemented),
        ("429", .unavailable), ("502", .unavailable), ("503", .unavailable), ("504", .unavailable), ("500", .unknown),
        ("418", .unknown), ("302", .unknown), ("200", .unknown),
    ]

    @Test(arguments: statuses)
    func `rule 18: an answer that is not gRPC's is judged by its HTTP status`(status: String, code: StatusCode)
        async throws
    {
        let html: Fields = [":status": status, "content-type": "text/html"]
        let withBody = try await outcome([.headers(1, html), .data(1, Array("<html>".utf8), endStream: true)])
        #expect(withBody.code == code)
        #expect(withBody.message.contains(status) && withBody.message.contains("text/html"))
        #expect(try await outcome([.headers(1, html, endStream: true)]).code == code)
        #expect(try await outcome([.headers(1, [":status": status], endStream: true)]).code == code)
        guard status != "200" else { return }
        // A gRPC content type, and no grpc-status.
        let grpc: Fields = [":status": status, "content-type": "application/grpc"]
        #expect(try await outcome([.headers(1, grpc, endStream: true)]).code == code)
        #expect(try await outcome([.headers(1, grpc), trailers(["t": "1"])]).code == code)
        #expect(try await outcome([.headers(1, grpc), .data(1, [], endStream: true)]).code == code)
        // One that is there counts for more.
        #expect(try await outcome([.headers(1, grpc + .trailers(10), endStream: true)]).code == .aborted)
        #expect(try await outcome([.headers(1, grpc), trailers(.trailers(10))]).code == .aborted)
    }

    // MARK: rule 19

    @Test(arguments: [
        ("a%20b", "a b"), ("100%", "100%"), ("%zz%4", "%zz%4"), ("%E2%82%AC", "€"), ("%FF", "\u{FFFD}"), ("", ""),
        ("%0A", "\n"),
    ])
    func `rule 19: the message is decoded, and decoding never fails`(encoded: String, text: String) async throws {
        let result = try await outcome([head, trailers(["grpc-status": "2", "grpc-message": encoded])])
        #expect(result.code == .unknown)
        #expect(result.message == text)
    }

    // MARK: rule 20

    private static let resets: [(UInt32, StatusCode)] = [
        (0, .internal), (1, .internal), (2, .internal), (3, .internal), (4, .internal), (5, .unknown), (6, .internal),
        (8, .cancelled), (9, .internal), (10, .internal), (11, .resourceExhausted), (12, .permissionDenied),
        (13, .unknown), (99, .unknown),
    ]

    @Test(arguments: resets)
    func `rule 20: a reset stream becomes a status`(reset: UInt32, code: StatusCode) async throws {
        let result = try await outcome([.reset(1, code: reset)])
        #expect(result.code == code)
        #expect(result.error?.origin == .peer)
        #expect(try await outcome([head, message, .reset(1, code: reset)]).code == code)
    }

    // MARK: rule 8, 10, 11

    @Test func `rule 8: a header list over the limit ends its call alone`() async throws {
        var limits = ClientLimits()
        limits.http2.maxHeaderListBytes = 1024
        limits.http2.maxHeaderFields = 10
        let large: Fields = ["large": String(repeating: "x", count: 1024)]
        var many = Fields()
        for index in 0..<10 { many.add("m\(index)", "") }
        for more in [large, many] {
            let inHead = try await outcome(
                limits: limits,
                [.headers(1, .responseHead + more), message, trailers(.trailers())]
            )
            #expect(inHead.code == .resourceExhausted)
            #expect(inHead.initialMetadata.isEmpty)
            let inTrailers = try await outcome(limits: limits, [head, message, trailers(.trailers() + more)])
            #expect(inTrailers.code == .resourceExhausted)
            #expect(inTrailers.trailers.isEmpty)
        }
        // ":status" "200", "content-type" "application/grpc", and one that fills the rest.
        let rest = 1024 - (7 + 3 + 32) - (12 + 16 + 32) - 32 - 1
        let full: Fields = ["f": String(repeating: "x", count: rest)]
        let fits = try await outcome(
            limits: limits,
            [.headers(1, .responseHead + full), message, trailers(.trailers())]
        )
        #expect(fits.text == "m")
    }

    @Test func `rules 10 and 11: what metadata cannot be fails its call alone`() async throws {
        let binary = try await outcome([.headers(1, .responseHead + ["a-bin": "!"]), message, trailers(.trailers())])
        #expect(binary.code == .internal)
        #expect(binary.message.contains("base64"))
        let control = try await outcome([.headers(1, .responseHead + ["a": "x\ny"]), message, trailers(.trailers())])
        #expect(control.code == .internal)
        var odd = Fields.responseHead
        odd.add("a", bytes: [0x80, 0x09, 0xFF])
        let accepted = try await outcome([.headers(1, odd), message, trailers(.trailers())])
        #expect(accepted.text == "m")
    }

    @Test func `messages come in frames of any size`() async throws {
        let bytes = framed(Array("hello".utf8))
        for size in 1...bytes.count {
            var frames = [head]
            var rest = bytes[...]
            while !rest.isEmpty {
                frames += [.data(1, Array(rest.prefix(size))), .data(1, [])]
                rest = rest.dropFirst(size)
            }
            #expect(try await outcome(frames + [trailers(.trailers())]).text == "hello")
        }
    }
}
