import ApusBase
import ApusEventLoop
import Synchronization
import TestSupport
import Testing

@testable import ApusTransport

/// What may happen to a call happens in every order, and the call ends once. Everything is seeded, so that a failure
/// comes again.
@Suite(.timeLimit(.minutes(1))) struct ClientRaceTests {
    /// A call that counts its ends: an end that came twice is an assertion of nothing else.
    private final class CountingCall: ClientCall, @unchecked Sendable {
        // Sendable, because the one thing it adds is atomic.
        let ends = Atomic(0)
        let end = Mutexed<CallEnd?>(nil)
        private let finishes: Bool

        init(_ channel: ClientChannel, _ options: CallOptions, finishes: Bool) {
            self.finishes = finishes
            super.init(channel, .unary, options)
        }

        override func attached(_ stream: ClientStreamHandle) {
            stream.value.outbound.append([1, 2, 3])
            if finishes { stream.value.state.finish() }
        }

        override func ended(_ end: CallEnd) {
            ends.add(1, ordering: .acquiringAndReleasing)
            self.end.update { $0 = end }
        }
    }

    private enum Event: CaseIterable {
        case begin, cancel, deadline, head, message, status, trailersOnly, reset, refuse, goAway, lose, closeChannel
        case settings, turn
    }

    /// Drives one channel through a random order of events.
    private func play(seed: UInt64, _ client: ClientHarness) async throws -> (CountingCall, [Event]) {
        var random = RandomSource(seed: seed)
        let timeout: Duration? = Bool.random(using: &random) ? .seconds(5) : nil
        let options = CallOptions(timeout: timeout, waitForReady: Bool.random(using: &random))
        let finishes = Bool.random(using: &random)
        let call = CountingCall(client.channel, options, finishes: finishes)
        // All but the rarest, in an order of this round's own, each maybe twice.
        var events: [Event] = []
        for _ in 0..<Int.random(in: 2...8, using: &random) {
            events.append(Event.allCases.randomElement(using: &random) ?? .turn)
        }
        events.insert(.begin, at: Int.random(in: 0...1, using: &random))
        var connection: FrameConnection?
        for event in events {
            switch event {
            case .begin:
                client.channel.start(call)
                if client.channel.connectivity != .closed, connection == nil, client.channel.connectivity == .idle {
                    client.channel.connect()
                }
            case .cancel: call.cancel()
            case .deadline: client.clock?.advance(by: .seconds(6))
            case .turn: await client.settle()
            case .closeChannel: client.channel.close()
            case .settings:
                if connection == nil, client.server.hasWaitingClient {
                    connection = try? await client.accept(opening: [])
                }
                try? connection?.send(.settings([3: UInt32.random(in: 0...2, using: &random)]))
            case .lose: connection?.close(reset: Bool.random(using: &random))
            default:
                if connection == nil, client.server.hasWaitingClient {
                    connection = try? await client.accept(opening: [.settings()])
                }
                guard let connection, !connection.isClosed else { continue }
                try? send(event, on: connection)
            }
            if Bool.random(using: &random) { await client.settle() }
        }
        return (call, events)
    }

    private func send(_ event: Event, on connection: FrameConnection) throws {
        // What the client has not asked for it may not be answered.
        connection.readWhatIsThere()
        guard let stream = connection.input.streams.last, connection.request(stream).reset == nil else { return }
        switch event {
        case .head: try connection.send(.headers(stream, .responseHead))
        case .message: try connection.send(.headers(stream, .responseHead), .data(stream, framed([7])))
        case .status: try connection.answer(stream, "x")
        case .trailersOnly: try connection.refuse(stream, 3, "no")
        case .reset: try connection.send(.reset(stream, code: 2))
        case .refuse: try connection.send(.reset(stream, code: ErrorCode.refusedStream))
        default: try connection.send(Frame(type: Frame.goAway, payload: bigEndian(stream) + bigEndian(0)))
        }
    }

    @Test(arguments: 0..<10)
    func `in a thousand random orders of events every call ends exactly once`(part: UInt64) async throws {
        let loop = try EventLoop(name: "test-loop", clock: ManualClock(), logger: silentLogger)
        guard let clock = loop.clock as? ManualClock else { return }
        var kinds: Set<StatusCode> = []
        for round in 0..<100 {
            let seed = part * 100 + UInt64(round)
            let server = try FrameServer()
            let client = try ClientHarness(
                loop: loop,
                clock: clock,
                server: server,
                target: "127.0.0.1:\(server.port)",
                limits: ClientLimits(),
                logger: silentLogger
            )
            let (call, events) = try await play(seed: seed, client)
            client.channel.close()
            await client.settle()
            #expect(call.ends.load(ordering: .acquiring) == 1, "seed \(seed): \(events)")
            let phase = await client.run { call.core.value.phase }
            #expect(phase == .ended, "seed \(seed): \(events)")
            // Nothing that comes later ends it again.
            call.cancel()
            clock.advance(by: .seconds(10))
            await client.settle()
            #expect(call.ends.load(ordering: .acquiring) == 1, "seed \(seed), afterwards: \(events)")
            kinds.insert(call.end.value?.error?.code ?? .ok)
            _ = client.closeConnections()
        }
        // What is meant to race does: no kind of end crowds the others out.
        #expect(kinds.isSuperset(of: [.cancelled, .deadlineExceeded]), "\(kinds)")
        #expect(!kinds.isDisjoint(with: [.unavailable, .internal]), "\(kinds)")
        #expect(!kinds.isDisjoint(with: [.ok, .invalidArgument]), "\(kinds)")
        loop.stop()
        let isJoined = try await onThread { loop.join() }
        #expect(isJoined)
    }

    @Test func `calls from many tasks, cancelled, timed out and answered at random, all end`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            let server = Task { try await onThread { connection.echoBlocking() } }
            let ends = Mutexed<[StatusCode: Int]>([:])
            await withTaskGroup(of: Void.self) { group in
                for task in 0..<6 {
                    group.addTask {
                        var random = RandomSource(seed: UInt64(task))
                        for index in 0..<60 {
                            let options = CallOptions(
                                timeout: .microseconds(Int.random(in: 1...20_000, using: &random))
                            )
                            let isUnary = Bool.random(using: &random)
                            let call = Task { () -> ClientHarness.Outcome in
                                if isUnary { return await client.unary("\(task)-\(index)", options) }
                                let call = client.startStreaming(options)
                                try? await call.write("\(task)-\(index)")
                                call.finishWriting()
                                return await call.all()
                            }
                            for _ in 0..<Int.random(in: 0...20, using: &random) { await Task.yield() }
                            if Int.random(in: 0..<3, using: &random) == 0 { call.cancel() }
                            let outcome = await call.value
                            if outcome.code == .ok { #expect(outcome.text == "\(task)-\(index)") }
                            ends.update { $0[outcome.code, default: 0] += 1 }
                        }
                    }
                }
            }
            #expect(ends.value.values.reduce(0, +) == 360)
            #expect(Set(ends.value.keys).isSubset(of: [.ok, .cancelled, .deadlineExceeded]))
            client.channel.close()
            try await server.value
        }
    }
}
