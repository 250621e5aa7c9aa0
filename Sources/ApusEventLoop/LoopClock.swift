package import ApusBase
internal import CLinux
internal import Synchronization

/// Where a loop reads the time.
package protocol LoopClock: Sendable {
    func now() -> MonotonicInstant

    /// Whether this clock runs by itself, as fast as the kernel's. A loop waits for one that does not to wake it.
    var runsByItself: Bool { get }

    /// A loop that reads this clock has started.
    func attach(_ loop: EventLoop)
}

extension LoopClock {
    package var runsByItself: Bool { true }
    package func attach(_ loop: EventLoop) {}
}

/// The kernel's CLOCK_MONOTONIC: it never goes back, and stands still while the machine sleeps.
package struct MonotonicClock: LoopClock {
    package init() {}
    package func now() -> MonotonicInstant { MonotonicInstant(nanoseconds: clinux_monotonic_nanoseconds()) }
}

/// A point in time as people tell it: nanoseconds since 1970, by the system's clock.
package struct WallTime: Hashable, Comparable, Sendable {
    package var nanoseconds: Int64

    package init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

    package static func < (left: Self, right: Self) -> Bool { left.nanoseconds < right.nanoseconds }
}

/// What instants of a loop's clock are by the system's, as both stand now.
package struct WallClock {
    private let offset: Int64

    package init(_ clock: any LoopClock) { offset = clinux_realtime_nanoseconds() &- clock.now().nanoseconds }

    package func time(of instant: MonotonicInstant) -> WallTime {
        WallTime(nanoseconds: instant.advanced(byNanoseconds: offset).nanoseconds)
    }
}

/// A clock for tests, that stands still until it is advanced. Thread-safe.
///
/// It goes in whole ticks of a loop's timer wheel: an advance is rounded up to the next (2^20 ns), so that to advance
/// by a timer's delay, at once or in parts, is always enough for it to fire.
package final class ManualClock: LoopClock {
    private let nanoseconds = Atomic<Int64>(0)
    private let loops = Lock<[AttachedLoop]>([])

    private struct AttachedLoop {
        weak let loop: EventLoop?
    }

    package init() {}

    package var runsByItself: Bool { false }

    package func now() -> MonotonicInstant { MonotonicInstant(nanoseconds: nanoseconds.load(ordering: .acquiring)) }

    /// Has a loop woken by each advance. A loop that is created with this clock attaches itself.
    package func attach(_ loop: EventLoop) {
        loops.withLock { attached in
            attached.removeAll { $0.loop == nil || $0.loop === loop }
            attached.append(AttachedLoop(loop: loop))
        }
    }

    /// Moves the time forward and wakes the loops, whose due timers then fire, on their own threads. To go on when they
    /// have, follow with `settle` on the loop.
    package func advance(by duration: Duration) {
        let ticks = TimerWheel.tick(notBefore: MonotonicInstant(nanoseconds: duration.saturatingNanoseconds))
        nanoseconds.add(max(ticks, 0) << TimerWheel.tickShift, ordering: .acquiringAndReleasing)
        // Out of the lock: a loop's last reference may go with `attached`, and its end is no business of the lock's.
        let attached = loops.withLock { $0 }
        for entry in attached { entry.loop?.wake() }
    }
}

extension EventLoop {
    /// Returns when the loop has gone through some turns: what was due when this was called has run, timers, queued
    /// work, ends of turns, and what these have started on the loop. For tests. What runs elsewhere is not waited for,
    /// nor, on the kernel's clock, a tick that has yet to end.
    package func settle() async {
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            let isAccepted = execute { self.atEndOfTurn(TurnCountdown(self, continuation)) }
            if !isAccepted { continuation.resume() }
        }
    }
}

/// Resumes a test when a few turns have ended. Confined to its loop.
private final class TurnCountdown: TurnEndHandler {
    private static let turns = 8
    private let loop: EventLoop
    private let continuation: CheckedContinuation<Void, Never>
    private var turnsLeft = TurnCountdown.turns

    init(_ loop: EventLoop, _ continuation: CheckedContinuation<Void, Never>) {
        self.loop = loop
        self.continuation = continuation
    }

    func endOfTurn() {
        turnsLeft -= 1
        if turnsLeft == 0 { continuation.resume() } else { loop.atEndOfTurn(self) }
    }
}
