internal import ApusBase
internal import Synchronization

/// What other threads hand to a loop: many producers, one consumer, at most one wake-up for each batch that it takes.
///
/// The work is under a lock; the decision whether to wake is not. A producer publishes `isPending` and then looks
/// whether the loop sleeps, the loop publishes that it is about to sleep and then looks at `isPending`: each stores
/// before it loads, sequentially consistent, so that at least one of them sees the other.
final class LoopInbox: Sendable {
    private struct State: ~Copyable {
        var work = WorkRing()
        var isOpen: Bool
    }

    private let state: Lock<State>
    private let isPending = Atomic<Bool>(false)
    private let isSleeping = Atomic<Bool>(false)
    private let isStopRequested = Atomic<Bool>(false)

    /// Registered edge-triggered, so that no one has to read it. Closed with the last reference and not by the loop's
    /// thread, since a producer may be about to write to it. -1 of an inbox that was never open.
    let eventDescriptor: CInt

    init() throws(SystemError) {
        eventDescriptor = try SystemCalls.eventDescriptor()
        state = Lock(State(isOpen: true))
    }

    /// An inbox that refuses everything, of a loop that could not be started.
    init(closed: Void) {
        eventDescriptor = -1
        state = Lock(State(isOpen: false))
    }

    deinit {
        if eventDescriptor >= 0 { SystemCalls.close(eventDescriptor) }
    }

    // MARK: Any thread

    /// Queues work for the loop and sees to it that the loop comes to take it. False if the loop has ended.
    func submit(_ work: LoopWork) -> Bool {
        let isFirst: Bool? = state.withLock { state in
            guard state.isOpen else { return nil }
            state.work.append(work)
            // Whoever was first since the loop last came has woken it, or is about to.
            if isPending.load(ordering: .relaxed) { return false }
            isPending.store(true, ordering: .sequentiallyConsistent)
            return true
        }
        guard let isFirst else { return false }
        if isFirst { wakeIfAsleep() }
        return true
    }

    /// Has the loop go through a turn.
    func wake() {
        isPending.store(true, ordering: .sequentiallyConsistent)
        wakeIfAsleep()
    }

    /// Asks the loop to end.
    func requestStop() {
        isStopRequested.store(true, ordering: .releasing)
        wake()
    }

    private func wakeIfAsleep() {
        guard eventDescriptor >= 0, isSleeping.load(ordering: .sequentiallyConsistent) else { return }
        if isSleeping.exchange(false, ordering: .sequentiallyConsistent) { SystemCalls.signal(eventDescriptor) }
    }

    // MARK: The loop's thread

    /// Announces that the loop is about to wait. False if it must not, since something has come.
    func prepareToSleep() -> Bool {
        isSleeping.store(true, ordering: .sequentiallyConsistent)
        if !isPending.load(ordering: .sequentiallyConsistent) { return true }
        isSleeping.store(false, ordering: .relaxed)
        return false
    }

    /// The loop is awake: from here on it looks by itself, and nobody need wake it.
    func wakeUp() {
        isSleeping.store(false, ordering: .relaxed)
    }

    /// Moves what has come to the end of the loop's own queue. `spare` is empty, before and after.
    @inline(__always)
    func drain(into ring: inout WorkRing, spare: inout WorkRing) {
        if isPending.load(ordering: .acquiring) { drainPending(into: &ring, spare: &spare) }
    }

    private func drainPending(into ring: inout WorkRing, spare: inout WorkRing) {
        if ring.isEmpty {
            exchange(&ring)
        } else {
            exchange(&spare)
            ring.takeAll(from: &spare)
            spare.releaseExcess()
        }
    }

    /// Swaps an empty ring for the one that producers have filled.
    private func exchange(_ ring: inout WorkRing) {
        state.withLock { state in
            // Within the lock: a producer that comes after it finds `isPending` false, and wakes.
            isPending.store(false, ordering: .relaxed)
            swap(&state.work, &ring)
        }
    }

    var isStopping: Bool { isStopRequested.load(ordering: .acquiring) }

    /// Refuses work from here on. What came before it is moved to the end of `ring`.
    func close(takingRestInto ring: inout WorkRing) {
        var rest = WorkRing()
        state.withLock { state in
            state.isOpen = false
            swap(&state.work, &rest)
        }
        ring.takeAll(from: &rest)
    }
}
