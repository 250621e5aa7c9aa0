internal import Dispatch
internal import Foundation

/// Runs what blocks on a thread of its own: the pool that tests run on has no thread to spare.
package func onThread<Result: Sendable>(_ body: @escaping @Sendable () throws -> Result) async throws -> Result {
    try await withCheckedThrowingContinuation { continuation in
        let thread = Thread { continuation.resume(with: Swift.Result { try body() }) }
        thread.stackSize = 1 << 20
        thread.start()
    }
}

/// Something that happens once, for whoever waits for it, tasks and threads.
package final class Signal: Sendable {
    private let semaphore = DispatchSemaphore(value: 0)
    private let stream: AsyncStream<Void>
    private let continuation: AsyncStream<Void>.Continuation

    package init() { (stream, continuation) = AsyncStream.makeStream() }

    package func send() {
        continuation.finish()
        semaphore.signal()
    }

    /// Suspends until it happened, or the task is cancelled.
    package func wait() async { for await _ in stream {} }

    /// Blocks the thread until it happened; `false` when that took too long to be believed in.
    package func block(seconds: Int = 30) -> Bool {
        guard semaphore.wait(timeout: .now() + .seconds(seconds)) == .success else { return false }
        semaphore.signal()
        return true
    }
}
