internal import ApusBase
internal import CLinux

extension EventLoop {
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
        let eventCount = descriptors.wait(timeoutNanoseconds: mayWait ? timeout : 0)
        if mayWait { inbox.wakeUp() }

        now = clock.now()
        startUnit()
        deliverEvents(eventCount)
        fireTimers()
        inbox.drain(into: &work, spare: &spareWork)
        runWork()
        endTurn()
    }

    /// How long the loop may wait for events: 0 if it has something to do, negative without limit.
    private func timeoutNanoseconds() -> Int64 {
        if !work.isEmpty || !turnEndHandlers.isEmpty { return 0 }
        guard let tick = timers.nextTick else { return -1 }
        // Not `now`: the turn has taken its time, and a clock that is advanced by hand may have been meanwhile.
        let (due, overflow) = tick.multipliedReportingOverflow(by: 1 << TimerWheel.tickShift)
        let remaining = (overflow ? .max : due) - clock.now().nanoseconds
        if remaining <= 0 { return 0 }
        return clock.runsByItself ? remaining : -1
    }

    private func deliverEvents(_ count: Int) {
        for index in 0..<count {
            // Looked up one by one: a handler may deregister a descriptor whose event is still to come.
            guard let (handler, readiness) = descriptors.event(at: index) else { continue }
            handler.descriptorReady(readiness)
            noteUnitEnd()
        }
    }

    private func fireTimers() {
        if timers.count == 0 { return timers.collectDue(now: now) }
        timers.collectDue(now: now)
        var fired = 0
        while fired < configuration.timersPerTurnMax, let (handler, tag) = timers.popDue() {
            handler.timerFired(tag: tag)
            noteUnitEnd()
            fired += 1
        }
    }

    private func runWork() {
        if work.isEmpty { return }
        var allowance = min(work.count, configuration.queuedWorkPerTurnMax) + configuration.furtherWorkPerTurnMax
        while allowance > 0, let item = work.popFirst() {
            run(item)
            allowance -= 1
        }
        currentJob = 0
        work.releaseExcess()
    }

    @inline(__always)
    private func run(_ item: consuming LoopWork) {
        // SAFETY: the executors are the loop and a part of it; its thread, which this is, holds a reference to the
        // loop.
        switch item {
        case .job(let job):
            currentJob = Self.identity(of: job)
            unsafe job.runSynchronously(on: asUnownedTaskExecutor())
        case .isolatedJob(let job):
            currentJob = Self.identity(of: job)
            unsafe job.runSynchronously(on: asUnownedSerialExecutor())
        case .body(let body):
            currentJob = 0
            body()
        }
        noteUnitEnd()
    }

    private func endTurn() {
        if turnEndHandlers.isEmpty { return }
        swap(&turnEndHandlers, &spareTurnEndHandlers)
        for index in spareTurnEndHandlers.indices {
            spareTurnEndHandlers[index].endOfTurn()
            noteUnitEnd()
        }
        spareTurnEndHandlers.removeAll(keepingCapacity: true)
    }

    /// Runs what is queued, lets go of handlers, and hands over what comes after.
    private func end() {
        finishWork()
        // A handler's last breath may queue more: a continuation that is resumed, a connection that says goodbye.
        _ = descriptors.close()
        _ = timers.cancelAll()
        finishWork()

        isClosed = true
        inbox.close(takingRestInto: &work)
        // It ends: nothing can be added any more.
        while let item = work.popFirst() { run(item) }
        currentJob = 0
        turnEndHandlers = []
        stallObservers = []
    }

    private func finishWork() {
        for _ in 0..<Self.farewellTurnsMax {
            inbox.drain(into: &work, spare: &spareWork)
            if work.isEmpty && turnEndHandlers.isEmpty { return }
            startUnit()
            runWork()
            endTurn()
        }
    }
}
