internal import ApusBase
internal import Dispatch

/// A place where a task or a thread waits until somebody opens it. It stays open. From any thread.
final class Gate: Sendable {
    private enum Waiter: Sendable {
        case task(CheckedContinuation<Void, Never>)
        case thread(DispatchSemaphore)
    }

    private struct State: Sendable {
        var isOpen = false
        var waiters: [Waiter] = []
    }

    private let state = Lock(State())

    func open() {
        let waiters = state.withLock { state in
            state.isOpen = true
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters {
            switch waiter {
            case .task(let continuation): continuation.resume()
            case .thread(let semaphore): semaphore.signal()
            }
        }
    }

    func wait() async {
        await withCheckedContinuation { continuation in
            if !enter(.task(continuation)) { continuation.resume() }
        }
    }

    func waitBlocking() {
        let semaphore = DispatchSemaphore(value: 0)
        if enter(.thread(semaphore)) { semaphore.wait() }
    }

    /// Whether there is something to wait for.
    private func enter(_ waiter: Waiter) -> Bool {
        state.withLock { state in
            if state.isOpen { return false }
            state.waiters.append(waiter)
            return true
        }
    }
}
