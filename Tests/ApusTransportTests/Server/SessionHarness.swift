import ApusBase
import ApusEventLoop
import Logging
import TestSupport
import Testing

@testable import ApusTransport

/// A ``ServerSession`` on a loop of its own, without a socket: takes the frames of a test and shows what it answers.
///
/// Confined to its loop between the calls of a test, which await it; Sendable for that reason.
final class SessionHarness: @unchecked Sendable, SessionCarrier, TurnEndHandler {
    let loop: EventLoop
    let clock: ManualClock?
    let shard: ServerShard
    private var session: ServerSession?
    private var output = ServerOutput()
    private var flushIsScheduled = false
    /// What the session gives in one go.
    private var outputBuffer = [UInt8](repeating: 0, count: 64 * 1024)
    /// Whether output is left where it is, as behind a socket that takes nothing.
    private var isHeldBack = false
    private(set) var receiveError: String?
    private(set) var pingAcks = 0

    init(
        loop: EventLoop,
        clock: ManualClock?,
        router: Router,
        limits: ServerLimits,
        handlers: SharedCount?,
        heldBytes: HeldBytes
    ) {
        self.loop = loop
        self.clock = clock
        shard = ServerShard(
            loop: loop,
            router: router,
            limits: limits,
            logger: silentLogger,
            runningHandlersInServer: handlers,
            heldBytesInServer: heldBytes
        )
    }

    // MARK: The test's side

    /// Opens the connection, as a client with these frames after the preface, which has seen the server's SETTINGS.
    func open(_ frames: [Frame] = Frame.openingWithLargeWindows, acknowledges: Bool = true) async throws {
        try await tryToRun {
            let peer = ConnectionPeer(remote: try RawSocketAddress(.ipv4(host: "192.0.2.1", port: 9)))
            self.session = try ServerSession(shard: self.shard, peer: peer)
            self.session?.carrier = self
        }
        await receive(bytes: Frame.preface + frames.bytes)
        if acknowledges { await receive(.settingsAck) }
    }

    /// What the peer sends, in one read; returns when the loop has gone through what follows from it.
    func receive(_ frames: Frame...) async { await receive(bytes: frames.bytes) }

    func receive(_ frames: [Frame]) async { await receive(bytes: frames.bytes) }

    func receive(bytes: [UInt8]) async {
        await run { self.take(bytes) }
        await loop.settle()
    }

    /// Frames that come together with a change of the test's own, in the same turn.
    func receive(_ frames: [Frame], thenInTheSameTurn body: @escaping @Sendable () -> Void) async {
        await run {
            self.take(frames.bytes)
            body()
        }
        await loop.settle()
    }

    /// The connection is lost.
    func tearDown() async {
        await run { self.loseConnection() }
        await loop.settle()
    }

    func resetAll() async {
        await run {
            self.session?.resetAll()
            self.scheduleFlush()
        }
        await loop.settle()
    }

    /// Moves the clock and waits for what that brings about.
    func advance(by duration: Duration) async {
        clock?.advance(by: duration)
        await loop.settle()
    }

    func holdBackOutput(_ isHeldBack: Bool) async {
        await run {
            self.isHeldBack = isHeldBack
            self.scheduleFlush()
        }
        await loop.settle()
    }

    func answer(_ stream: UInt32) async -> Answer { await look { $0.answers[stream] ?? Answer() } }

    func look<Result: Sendable>(_ body: @escaping @Sendable (ServerOutput) -> Result) async -> Result {
        await run { body(self.output) }
    }

