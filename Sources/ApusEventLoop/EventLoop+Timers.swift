package import ApusBase

extension EventLoop {
    // SAFETY: `state` is the loop's own, followed on its own thread only.

    /// Has a handler called once, no earlier than at an instant, and on an idle loop at most about one tick (1.05 ms)
    /// later. A time that has passed is due in the next turn. O(1); allocates only when more timers are pending than
    /// ever before.
    ///
    /// - Parameter tag: handed to the handler, so that one can have several timers.
    package func schedule(at instant: MonotonicInstant, handler: any TimerHandler, tag: UInt64 = 0) -> TimerID {
        assertCurrent()
        return unsafe state.pointee.timers.schedule(at: instant, handler: handler, tag: tag)
    }

    /// Has a closure called once, so long after `now`. Allocates an object to hold it.
    @discardableResult
    package func schedule(after delay: Duration, _ body: @escaping () -> Void) -> TimerID {
        schedule(at: now.advanced(by: delay), handler: ClosureTimer(body))
    }

    /// Ends a timer: its handler is not called. O(1). Harmless if it has fired, has been cancelled, or is `.none`.
    package func cancel(_ timer: TimerID) {
        assertCurrent()
        // Bound to a name, so that the handler is dropped when the wheel is no longer being changed.
        let handler = unsafe state.pointee.timers.cancel(timer)
        _ = handler
    }
}

private final class ClosureTimer: TimerHandler {
    private let body: () -> Void

    init(_ body: @escaping () -> Void) { self.body = body }

    func timerFired(tag: UInt64) { body() }
}
