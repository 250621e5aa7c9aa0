import ApusBase
import ApusEventLoop
import Logging
import TestSupport
import Testing

@testable import ApusTransport

/// A ``ClientChannel`` on a loop of its own, and a port on which a test plays the server.
final class ClientHarness: Sendable {
    let loop: EventLoop
    let clock: ManualClock?
    let server: FrameServer
    let channel: ClientChannel
    private let connections = Mutexed<[FrameConnection]>([])

    init(
        loop: EventLoop,
        clock: ManualClock?,
        server: FrameServer,
        target: String,
        limits: ClientLimits,
        logger: Logger
    )
        throws
    {
        self.loop = loop
        self.clock = clock
        self.server = server
        channel = ClientChannel(target: try ClientTarget(target), limits: limits, loop: loop, logger: logger)
    }

    // MARK: Calls

    /// How a call ended.
    struct Outcome: Sendable {
        var text: String?
        var error: RPCError?
        var initialMetadata = Metadata()
        var trailers = Metadata()

        var code: StatusCode { error?.code ?? .ok }
        var message: String { error?.message ?? "" }
    }

    /// Makes a unary call, with a call object that is used again; without metadata.
    func unary(_ text: String = "x", _ options: CallOptions = CallOptions(), _ name: String = "Unary") async -> Outcome
    {
        do throws(RPCError) {
            let method = MethodDescriptor(service: "t", method: name)
            let response = try await channel.unary(method, Array(text.utf8), options)
            return Outcome(text: String(decoding: response, as: UTF8.self))
        } catch {
            return Outcome(error: error, trailers: error.metadata)
        }
    }

    /// Makes a unary call, and gives all that came.
    func unaryWithMetadata(_ text: String = "x", _ options: CallOptions = CallOptions()) async -> Outcome {
        let outcome = await channel.unaryOutcome(.unary, Array(text.utf8), options)
        var result = Outcome(initialMetadata: outcome.initialMetadata, trailers: outcome.trailers)
        switch outcome.result {
        case .success(let bytes): result.text = String(decoding: bytes, as: UTF8.self)
        case .failure(let error): result.error = error
        }
        return result
    }

    /// Begins a unary call in a task of its own.
    func startUnary(_ text: String = "x", _ options: CallOptions = CallOptions()) -> Task<Outcome, Never> {
        Task { await self.unary(text, options) }
    }

    /// Begins a unary call in a task on the loop; it has begun when this returns.
    func beginUnary(_ text: String = "x", _ options: CallOptions = CallOptions()) async -> Task<Outcome, Never> {
        let task = Task(executorPreference: loop) { await self.unary(text, options) }
        await loop.settle()
        return task
    }

    func startStreaming(_ options: CallOptions = CallOptions()) -> CallHandle {
        channel.startCall(MethodDescriptor(service: "t", method: "Update"), options)
    }

    // MARK: The loop

    /// Takes the channel's next connection.
    func accept(opening: [Frame] = [.settings()]) async throws -> FrameConnection {
        let connection = try await server.accept(opening: opening)
        connections.update { $0.append(connection) }
        return connection
    }

    /// Has the channel connect, and become ready.
    func connect(opening: [Frame] = [.settings()]) async throws -> FrameConnection {
        channel.connect()
        let connection = try await accept(opening: opening)
        await becomes(.ready)
        return connection
    }

    /// What the client did wrong on any connection; closes them.
    func closeConnections() -> [String] {
        for connection in connections.value { connection.close() }
        return connections.value.compactMap(\.input.fault)
    }

    func becomes(_ state: ConnectivityState, sourceLocation: SourceLocation = #_sourceLocation) async {
        await eventually("the channel being \(state)", sourceLocation: sourceLocation) {
            channel.connectivity == state
        }
    }

    func settle() async { await loop.settle() }

    /// Moves the clock and waits for what that brings about.
    func advance(by duration: Duration) async {
        clock?.advance(by: duration)
        await loop.settle()
    }

    /// Runs a closure on the loop.
    func run<Result: Sendable>(_ body: @escaping @Sendable () -> Result) async -> Result {
        await withCheckedContinuation { continuation in
            let isQueued = loop.execute { continuation.resume(returning: body()) }
            precondition(isQueued, "the loop has stopped")
        }
    }
}

extension MethodDescriptor {
    static let unary = MethodDescriptor(service: "t", method: "Unary")
}

extension CallHandle {
    /// The next response as text; `nil` after the last.
    func next() async throws(RPCError) -> String? {
        guard let message = try await nextMessage() else { return nil }
        return String(decoding: message, as: UTF8.self)
    }

    func write(_ text: String) async throws(RPCError) { try await write(Array(text.utf8)) }

    func write(_ message: [UInt8]) async throws(RPCError) {
        let result = try writeNow(message)
        if result != .queued { try await finishWriting(message, result) }
    }

    /// Reads to the end: what came, and how it ended.
    func all() async -> ClientHarness.Outcome {
        var texts: [String] = []
        do throws(RPCError) {
            while let text = try await next() { texts.append(text) }
            return ClientHarness.Outcome(text: texts.joined(separator: ","), trailers: try await trailers())
        } catch {
            return ClientHarness.Outcome(text: texts.joined(separator: ","), error: error, trailers: error.metadata)
        }
    }
}

/// A channel for one test. Closed at its end, after which nothing of it may be left.
func withChannel(
    _ limits: ClientLimits = ClientLimits(),
    clock: ManualClock? = nil,
    target: String? = nil,
    logger: Logger = silentLogger,
    _ body: (ClientHarness) async throws -> Void
) async throws {
    let loop = try EventLoop(name: "test-loop", clock: clock ?? MonotonicClock(), logger: silentLogger)
    let server = try FrameServer()
    weak var channel: ClientChannel?
    do {
        let harness = try ClientHarness(
            loop: loop,
            clock: clock,
            server: server,
            target: target ?? "127.0.0.1:\(server.port)",
            limits: limits,
            logger: logger
        )
        channel = harness.channel
        var failure: (any Error)?
        do { try await body(harness) } catch { failure = error }
        harness.channel.close()
        await loop.settle()
        #expect(harness.closeConnections() == [])
        if let failure { Issue.record(failure) }
    }
    await eventually("nothing being left of the channel") { channel == nil }
    loop.stop()
    let isJoined = try await onThread { loop.join() }
    #expect(isJoined)
}
