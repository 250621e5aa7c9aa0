internal import ApusBase
internal import CLinux

extension EventLoop {
    // SAFETY: `state` is the loop's own, followed on its own thread only, which this is.

    /// How many times a loop that ends looks for more work, at the most, while it still accepts it.
    private static let farewellTurnsMax = 64

    /// The life of the loop's thread.
    func run() {
        // SAFETY: the thread's closure, which calls this, holds a reference to the loop until the address is reset.
        unsafe clinux_set_current_loop(Unmanaged.passUnretained(self).toOpaque())
        while !inbox.isStopping { turn() }
        end()
        clinux_set_current_loop(nil)
    }

    private func turn() {
        let timeout = timeoutNanoseconds()
        let mayWait = timeout != 0 && inbox.prepareToSleep()
        let eventCount = unsafe state.pointee.descriptors.wait(timeoutNanoseconds: mayWait ? timeout : 0)
        if mayWait { inbox.wakeUp() }

        unsafe state.pointee.now = clock.now()
        unsafe state.pointee.costlyUnits = 0
        unsafe state.pointee.codedBytes = 0
        startUnit()
        deliverEvents(eventCount)
        fireTimers()
        unsafe inbox.drain(into: &state.pointee.work, spare: &state.pointee.spareWork)
        runWork()
        endTurn()
    }

    /// How long the loop may wait for events: 0 if it has something to do, negative without limit.
    private func timeoutNanoseconds() -> Int64 {
        if unsafe !state.pointee.work.isEmpty || !state.pointee.turnEndHandlers.isEmpty { return 0 }
        guard let tick = unsafe state.pointee.timers.nextTick else { return -1 }
        // Not `now`: the turn has taken its time, and a clock that is advanced by hand may have been meanwhile.
        let (due, overflow) = tick.multipliedReportingOverflow(by: 1 << TimerWheel.tickShift)
        let remaining = (overflow ? .max : due) - clock.now().nanoseconds
        if remaining <= 0 { return 0 }
        return clock.runsByItself ? remaining : -1
    }

    private func deliverEvents(_ count: Int) {
        for index in 0..<count {
            // Looked up one by one: a handler may deregister a descriptor whose event is still to come.
            guard let (handler, readiness) = unsafe state.pointee.descriptors.event(at: index) else { continue }
            handler.descriptorReady(readiness)
            noteUnitEnd()
        }
    }

    private func fireTimers() {
        unsafe state.pointee.timers.collectDue(now: state.pointee.now)
        var fired = 0
        while fired < configuration.timersPerTurnMax, let (handler, tag) = unsafe state.pointee.timers.popDue() {
            handler.timerFired(tag: tag)
            noteUnitEnd()
            fired += 1
        }
    }

    private func runWork() {
        if unsafe state.pointee.work.isEmpty { return }
        let queued = unsafe min(state.pointee.work.count, configuration.queuedWorkPerTurnMax)
        var allowance = queued + configuration.furtherWorkPerTurnMax
        while allowance > 0, let item = unsafe state.pointee.work.popFirst() {
            run(item)
            allowance -= 1
        }
        unsafe state.pointee.currentJob = 0
        unsafe state.pointee.work.releaseExcess()
    }

    @inline(__always)
    private func run(_ item: consuming LoopWork) {
        // SAFETY: the executors are the loop and a part of it; its thread, which this is, holds a reference to it.
        switch item {
        case .job(let job):
            unsafe state.pointee.currentJob = Self.identity(of: job)
            unsafe job.runSynchronously(on: asUnownedTaskExecutor())
        case .isolatedJob(let job):
            unsafe state.pointee.currentJob = Self.identity(of: job)
            unsafe job.runSynchronously(on: asUnownedSerialExecutor())
        case .body(let body):
            unsafe state.pointee.currentJob = 0
            body()
        }
        noteUnitEnd()
    }

    private func endTurn() {
        if unsafe state.pointee.turnEndHandlers.isEmpty { return }
        unsafe swap(&state.pointee.turnEndHandlers, &state.pointee.spareTurnEndHandlers)
        for index in unsafe state.pointee.spareTurnEndHandlers.indices {
            unsafe state.pointee.spareTurnEndHandlers[index].endOfTurn()
            noteUnitEnd()
        }
        unsafe state.pointee.spareTurnEndHandlers.removeAll(keepingCapacity: true)
    }

    /// Runs what is queued, lets go of handlers, and hands over what comes after.
    private func end() {
        let observers = unsafe state.pointee.endObservers
        unsafe state.pointee.endObservers = []
        for observer in observers { observer() }
        unsafe state.pointee.isEnding = true
        let residents = unsafe state.pointee.residents
        unsafe state.pointee.residents = [:]
        for resident in residents.values { resident.loopEnds() }
        finishWork()
        // A handler's last breath may queue more: a continuation that is resumed, a connection that says goodbye.
        _ = unsafe state.pointee.descriptors.close()
        _ = unsafe state.pointee.timers.cancelAll()
        finishWork()

        unsafe state.pointee.isClosed = true
        unsafe inbox.close(takingRestInto: &state.pointee.work)
        // It ends: nothing can be added any more.
        while let item = unsafe state.pointee.work.popFirst() { run(item) }
        unsafe state.pointee.currentJob = 0
        unsafe state.pointee.turnEndHandlers = []
        unsafe state.pointee.stallObservers = []
    }

    private func finishWork() {
        for _ in 0..<Self.farewellTurnsMax {
            unsafe inbox.drain(into: &state.pointee.work, spare: &state.pointee.spareWork)
            if unsafe state.pointee.work.isEmpty && state.pointee.turnEndHandlers.isEmpty { return }
            startUnit()
            runWork()
            endTurn()
        }
    }
}
