import ApusBase
import Glibc
import Logging
import Synchronization
import Testing

@testable import ApusEventLoop

/// A loop for one test, stopped and joined at its end.
func withLoop<Result: Sendable>(
    clock: any LoopClock = MonotonicClock(),
    configuration: EventLoop.Configuration = .init(),
    _ body: (EventLoop) async throws -> Result
) async throws -> Result {
    let loop = try EventLoop(
        name: "test-loop",
        clock: clock,
        configuration: configuration,
        logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    )
    let result: Result
    do {
        result = try await body(loop)
    } catch {
        await end(loop)
        throw error
    }
    await end(loop)
    return result
}

private func end(_ loop: EventLoop) async {
    loop.stop()
    let isJoined = await onThread { loop.join() }
    #expect(isJoined)
}

/// Runs what blocks on a thread of its own: the pool of the tests has no thread to spare.
func onThread<Result: Sendable>(_ body: @escaping @Sendable () -> Result) async -> Result {
    await withCheckedContinuation { continuation in
        do {
            _ = try LoopThread(name: "test-thread", isDetached: true) { continuation.resume(returning: body()) }
        } catch {
            Issue.record(error)
        }
    }
}

extension EventLoop {
    /// Runs a closure on the loop and answers what it does.
    func run<Result: Sendable>(_ body: @escaping @Sendable () -> Result) async -> Result? {
        await withCheckedContinuation { continuation in
            if !execute({ continuation.resume(returning: body()) }) { continuation.resume(returning: nil) }
        }
    }
}

/// Runs a closure when its descriptor is ready.
final class ReadinessClosure: DescriptorHandler, @unchecked Sendable {
    private let body: (EventLoop.Readiness) -> Void
    init(_ body: @escaping (EventLoop.Readiness) -> Void) { self.body = body }
    func descriptorReady(_ readiness: EventLoop.Readiness) { body(readiness) }
}

/// Runs a closure at the end of a turn.
final class TurnEndClosure: TurnEndHandler, @unchecked Sendable {
    private let body: (TurnEndClosure) -> Void
    init(_ body: @escaping (TurnEndClosure) -> Void) { self.body = body }
    func endOfTurn() { body(self) }
}

/// What a loop does to a test's state, which the test reads when the loop has done it. Confined to the loop in between.
final class Confined<Value>: @unchecked Sendable {
    var value: Value
    init(_ value: Value) { self.value = value }
}

/// A number that several threads count up.
final class SharedCount: Sendable {
    private let atomic = Atomic(0)
    var value: Int { atomic.load(ordering: .acquiring) }
    func add() { atomic.add(1, ordering: .acquiringAndReleasing) }
}
