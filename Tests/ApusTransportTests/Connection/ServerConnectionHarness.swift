import ApusBase
import ApusEventLoop
import Logging
import TestSupport
import Testing

@testable import ApusTransport

/// A server on a loop whose clock the test moves, and a client at the other end of a socket pair.
///
/// The client is used by one closure at a time, on threads that the test awaits; Sendable for that reason.
final class ServerConnectionHarness: @unchecked Sendable {
    let clock = ManualClock()
    let loop: EventLoop
    let core: ServerCore
    let client: BlockingClient
    private let notes: Mutexed<[String]>

    init(_ methods: [ServedMethod], _ limits: ServerLimits, opening: [Frame]) throws {
        let notes = Mutexed<[String]>([])
        self.notes = notes
        let logger = Logger(label: "test") { _ in LogNotes(notes) }
        loop = try EventLoop(name: "test-loop", clock: clock, logger: silentLogger)
        core = ServerCore(methods: methods, limits: limits, loops: [loop], logger: logger)
        let (ours, theirs) = try BlockingClient.socketPair()
        client = try BlockingClient(descriptor: ours, opening: opening)
        try core.adopt(theirs)
    }

    /// What was logged with a text in it.
    func logged(_ text: String) -> Int { notes.value.count { $0.contains(text) } }

    func onClient<Result: Sendable>(
        _ body: @escaping @Sendable (BlockingClient) throws -> Result
    ) async throws -> Result {
        try await onThread { try body(self.client) }
    }

    func advance(by duration: Duration) async {
        clock.advance(by: duration)
        await loop.settle()
    }

    /// The server has read what the client sent: it answers a call.
    func assertServes(sourceLocation: SourceLocation = #_sourceLocation) async throws {
        let status = try await onClient { try $0.call("/t/Sync").status }
        #expect(status == 0, sourceLocation: sourceLocation)
    }

    /// The server closes the connection, with a last GOAWAY that says this, and says why in its log, once.
    func assertCloses(
        saying reason: String?,
        logging line: String?,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        try await onClient { try $0.waitUntilClosed() }
        #expect(client.output.goAwayReasons.last == reason, sourceLocation: sourceLocation)
        if let line { #expect(logged(line) == 1, sourceLocation: sourceLocation) }
    }
}

func withServerConnection(
    _ methods: [ServedMethod] = echoMethods,
    limits: ServerLimits = ServerLimits(),
    opening: [Frame] = Frame.openingWithLargeWindows,
    _ body: (ServerConnectionHarness) async throws -> Void
) async throws {
    let harness = try ServerConnectionHarness(methods, limits, opening: opening)
    var failure: (any Error)?
    do { try await body(harness) } catch { failure = error }
    harness.core.stop()
    await harness.loop.settle()
    harness.loop.stop()
    let isJoined = try await onThread { harness.loop.join() }
    #expect(isJoined)
    if let failure { throw failure }
}
