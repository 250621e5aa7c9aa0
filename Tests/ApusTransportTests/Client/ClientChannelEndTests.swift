import ApusBase
import ApusEventLoop
import Logging
import TestSupport
import Testing

@testable import ApusTransport

/// How a channel ends: closed, let go of, or with its loop.
@Suite(.timeLimit(.minutes(1))) struct ClientChannelEndTests {
    // MARK: close()

    @Test func `to close a channel ends all its calls, tells the server, and refuses new ones`() async throws {
        try await withChannel { client in
            let connection = try await client.connect(opening: [.settings([3: 2])])
            let open = await client.beginUnary()
            let streaming = client.startStreaming()
            let waiting = await client.beginUnary()
            try await connection.waitForEnd(of: 1)
            try await connection.waitForHead(of: 3)
            client.channel.close()
            client.channel.close()
            for outcome in [await open.value, await streaming.all(), await waiting.value] {
                #expect(outcome.code == .cancelled)
                #expect(outcome.message.contains("was closed"), "\(outcome.message)")
            }
            try await connection.waitUntilClosed()
            #expect(connection.request(1).reset == ErrorCode.cancel)
            #expect(connection.request(3).reset == ErrorCode.cancel)
            #expect(connection.input.goAways.map(\.code) == [0])
            #expect(connection.input.streams == [1, 3])
            #expect(client.channel.connectivity == .closed)
            #expect(await client.unary().code == .cancelled)
            #expect(await client.startStreaming().all().code == .cancelled)
            client.channel.connect()
            await client.settle()
            #expect(client.channel.connectivity == .closed)
        }
    }

    @Test func `while it connects`() async throws {
        try await withChannel { client in
            let call = client.startUnary()
            let connection = try await client.accept(opening: [])
            client.channel.close()
            #expect(await call.value.code == .cancelled)
            try await connection.waitUntilClosed()
        }
    }

    @Test func `in back-off, after which nothing is tried`() async throws {
        let clock = ManualClock()
        try await withChannel(clock: clock) { client in
            let waiting = client.startUnary("x", CallOptions(waitForReady: true))
            try await client.accept(opening: []).close()
            await client.becomes(.transientFailure)
            client.channel.close()
            #expect(await waiting.value.code == .cancelled)
            await client.advance(by: .seconds(10))
            #expect(client.channel.connectivity == .closed)
            #expect(!client.server.hasWaitingClient)
        }
    }

    // MARK: Let go of

    @Test func `a channel that is let go of closes after its last call`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            let first = await client.beginUnary("1")
            let second = client.startStreaming()
            try await connection.waitForEnd(of: 1)
            try await connection.waitForHead(of: 3)
            client.channel.release()
            await client.settle()
            #expect(client.channel.connectivity == .ready)
            try connection.answer(1, "1")
            #expect(await first.value.text == "1")
            // A call that goes on may do all that it could.
            try await second.write("x")
            second.finishWriting()
            #expect(try await connection.waitForEnd(of: 3).texts == ["x"])
            try connection.answer(3, "2")
            #expect(await second.all().text == "2")
            try await connection.waitUntilClosed()
            #expect(client.channel.connectivity == .closed)
        }
    }

    @Test func `one without calls closes at once, connected or not`() async throws {
        try await withChannel { client in
            client.channel.release()
            await client.settle()
            #expect(client.channel.connectivity == .closed)
        }
        try await withChannel { client in
            let connection = try await client.connect()
            client.channel.release()
            try await connection.waitUntilClosed()
        }
        try await withChannel { client in
            client.channel.connect()
            let connection = try await client.accept(opening: [])
            client.channel.release()
            try await connection.waitUntilClosed()
        }
    }

    @Test func `nothing is left of a channel, its sessions and its calls`() async throws {
        let loop = try EventLoop(name: "test-loop", logger: silentLogger)
        let server = try FrameServer()
        weak var channel: ClientChannel?
        weak var streaming: StreamingCall?
        do {
            let target = try ClientTarget("127.0.0.1:\(server.port)")
            let made = ClientChannel(target: target, limits: ClientLimits(), loop: loop, logger: silentLogger)
            channel = made
            let unary = Task { try? await made.unary(.unary, [1], CallOptions(timeout: .seconds(1000))) }
            let connection = try await server.accept()
            try await connection.waitForEnd(of: 1)
            try connection.answer(1, "x")
            #expect(await unary.value == [UInt8(ascii: "x")])
            let handle = made.startCall(.unary, CallOptions(timeout: .seconds(1000)))
            streaming = handle.call
            try await connection.waitForHead(of: 3)
            handle.cancel()
            _ = await handle.all()
            made.release()
            try await connection.waitUntilClosed()
        }
        await eventually("nothing being left") { channel == nil && streaming == nil }
        #expect(loop.connectionCount.load(ordering: .relaxed) == 0)
        loop.stop()
        #expect(try await onThread { loop.join() })
    }

    // MARK: The loop's end

    @Test func `when the loop ends calls end with an error, and new ones at once`() async throws {
        for isConnected in [true, false] {
            let loop = try EventLoop(name: "test-loop", logger: silentLogger)
            let server = try FrameServer()
            let client = try ClientHarness(
                loop: loop,
                clock: nil,
                server: server,
                target: "127.0.0.1:\(server.port)",
                limits: ClientLimits(),
                logger: silentLogger
            )
            let unary = client.startUnary()
            let streaming = client.startStreaming()
            let connection = try await client.accept(opening: isConnected ? [.settings()] : [])
            if isConnected {
                try await connection.wait(for: "both calls") { $0.streams.count == 2 }
            } else {
                await client.settle()
            }
            loop.stop()
            #expect(try await onThread { loop.join() })
            for outcome in [await unary.value, await streaming.all()] {
                #expect(outcome.code != .ok)
                #expect(outcome.message.contains("has stopped"), "\(outcome.message)")
            }
            // The farewell reaches the server.
            if isConnected {
                try await connection.waitUntilClosed()
                #expect(connection.request(1).reset == ErrorCode.cancel)
            }
            let late = await client.unary()
            #expect(late.code != .ok)
            #expect(late.message.contains("has stopped"), "\(late.message)")
            #expect(await client.unaryWithMetadata().code != .ok)
            let lateStream = client.startStreaming()
            #expect(await lateStream.all().code != .ok)
            client.channel.connect()
            client.channel.close()
            client.channel.release()
            #expect(client.channel.connectivity == .closed)
        }
    }

    // MARK: Threads that block

    @Test func `ten threads share a channel`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            let server = Task { try await onThread { connection.echoBlocking() } }
            let wrong = Mutexed(0)
            await withTaskGroup(of: Void.self) { group in
                for thread in 0..<10 {
                    group.addTask {
                        try? await onThread {
                            for index in 0..<50 {
                                let text = Array("\(thread)-\(index)".utf8)
                                let answer = try? client.channel.blockingUnary(.unary, text, CallOptions())
                                if answer != text { wrong.update { $0 += 1 } }
                            }
                        }
                    }
                }
            }
            #expect(wrong.value == 0)
            client.channel.close()
            try await server.value
        }
    }

    @Test func `a thread that waits wakes for every end there is`() async throws {
        try await withChannel { client in
            let connection = try await client.connect(opening: [.settings([4: 1])])
            let read = Task { try await self.blocked { _ = try client.startStreaming().nextMessageBlocking() } }
            try await connection.waitForHead(of: 1)
            connection.close()
            #expect(try await read.value == .unavailable)

            let other = try await client.connect(opening: [.settings([4: 1])])
            let call = client.startStreaming()
            let write = Task {
                try await self.blocked { while true { try call.writeBlocking([UInt8](repeating: 1, count: 50_000)) } }
            }
            try await other.wait(for: "the first byte") { ($0.requests[1]?.body.count ?? 0) == 1 }
            call.cancel()
            #expect(try await write.value == .cancelled)

            let deadline = Task {
                try await self.blocked { _ = try client.channel.blockingUnary(.unary, [], .timeout(.milliseconds(20))) }
            }
            #expect(try await deadline.value == .deadlineExceeded)

            let head = client.startStreaming()
            let metadata = Task { try await onThread { try head.initialMetadataBlocking() } }
            // Not by number: a call whose deadline passes early never reaches the server.
            try await other.wait(for: "the next head") { input in
                input.streams.count { input.requests[$0]?.path == "/t/Update" } == 2
            }
            let stream = try #require(other.input.streams.last)
            try other.answer(stream, "x", head: ["h": "1"], trailers: ["t": "2"])
            #expect(try await metadata.value == ["h": "1"])
            #expect(try await onThread { try head.nextMessageBlocking() } == [UInt8(ascii: "x")])
            #expect(try await onThread { try head.trailersBlocking() } == ["t": "2"])

            let closed = Task {
                try await self.blocked { _ = try client.channel.blockingUnary(.unary, [], CallOptions()) }
            }
            try await other.wait(for: "the last head") { $0.streams.last ?? 0 > stream }
            client.channel.close()
            #expect(try await closed.value == .cancelled)
        }
    }

    /// Runs what blocks on a thread of its own, and gives the code that it ended with.
    private func blocked(_ body: @escaping @Sendable () throws -> Void) async throws -> StatusCode {
        try await onThread {
            do { try body() } catch { return (error as? RPCError)?.code ?? .unknown }
            return .ok
        }
    }

    @Test func `on the thread of a loop a blocking call is refused, and says why`() async throws {
        try await withChannel { client in
            let handle = client.startStreaming()
            let codes = await client.run { () -> [StatusCode] in
                let attempts: [() throws -> Void] = [
                    { _ = try client.channel.blockingUnary(.unary, [], CallOptions()) },
                    { _ = try client.channel.blockingUnaryOutcome(.unary, [], CallOptions()).result.get() },
                    { _ = try handle.nextMessageBlocking() }, { try handle.writeBlocking([]) },
                    { _ = try handle.onlyResponseBlocking() }, { _ = try handle.initialMetadataBlocking() },
                    { _ = try handle.trailersBlocking() },
                ]
                return attempts.map { attempt in
                    do { try attempt() } catch { return (error as? RPCError)?.code ?? .unknown }
                    return .ok
                }
            }
            #expect(codes == [StatusCode](repeating: .failedPrecondition, count: 7))
            // A handler that the loop runs for another is on such a thread too.
            let other = try EventLoop(name: "other", logger: silentLogger)
            let error = await Task(executorPreference: other) { () -> RPCError? in
                do throws(RPCError) { try client.channel.checkThatThreadMayBlock() } catch { return error }
                return nil
            }.value
            #expect(error?.code == .failedPrecondition)
            #expect(error?.message.contains("other") == true)
            other.stop()
            #expect(try await onThread { other.join() })
        }
    }
}
