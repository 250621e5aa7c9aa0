import ApusBase
import ApusEventLoop
import TestSupport
import Testing

@testable import ApusTransport

/// Calls of many messages, as the application sees them.
@Suite(.timeLimit(.minutes(1))) struct StreamingCallTests {
    @Test func `messages go both ways at once, in order`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            let call = client.startStreaming()
            try await connection.waitForHead(of: 1)
            try connection.send(.headers(1, .responseHead + ["initial": "1"]))
            #expect(try await call.initialMetadata() == ["initial": "1"])
            for index in 0..<20 {
                try await call.write("q\(index)")
                try await connection.wait(for: "a request") { $0.requests[1]?.texts?.last == "q\(index)" }
                try connection.send(.data(1, framed(Array("r\(index)".utf8))))
                #expect(try await call.next() == "r\(index)")
            }
            call.finishWriting()
            try await connection.waitForEnd(of: 1)
            try connection.send(.headers(1, .trailers() + ["trailing": "2"], endStream: true))
            #expect(try await call.next() == nil)
            #expect(try await call.next() == nil)
            #expect(try await call.trailers() == ["trailing": "2"])
            #expect(try await call.initialMetadata() == ["initial": "1"])
        }
    }

    @Test func `two readers at once: the second is refused, and the first goes on`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            let call = client.startStreaming()
            try await connection.waitForHead(of: 1)
            let first = Task(executorPreference: client.loop) { try await call.next() }
            await client.settle()
            let error = await #expect(throws: RPCError.self) { try await call.next() }
            #expect(error?.code == .failedPrecondition)
            #expect(error?.message.contains("two readers") == true)
            try connection.answer(1, "x")
            #expect(try await first.value == "x")
            #expect(try await call.next() == nil)
        }
    }

    @Test func `many may wait for the head and for the trailers`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            let call = client.startStreaming()
            try await connection.waitForHead(of: 1)
            let heads = (0..<5).map { _ in Task { try await call.initialMetadata() } }
            let trailers = (0..<5).map { _ in Task { try await call.trailers() } }
            let reader = Task { await call.all() }
            try connection.answer(1, "x", head: ["h": "1"], trailers: ["t": "2"])
            for head in heads { #expect(try await head.value == ["h": "1"]) }
            for trailer in trailers { #expect(try await trailer.value == ["t": "2"]) }
            #expect(await reader.value.text == "x")
        }
    }

    @Test func `a call that fails without a head throws its error for the metadata too`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            let call = client.startStreaming()
            try await connection.waitForHead(of: 1)
            try connection.refuse(1, 7, "no")
            let head = await #expect(throws: RPCError.self) { try await call.initialMetadata() }
            #expect(head?.code == .permissionDenied)
            let trailers = await #expect(throws: RPCError.self) { try await call.trailers() }
            #expect(trailers?.code == .permissionDenied)
            #expect(await call.all().message == "no")
        }
    }

    // MARK: Writing

    @Test func `to write after the last message is refused, and changes nothing`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            let call = client.startStreaming()
            try await call.write("x")
            call.finishWriting()
            call.finishWriting()
            let error = await #expect(throws: RPCError.self) { try await call.write("y") }
            #expect(error?.code == .failedPrecondition)
            #expect(try await connection.waitForEnd(of: 1).texts == ["x"])
            try connection.answer(1, "z")
            #expect(await call.all().text == "z")
        }
    }

    @Test func `rule 21: the server ends first: writes are refused, and it is told that nothing follows`() async throws
    {
        try await withChannel { client in
            let connection = try await client.connect()
            for (stream, status) in [(UInt32(1), 0), (3, 5)] {
                let call = client.startStreaming()
                try await call.write("x")
                try await connection.wait(for: "the message") { $0.requests[stream]?.texts == ["x"] }
                if status == 0 {
                    try connection.answer(stream, "y")
                } else {
                    try connection.refuse(stream, status, "no")
                }
                #expect(try await connection.waitForReset(of: stream) == ErrorCode.noError)
                let error = await #expect(throws: RPCError.self) { try await call.write("late") }
                #expect(error?.code == (status == 0 ? .failedPrecondition : .notFound))
                let end = await call.all()
                #expect(end.code == (status == 0 ? .ok : .notFound))
                #expect(end.text == (status == 0 ? "y" : ""))
            }
        }
    }

    @Test func `rule 21: a reset with NO_ERROR behind the trailers is a success`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            let call = client.startStreaming()
            try await connection.waitForHead(of: 1)
            let frames = [
                Frame.headers(1, .responseHead), .data(1, framed([65])), .headers(1, .trailers(), endStream: true),
                .reset(1, code: ErrorCode.noError),
            ]
            try connection.send(frames)
            let end = await call.all()
            #expect(end.code == .ok)
            #expect(end.text == "A")
            let unary = client.startUnary()
            try await connection.waitForEnd(of: 3)
            try connection.answer(3, "x")
            try connection.send(.reset(3, code: ErrorCode.noError))
            #expect(await unary.value.text == "x")
            try await connection.roundTrip()
            #expect(connection.input.goAways.isEmpty)
        }
    }

    @Test func `a writer waits above the high-water mark, and goes on when the queue is down`() async throws {
        var limits = ClientLimits()
        limits.sendQueueBytesHigh = 10_000
        limits.sendQueueBytesLow = 2000
        try await withChannel(limits) { client in
            let connection = try await client.connect(opening: [.settings([4: 1000])])
            let call = client.startStreaming()
            // 1005 bytes each: the tenth is beyond the mark.
            let written = Mutexed(0)
            let writer = Task {
                for _ in 0..<15 {
                    try await call.write([UInt8](repeating: 1, count: 1000))
                    written.update { $0 += 1 }
                }
                call.finishWriting()
            }
            // A thousand bytes leave, and the writer stops at ten thousand more.
            await eventually("the writer waiting") { written.value == 10 || written.value == 9 }
            try await connection.wait(for: "the window's worth") { ($0.requests[1]?.body.count ?? 0) == 1000 }
            try await connection.roundTrip()
            let stopped = written.value
            // Down to a little above the low-water mark: it still waits.
            try connection.send(.windowUpdate(1, by: 5000))
            try await connection.wait(for: "five thousand more") { ($0.requests[1]?.body.count ?? 0) == 6000 }
            try await connection.roundTrip()
            #expect(written.value == stopped)
            try connection.send(.windowUpdate(1, by: 4000))
            await eventually("the writer going on") { written.value > stopped }
            try connection.send(.windowUpdate(1, by: 100_000))
            #expect(try await connection.waitForEnd(of: 1).body.count == 15 * 1005)
            try await writer.value
            try connection.answer(1)
            #expect(await call.all().code == .ok)
        }
    }

    @Test func `a writer that waits hears how the call ended`() async throws {
        for end in ["status", "ok", "lost", "closed"] {
            try await withChannel { client in
                let connection = try await client.connect(opening: [.settings([4: 1])])
                let call = client.startStreaming()
                let writer = Task { () -> StatusCode in
                    do throws(RPCError) {
                        while true { try await call.write([UInt8](repeating: 1, count: 100_000)) }
                    } catch {
                        return error.code
                    }
                }
                try await connection.wait(for: "the first byte") { ($0.requests[1]?.body.count ?? 0) == 1 }
                switch end {
                case "status": try connection.refuse(1, 8)
                case "ok": try connection.answer(1)
                case "lost": connection.close()
                default: client.channel.close()
                }
                let expected: [String: StatusCode] = [
                    "status": .resourceExhausted, "ok": .failedPrecondition, "lost": .unavailable, "closed": .cancelled,
                ]
                #expect(await writer.value == expected[end], "\(end)")
            }
        }
    }

    @Test func `messages written before there is a connection are sent when there is`() async throws {
        try await withChannel { client in
            let call = client.startStreaming()
            for text in ["a", "b"] { try await call.write(text) }
            let connection = try await client.accept()
            try await connection.wait(for: "the messages") { $0.requests[1]?.texts == ["a", "b"] }
            call.finishWriting()
            try await connection.waitForEnd(of: 1)
            try connection.answer(1)
            #expect(await call.all().code == .ok)
        }
    }

    // MARK: One response

    @Test func `rule 7: a call of one response gives it, and is UNIMPLEMENTED with none or two`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            for (index, messages) in [["x"], [], ["x", "y"]].enumerated() {
                let stream = UInt32(2 * index + 1)
                let call = client.startStreaming()
                let response = Task { () -> String in
                    do throws(RPCError) {
                        return String(decoding: try await call.onlyResponse(), as: UTF8.self)
                    } catch {
                        return "\(error.code)"
                    }
                }
                // It finishes the requests.
                try await connection.waitForEnd(of: stream)
                let body = messages.flatMap { framed(Array($0.utf8)) }
                try connection.send(
                    .headers(stream, .responseHead),
                    .data(stream, body),
                    .headers(stream, .trailers(), endStream: true)
                )
                #expect(await response.value == (messages.count == 1 ? "x" : "UNIMPLEMENTED"))
            }
        }
    }

    @Test func `rule 7: its own status counts for more than the number of its messages`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            let call = client.startStreaming()
            let response = Task { try await call.onlyResponse() }
            try await connection.waitForEnd(of: 1)
            try connection.send(
                .headers(1, .responseHead),
                .data(1, framed([1]) + framed([2])),
                .headers(1, .trailers(5, "gone"), endStream: true)
            )
            let error = await #expect(throws: RPCError.self) { try await response.value }
            #expect(error?.code == .notFound)
            #expect(error?.message == "gone")
        }
    }
}