    func inSession<Result: Sendable>(_ body: @escaping @Sendable (ServerSession) throws -> Result) async throws
        -> Result
    {
        try await tryToRun { try body(try #require(self.session)) }
    }

    /// Waits for what happens on other threads too.
    func wait(for what: String, until isSo: @escaping @Sendable (ServerOutput) -> Bool) async {
        await eventually(what) { await self.look(isSo) }
    }

    /// Makes a call of one message and waits for its answer.
    func call(_ stream: UInt32, _ path: String, _ message: String = "x", _ fields: Fields = [:]) async -> Answer {
        await receive(
            .headers(stream, .request(path, fields)),
            .data(stream, framed(Array(message.utf8)), endStream: true)
        )
        await wait(for: "the answer of \(path)") { $0.answers[stream]?.isOver == true }
        return await answer(stream)
    }

    /// Runs a closure on the loop.
    func run<Result: Sendable>(_ body: @escaping @Sendable () -> Result) async -> Result {
        await withCheckedContinuation { continuation in
            let isQueued = loop.execute { continuation.resume(returning: body()) }
            precondition(isQueued, "the loop has stopped")
        }
    }

    /// Runs a closure on the loop that may fail.
    func tryToRun<Result: Sendable>(_ body: @escaping @Sendable () throws -> Result) async throws -> Result {
        try await run { Swift.Result { try body() } }.get()
    }

    // MARK: On the loop

    func loseConnection() {
        session?.tearDown(cause: "test")
        session = nil
    }

    func take(_ bytes: [UInt8]) {
        guard let session else { return }
        session.willReceive()
        // SAFETY: the bytes are the array's, which is not changed during the call.
        let error = unsafe bytes.withUnsafeBytes { unsafe session.receive($0) }
        if let error { receiveError = error }
        session.startReadyCalls()
        scheduleFlush()
    }

    func sessionHasOutput() { scheduleFlush() }
    func sessionPingAcknowledged() { pingAcks += 1 }
    func sessionEstablished() {}

    private func scheduleFlush() {
        if flushIsScheduled { return }
        flushIsScheduled = true
        loop.atEndOfTurn(self)
    }

    func endOfTurn() {
        flushIsScheduled = false
        guard let session, !isHeldBack else { return }
        while true {
            session.willSend()
            // SAFETY: the buffer is this object's and is read before it is written again.
            let count = unsafe outputBuffer.withUnsafeMutableBytes { unsafe session.produce(into: $0) }
            guard let count else { return }
            output.feed(outputBuffer[..<count])
            if count == 0, !session.startHeldCalls() { return }
        }
    }
}

let silentLogger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// A session that is open, for one test.
func withSession(
    _ methods: [ServedMethod],
    fallback: Fallback? = nil,
    limits: ServerLimits = ServerLimits(),
    clock: ManualClock? = nil,
    handlers: SharedCount? = nil,
    heldBytes: HeldBytes = HeldBytes(limit: nil),
    opening: [Frame] = Frame.openingWithLargeWindows,
    acknowledgesSettings: Bool = true,
    _ body: (SessionHarness) async throws -> Void
) async throws {
    let loop = try EventLoop(name: "test-loop", clock: clock ?? MonotonicClock(), logger: silentLogger)
    let router = Router(methods, fallback: fallback)
    let harness = SessionHarness(
        loop: loop,
        clock: clock,
        router: router,
        limits: limits,
        handlers: handlers,
        heldBytes: heldBytes
    )
    var failure: (any Error)?
    do {
        try await harness.open(opening, acknowledges: acknowledgesSettings)
        try await body(harness)
    } catch {
        failure = error
    }
    await harness.tearDown()
    await harness.run { harness.shard.stop() }
    await loop.settle()
    let fault = await harness.look { $0.fault }
    #expect(fault == nil)
    loop.stop()
    let isJoined = try await onThread { loop.join() }
    #expect(isJoined)
    if let failure { throw failure }
}

/// Waits until something is so, for what happens on other threads and so has no moment of its own.
func eventually(
    _ what: String,
    sourceLocation: SourceLocation = #_sourceLocation,
    _ isSo: () async -> Bool
) async {
    for _ in 0..<20_000 {
        if await isSo() { return }
        try? await Task.sleep(for: .milliseconds(1))
        if Task.isCancelled { return }
    }
    Issue.record("it never happened: \(what)", sourceLocation: sourceLocation)
}
