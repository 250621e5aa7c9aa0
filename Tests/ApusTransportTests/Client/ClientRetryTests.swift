import ApusBase
import ApusEventLoop
import TestSupport
import Testing

@testable import ApusTransport

/// Calls that the server has certainly not seen are tried again, and nobody notices; others are not.
@Suite(.timeLimit(.minutes(1))) struct ClientRetryTests {
    private func goAway(_ last: UInt32, _ code: UInt32 = 0, _ text: String = "") -> Frame {
        Frame(type: Frame.goAway, payload: bigEndian(last) + bigEndian(code) + Array(text.utf8))
    }

    // MARK: rule 26, REFUSED_STREAM

    @Test func `rule 26: a refused stream is tried once more, at once`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            let call = client.startUnary("again", .metadata(["k": "v"]))
            let first = try await connection.waitForEnd(of: 1)
            try connection.send(.reset(1, code: ErrorCode.refusedStream))
            let second = try await connection.waitForEnd(of: 3)
            #expect(second.head == first.head)
            #expect(second.body == first.body)
            try connection.answer(3, "done")
            #expect(await call.value.text == "done")
        }
    }

    @Test func `rule 26: one that is refused twice ends with UNAVAILABLE`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            let call = client.startUnary()
            for stream in [1, 3] as [UInt32] {
                try await connection.waitForEnd(of: stream)
                try connection.send(.reset(stream, code: ErrorCode.refusedStream))
            }
            let result = await call.value
            #expect(result.code == .unavailable)
            #expect(result.error?.origin == .peer)
            try await connection.roundTrip()
            #expect(connection.input.streams == [1, 3])
        }
    }

    @Test func `rule 26: a call object that was refused once is as good as new for the next call`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            for round in 0..<3 {
                let call = await client.beginUnary("\(round)")
                let stream = UInt32(round * 4 + 1)
                try await connection.waitForEnd(of: stream)
                try connection.send(.reset(stream, code: ErrorCode.refusedStream))
                #expect(try await connection.waitForEnd(of: stream + 2).texts == ["\(round)"])
                try connection.answer(stream + 2, "x")
                #expect(await call.value.text == "x")
            }
        }
    }

    @Test func `rule 27: the head of a response binds a call to its stream`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            let unary = client.startUnary()
            try await connection.waitForEnd(of: 1)
            try connection.send(.headers(1, .responseHead), .reset(1, code: ErrorCode.refusedStream))
            #expect(await unary.value.code == .unavailable)
            let streaming = client.startStreaming()
            try await connection.waitForHead(of: 3)
            try connection.send(.headers(3, .responseHead), .reset(3, code: ErrorCode.refusedStream))
            #expect(await streaming.all().code == .unavailable)
            try await connection.roundTrip()
            #expect(connection.input.streams == [1, 3])
        }
    }

    // MARK: Streams

    @Test func `a streaming call that is tried again says again all that it said`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            let call = client.startStreaming()
            for text in ["a", "b", "c"] { try await call.write(text) }
            try await connection.wait(for: "the messages") { $0.requests[1]?.texts == ["a", "b", "c"] }
            try connection.send(.reset(1, code: ErrorCode.refusedStream))
            try await connection.wait(for: "the messages again") { $0.requests[3]?.texts == ["a", "b", "c"] }
            try await call.write("d")
            call.finishWriting()
            let request = try await connection.waitForEnd(of: 3)
            #expect(request.texts == ["a", "b", "c", "d"])
            try connection.answer(3, "done")
            let result = await call.all()
            #expect(result.text == "done")
            #expect(result.code == .ok)
        }
    }

    @Test func `one that had finished finishes again`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            let call = client.startStreaming()
            try await call.write("a")
            call.finishWriting()
            try await connection.waitForEnd(of: 1)
            try connection.send(.reset(1, code: ErrorCode.refusedStream))
            #expect(try await connection.waitForEnd(of: 3).texts == ["a"])
            try connection.answer(3)
            #expect(await call.all().code == .ok)
        }
    }

    @Test func `what is kept for another attempt is bounded, and a call that said more is not tried again`()
        async throws
    {
        try await withChannel { client in
            let connection = try await client.connect(opening: Frame.openingWithLargeWindows)
            let message = [UInt8](repeating: 7, count: 64 * 1024)
            let limit = client.channel.limits.replayBytesMax
            #expect(limit == 256 * 1024)
            // Within the limit.
            let within = client.startStreaming()
            for _ in 0..<3 { try await within.write(message) }
            try await connection.wait(for: "three messages") { ($0.requests[1]?.body.count ?? 0) == 3 * (65_536 + 5) }
            try connection.send(.reset(1, code: ErrorCode.refusedStream))
            try await connection.wait(for: "the same again") { ($0.requests[3]?.body.count ?? 0) == 3 * (65_536 + 5) }
            // And over it.
            for _ in 0..<2 { try await within.write(message) }
            try await connection.wait(for: "two more") { ($0.requests[3]?.body.count ?? 0) == 5 * (65_536 + 5) }
            try connection.send(.reset(3, code: ErrorCode.refusedStream))
            #expect(await within.all().code == .unavailable)

            let over = client.startStreaming()
            for _ in 0..<5 { try await over.write(message) }
            try await connection.wait(for: "five messages") { ($0.requests[5]?.body.count ?? 0) == 5 * (65_536 + 5) }
            try connection.send(.reset(5, code: ErrorCode.refusedStream))
            #expect(await over.all().code == .unavailable)
            try await connection.roundTrip()
            #expect(connection.input.streams == [1, 3, 5])
        }
    }

    // MARK: GOAWAY

    @Test func `calls above the last stream of GOAWAY move to a new connection, those below end on the old`()
        async throws
    {
        try await withChannel { client in
            let old = try await client.connect()
            let below = client.startUnary("below")
            try await old.waitForEnd(of: 1)
            let above = client.startUnary("above")
            try await old.waitForEnd(of: 3)
            try old.send(goAway(1))
            let new = try await client.accept()
            #expect(try await new.waitForEnd(of: 1).texts == ["above"])
            try new.answer(1, "new")
            #expect(await above.value.text == "new")
            try old.answer(1, "old")
            #expect(await below.value.text == "old")
            try await old.waitUntilClosed()
            #expect(client.channel.connectivity == .ready)
        }
    }

    @Test func `after GOAWAY new calls go to a new connection while the old one's go on`() async throws {
        try await withChannel { client in
            let old = try await client.connect()
            let first = client.startUnary("first")
            try await old.waitForEnd(of: 1)
            try old.send(goAway(0x7FFF_FFFF))
            await client.becomes(.idle)
            let second = client.startUnary("second")
            let new = try await client.accept()
            try await new.waitForEnd(of: 1)
            try new.answer(1, "2")
            #expect(await second.value.text == "2")
            try old.send(goAway(1))
            try old.answer(1, "1")
            #expect(await first.value.text == "1")
            try await old.waitUntilClosed()
            #expect(new.input.streams == [1])
        }
    }

    @Test func `GOAWAY on an idle connection leaves an idle channel`() async throws {
        try await withChannel { client in
            let old = try await client.connect()
            try old.send(goAway(0))
            try await old.waitUntilClosed()
            await client.becomes(.idle)
            #expect(!client.server.hasWaitingClient)
        }
    }

    @Test func `a lost connection ends its calls with UNAVAILABLE, and the cause, and what GOAWAY said`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            let call = client.startUnary()
            try await connection.waitForEnd(of: 1)
            try connection.send(goAway(1, 11, "too_many_pings"))
            connection.close()
            let result = await call.value
            #expect(result.code == .unavailable)
            #expect(result.message.contains("127.0.0.1:\(client.server.port)"), "\(result.message)")
            #expect(result.message.contains("too_many_pings"), "\(result.message)")
            #expect(result.message.contains("the peer closed it"), "\(result.message)")

            let next = try await client.connect()
            let streaming = client.startStreaming()
            try await next.waitForHead(of: 1)
            next.close(reset: true)
            let reset = await streaming.all()
            #expect(reset.code == .unavailable)
            #expect(reset.message.contains("reset"), "\(reset.message)")
            await client.becomes(.idle)
        }
    }

    @Test func `bytes that make no sense close the connection, and its calls end with UNAVAILABLE`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            let call = client.startUnary()
            try await connection.waitForEnd(of: 1)
            try connection.send(Frame(type: Frame.settings, payload: [1, 2, 3]))
            let result = await call.value
            #expect(result.code == .unavailable)
            try await connection.waitUntilClosed()
            #expect(connection.input.goAways.last?.code == 6)
            let next = try await client.connect()
            let again = client.startUnary()
            try await next.waitForEnd(of: 1)
            try next.answer(1, "x")
            #expect(await again.value.text == "x")
        }
    }

    // MARK: rule 31

    @Test func `rule 31: when stream ids run low calls go to a new connection, and none notices`() async throws {
        var limits = ClientLimits()
        limits.firstStreamID = 0x6000_0000 - 5
        try await withChannel(limits) { client in
            let old = try await client.connect()
            // Three that fit, and one that is the first beyond three quarters of the range.
            let ids: [UInt32] = [0x5FFF_FFFB, 0x5FFF_FFFD, 0x5FFF_FFFF, 0x6000_0001]
            var calls: [Task<ClientHarness.Outcome, Never>] = []
            for id in ids {
                calls.append(client.startUnary("\(id)"))
                #expect(try await old.waitForEnd(of: id).texts == ["\(id)"])
            }
            await client.becomes(.idle)
            let moved = client.startUnary("moved")
            let new = try await client.accept()
            #expect(try await new.waitForEnd(of: UInt32(limits.firstStreamID)).texts == ["moved"])
            try new.answer(UInt32(limits.firstStreamID), "moved")
            #expect(await moved.value.text == "moved")
            for (id, call) in zip(ids, calls) {
                try old.answer(id, "\(id)")
                #expect(await call.value.text == "\(id)")
            }
            // The client said goodbye: it opens no more.
            try await old.waitUntilClosed()
            #expect(old.input.goAways.map(\.code) == [0])
            #expect(old.input.streams == ids)
        }
    }

    @Test func `rule 31: hundreds of calls across many ends of ids all succeed`() async throws {
        var limits = ClientLimits()
        limits.firstStreamID = 0x6000_0000 - 39
        try await withChannel(limits) { client in
            let server = client.server
            let connections = Mutexed(0)
            let serving = Task {
                try await onThread {
                    while let connection = try? server.acceptBlocking(), connection.input.goAways.isEmpty {
                        connections.update { $0 += 1 }
                        connection.echoBlocking()
                        if connection.input.streams.isEmpty { return }
                    }
                }
            }
            let wrong = Mutexed<[String]>([])
            await withTaskGroup(of: Void.self) { group in
                for index in 0..<300 {
                    if index >= 8 { await group.next() }
                    group.addTask {
                        let result = await client.unary("\(index)")
                        if result.text != "\(index)" { wrong.update { $0.append("\(index): \(result)") } }
                    }
                }
            }
            #expect(wrong.value == [])
            // Twenty calls and a few more go over each.
            #expect(connections.value >= 10)
            // A last client that says nothing ends the server's turn.
            client.channel.close()
            let last = try BlockingClient(descriptor: BlockingClient.connect(port: server.port))
            last.closeWriting()
            try await serving.value
        }
    }
}
