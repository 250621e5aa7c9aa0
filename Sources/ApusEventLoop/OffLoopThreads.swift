internal import ApusBase
internal import CLinux

/// Threads for work that would hold up a loop: as many as there are processors at the most, started as needed, gone
/// when there is nothing left to do.
///
/// Not Swift's global pool, which a program may have filled with threads that block, perhaps waiting for this very
/// work. Whoever submits work bounds it.
package enum OffLoopThreads {
    private struct State {
        var threadCount = 0
        /// From `start` on; what was taken is `nil`, so that nothing of it is kept.
        var waiting: [(@Sendable () -> Void)?] = []
        var start = 0
    }

    private static let state = Lock(State())
    private static let threadsMax = max(Int(clinux_processor_count()), 1)

    /// Runs the work on one of the threads, in the order in which it came; on this one when no thread can be started.
    package static func submit(_ work: @escaping @Sendable () -> Void) {
        let startsThread = state.withLock { state in
            state.waiting.append(work)
            if state.threadCount >= threadsMax { return false }
            state.threadCount += 1
            return true
        }
        guard startsThread else { return }
        do {
            _ = try LoopThread(name: "apus-off-loop", isDetached: true) { run() }
        } catch {
            run()
        }
    }

    private static func run() {
        while let work = next() { work() }
    }

    /// The next work; nil, and one thread fewer, if there is none.
    private static func next() -> (@Sendable () -> Void)? {
        state.withLock { state in
            guard state.start < state.waiting.count else {
                state.threadCount -= 1
                return nil
            }
            let work = state.waiting[state.start].take()
            state.start += 1
            // In portions: a queue that is never quite empty must not grow for ever.
            if state.start == state.waiting.count || state.start >= 64 {
                state.waiting.removeFirst(state.start)
                state.start = 0
            }
            return work
        }
    }
}
