import Apus
import TestSupport
import Testing

/// The channel as an application has it, against a server of ours and against one that a test plays.
@Suite(.timeLimit(.minutes(1))) struct ChannelTests {
    /// Each shape of call, as `t/…`.
    private static let shapes = TestService { registry in
        registry.unary(.test("Unary"), request: TextCodec(), response: TextCodec()) { text, context in
            if text == "fail" { throw RPCError(code: .notFound, message: "no such thing", metadata: ["t": "f"]) }
            context.addTrailers(["t": "1"])
            return text
        }
        registry.serverStreaming(.test("Expand"), request: TextCodec(), response: TextCodec()) { text, responses, _ in
            for character in text { try await responses.write(String(character)) }
        }
        registry.clientStreaming(.test("Collect"), request: TextCodec(), response: TextCodec()) { requests, _ in
            var all: [String] = []
            for try await text in requests { all.append(text) }
            return all.joined(separator: "+")
        }
        registry.bidirectionalStreaming(.test("Update"), request: TextCodec(), response: TextCodec()) {
            requests,
            responses,
            _ in
            for try await text in requests { try await responses.write(text) }
        }
    }

    private func withShapes(_ body: (Channel) async throws -> Void) async throws {
        try await withServer([Self.shapes]) { _, port in
            try await body(try Channel("127.0.0.1:\(port)", logger: silentLogger))
        }
    }

    private let codec = TextCodec()

    @Test func `each shape of call, asynchronously`() async throws {
        try await withShapes { channel in
            let codec = codec
            let reply = try await channel.unary(.test("Unary"), "hi", requestCodec: codec, responseCodec: codec)
            #expect(reply == "hi")
            let response = await channel.unaryWithMetadata(
                .test("Unary"),
                "hi",
                requestCodec: codec,
                responseCodec: codec
            )
            #expect(try response.message == "hi")
            #expect(response.trailers == ["t": "1"])
            let failed = await channel.unaryWithMetadata(
                .test("Unary"),
                "fail",
                requestCodec: codec,
                responseCodec: codec
            )
            #expect(throws: RPCError.self) { try failed.message }
            #expect(failed.trailers == ["t": "f"])

            var parts: [String] = []
            let stream = channel.serverStreaming(.test("Expand"), "abc", requestCodec: codec, responseCodec: codec)
            for try await part in stream { parts.append(part) }
            #expect(parts == ["a", "b", "c"])

            let collect = channel.clientStreaming(.test("Collect"), requestCodec: codec, responseCodec: codec)
            for text in ["a", "b"] { try await collect.requests.write(text) }
            #expect(try await collect.response() == "a+b")

            let update = channel.bidirectionalStreaming(.test("Update"), requestCodec: codec, responseCodec: codec)
            for text in ["x", "y"] {
                try await update.requests.write(text)
                #expect(try await update.responses.next() == text)
            }
            update.requests.finish()
            #expect(try await update.responses.next() == nil)
            #expect(try await update.responses.trailers.isEmpty)
        }
    }

    @Test func `each shape of call, from a thread that blocks`() async throws {
        try await withShapes { channel in
            let codec = codec
            try await onThread {
                let reply = try channel.blockingUnary(.test("Unary"), "hi", requestCodec: codec, responseCodec: codec)
                #expect(reply == "hi")
                let failed = channel.blockingUnaryWithMetadata(
                    .test("Unary"),
                    "fail",
                    requestCodec: codec,
                    responseCodec: codec
                )
                #expect(throws: RPCError.self) { try failed.message }
                #expect(failed.trailers == ["t": "f"])

                var parts: [String] = []
                let stream = channel.blockingServerStreaming(
                    .test("Expand"),
                    "abc",
                    requestCodec: codec,
                    responseCodec: codec
                )
                while let part = try stream.next() { parts.append(part) }
                #expect(parts == ["a", "b", "c"])
                #expect(try stream.trailers().isEmpty)

                let collect = channel.blockingClientStreaming(
                    .test("Collect"),
                    requestCodec: codec,
                    responseCodec: codec
                )
                for text in ["a", "b"] { try collect.requests.write(text) }
                #expect(try collect.response() == "a+b")

                let update = channel.blockingBidirectionalStreaming(
                    .test("Update"),
                    requestCodec: codec,
                    responseCodec: codec
                )
                for text in ["x", "y"] {
                    try update.requests.write(text)
                    #expect(try update.responses.next() == text)
                }
                update.requests.finish()
                #expect(try update.responses.next() == nil)
            }
        }
    }

    @Test func `what cannot be encoded is INTERNAL and not sent, what cannot be decoded INTERNAL too`() async throws {
        let bytes = TestService { registry in
            registry.unary(.test("Unary"), request: BytesCodec(), response: BytesCodec()) { bytes, _ in bytes }
            registry.bidirectionalStreaming(.test("Update"), request: BytesCodec(), response: BytesCodec()) {
                requests,
                responses,
                _ in
                for try await bytes in requests { try await responses.write(bytes) }
            }
        }
        try await withServer([bytes]) { _, port in
            let channel = try Channel("127.0.0.1:\(port)", logger: silentLogger)
            let codec = codec
            let encoding = await #expect(throws: RPCError.self) {
                try await channel.unary(.test("Unary"), "!", requestCodec: codec, responseCodec: codec)
            }
            #expect(encoding?.code == .internal)
            #expect(encoding?.message == "a request of t/Unary could not be encoded")
            #expect(encoding?.cause is TextCodec.Refusal)
            let decoding = await #expect(throws: RPCError.self) {
                try await channel.unary(.test("Unary"), [33], requestCodec: BytesCodec(), responseCodec: codec)
            }
            #expect(decoding?.code == .internal)
            #expect(decoding?.message == "a response of t/Unary could not be decoded")

            let update = channel.bidirectionalStreaming(
                .test("Update"),
                requestCodec: BytesCodec(),
                responseCodec: codec
            )
            try await update.requests.write([33])
            let inStream = await #expect(throws: RPCError.self) { try await update.responses.next() }
            #expect(inStream?.code == .internal)
            // It cancels the call.
            let after = await #expect(throws: RPCError.self) { try await update.responses.trailers }
            #expect(after?.code == .cancelled)
        }
    }

    @Test func `a request that cannot be encoded leaves its stream as it is`() async throws {
        try await withShapes { channel in
            let collect = channel.clientStreaming(.test("Collect"), requestCodec: codec, responseCodec: codec)
            try await collect.requests.write("a")
            let error = await #expect(throws: RPCError.self) { try await collect.requests.write("!") }
            #expect(error?.code == .internal)
            try await collect.requests.write("b")
            #expect(try await collect.response() == "a+b")
            let stream = channel.serverStreaming(.test("Expand"), "!", requestCodec: codec, responseCodec: codec)
            let refused = await #expect(throws: RPCError.self) { try await stream.next() }
            #expect(refused?.code == .internal)
        }
    }

    @Test func `a target that cannot be read is INVALID_ARGUMENT`() {
        let error = #expect(throws: RPCError.self) { try Channel("nowhere", logger: silentLogger) }
        #expect(error?.code == .invalidArgument)
        #expect(error?.message.contains("nowhere") == true)
    }

    @Test func `a task on the channel's own executor makes its calls without a change of thread`() async throws {
        try await withShapes { channel in
            let codec = codec
            let replies = try await withTaskExecutorPreference(channel.executor) {
                var replies: [String] = []
                for index in 0..<10 {
                    replies.append(
                        try await channel.unary(.test("Unary"), "\(index)", requestCodec: codec, responseCodec: codec)
                    )
                }
                return replies
            }
            #expect(replies == (0..<10).map { "\($0)" })
        }
    }

    // MARK: To let go

    @Test func `a channel that is dropped closes its connection after its last call`() async throws {
        let server = try FrameServer()
        var channel: Channel? = try Channel("127.0.0.1:\(server.port)", logger: silentLogger)
        weak let watched = channel
        let codec = codec
        let stream = try #require(channel).bidirectionalStreaming(
            .test("Update"),
            requestCodec: codec,
            responseCodec: codec
        )
        let connection = try await server.accept()
        try await connection.waitForHead(of: 1)
        channel = nil
        #expect(watched == nil)
        try await stream.requests.write("still")
        try await connection.wait(for: "the message") { $0.requests[1]?.texts == ["still"] }
        try connection.answer(1, "yes")
        #expect(try await stream.responses.next() == "yes")
        #expect(try await stream.responses.next() == nil)
        try await connection.waitUntilClosed()
        #expect(connection.input.goAways.map(\.code) == [0])
    }

    @Test func `a stream that is dropped is cancelled, and an iterator keeps it`() async throws {
        let server = try FrameServer()
        let channel = try Channel("127.0.0.1:\(server.port)", logger: silentLogger)
        var stream: ResponseStream<String>? = channel.serverStreaming(
            .test("Expand"),
            "x",
            requestCodec: codec,
            responseCodec: codec
        )
        let connection = try await server.accept()
        try await connection.waitForEnd(of: 1)
        try connection.send(.headers(1, .responseHead), .data(1, framed([65])))
        var iterator = stream?.makeAsyncIterator()
        stream = nil
        #expect(try await iterator?.next() == "A")
        try await connection.roundTrip()
        #expect(connection.request(1).reset == nil)
        iterator = nil
        #expect(try await connection.waitForReset(of: 1) == ErrorCode.cancel)
    }

    @Test func `one side of a call in both directions keeps it`() async throws {
        let server = try FrameServer()
        let channel = try Channel("127.0.0.1:\(server.port)", logger: silentLogger)
        var writer: RequestWriter<String>?
        var reader: ResponseStream<String>?
        do {
            let call = channel.bidirectionalStreaming(.test("Update"), requestCodec: codec, responseCodec: codec)
            (writer, reader) = (call.requests, call.responses)
        }
        let connection = try await server.accept()
        try await connection.waitForHead(of: 1)
        reader = nil
        try await writer?.write("x")
        try await connection.wait(for: "the message") { $0.requests[1]?.texts == ["x"] }
        #expect(connection.request(1).reset == nil)
        writer = nil
        #expect(try await connection.waitForReset(of: 1) == ErrorCode.cancel)
        withExtendedLifetime(reader) {}
    }

    @Test func `loops that are shut down under a channel end its calls, and those after`() async throws {
        let loops = try EventLoopGroup(threads: 2, logger: silentLogger)
        let server = try FrameServer()
        let channel = try Channel("127.0.0.1:\(server.port)", eventLoops: loops, logger: silentLogger)
        let codec = codec
        let call = Task { () -> RPCError? in
            do throws(RPCError) {
                _ = try await channel.unary(.test("Unary"), "x", requestCodec: codec, responseCodec: codec)
            } catch {
                return error
            }
            return nil
        }
        let connection = try await server.accept()
        try await connection.waitForEnd(of: 1)
        try await onThread { loops.shutdown() }
        #expect(await call.value?.message.contains("has stopped") == true)
        let late = await #expect(throws: RPCError.self) {
            try await channel.unary(.test("Unary"), "x", requestCodec: codec, responseCodec: codec)
        }
        #expect(late?.message.contains("has stopped") == true)
        try await onThread {
            let blocked = #expect(throws: RPCError.self) {
                try channel.blockingUnary(.test("Unary"), "x", requestCodec: codec, responseCodec: codec)
            }
            #expect(blocked?.message.contains("has stopped") == true)
        }
    }
}
