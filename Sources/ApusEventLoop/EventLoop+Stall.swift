internal import CLinux
internal import Logging

/// A loop that is held up keeps all its connections waiting. Each callback, job and body is a unit; one that takes
/// longer than the threshold is reported.
extension EventLoop {
    // SAFETY: `state` is the loop's own, followed on its own thread only.

    /// Is told which job (its identity as in `currentJob`, or 0) held the loop up for how long. Answers whether it
    /// has dealt with it.
    package typealias StallObserver = @Sendable (UInt, Duration) -> Bool

    /// Adds an observer, called on the loop. Any thread.
    package func addStallObserver(_ observer: @escaping StallObserver) {
        if isCurrent {
            unsafe state.pointee.stallObservers.append(observer)
        } else {
            execute { unsafe self.state.pointee.stallObservers.append(observer) }
        }
    }

    /// A unit has ended, the next begins. The loop does this by itself after each callback, job and body.
    @inline(__always)
    package func noteUnitEnd() {
        if stallThresholdNanoseconds == 0 { return }
        let time = clinux_coarse_nanoseconds()
        let elapsed = unsafe time &- state.pointee.unitStart
        unsafe state.pointee.unitStart = time
        if elapsed > stallThresholdNanoseconds { reportStall(.nanoseconds(elapsed)) }
    }

    /// Ends a unit within a callback that runs many. Reports nothing by itself.
    ///
    /// - Returns: how long the unit took, if that was more than the threshold.
    package func checkStall() -> Duration? {
        assertCurrent()
        if stallThresholdNanoseconds == 0 { return nil }
        let time = clinux_coarse_nanoseconds()
        let elapsed = unsafe time &- state.pointee.unitStart
        unsafe state.pointee.unitStart = time
        return elapsed > stallThresholdNanoseconds ? .nanoseconds(elapsed) : nil
    }

    @inline(__always)
    func startUnit() {
        if stallThresholdNanoseconds != 0 { unsafe state.pointee.unitStart = clinux_coarse_nanoseconds() }
    }

    @inline(never)
    private func reportStall(_ duration: Duration) {
        let job = currentJob
        var isDealtWith = false
        for observer in unsafe state.pointee.stallObservers where observer(job, duration) { isDealtWith = true }
        if !isDealtWith {
            logger.warning(
                "an event loop was held up",
                metadata: ["loop": "\(name)", "duration": "\(duration)", "job": "0x\(String(job, radix: 16))"]
            )
        }
        unsafe state.pointee.unitStart = clinux_coarse_nanoseconds()
    }
}
