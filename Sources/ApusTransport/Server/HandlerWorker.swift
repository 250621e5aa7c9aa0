internal import ApusEventLoop

/// A task that waits on a loop for calls to handle, one after another.
///
/// To resume a task that waits costs a quarter of making one, so asynchronous handlers run in tasks that are kept; and
/// a worker that is awake takes every call that is ready, so that handlers which never suspend share one resumption.
/// When a handler suspends, the calls behind it go to the next worker (``ServerShard/dispatch()``).
///
/// A task that was cancelled stays cancelled, so such a worker is thrown away; and because a worker runs no code of a
/// second call before the loop has seen the first one's end, a late cancel cannot hit the wrong one. Task-local values
/// and priority do not leak from call to call: the task is detached and sets none, and what a handler binds ends with
/// its scope.
///
/// Sendable, because all of it is confined to the shard's loop.
final class HandlerWorker: @unchecked Sendable {
    private var task: Task<Void, Never>?
    private var parked: Suspension<Void>?
    private var call: ServerCall?
    private var isCancelled = false
    private var isRetired = false
    /// What the loop calls the worker's task, to tell it from a task that the handler made.
    private(set) var job: UInt = 0

    /// The call being handled, for a log line.
    var currentCall: ServerCall? { call }

    @inline(__always)
    func isRunning(on loop: EventLoop) -> Bool { loop.currentJob == job }

    /// Makes the task, which holds the worker and the shard.
    func start(_ shard: ServerShard) {
        task = Task.detached(executorPreference: shard.loop) { await self.run(shard) }
    }

    /// Wakes a parked worker: there are calls to handle.
    @inline(__always)
    func wake() {
        let suspension = parked
        parked = nil
        suspension?.resume()
    }

    /// Ends a parked worker's task.
    func retire() {
        isRetired = true
        wake()
    }

    /// Cancels the handler that is running.
    func cancel() {
        isCancelled = true
        task?.cancel()
    }

    private func run(_ shard: ServerShard) async {
        // A loop that stopped runs nobody's jobs: the connections, and with them the calls, are gone.
        guard shard.loop.isCurrent else { return }
        job = shard.loop.currentJob
        shard.workerStarted(self)
        while !isCancelled, !isRetired {
            while !isCancelled, let next = shard.takeReadyCall() {
                begin(next)
                await next.run()
                // An actor that another thread shares may have left us on that thread.
                if !shard.loop.isCurrent { await shard.loop.returnToLoop() }
                guard shard.loop.isCurrent else { return }
                end(consume next, shard)
                // The handler may have cancelled its own task.
                if Task.isCancelled { isCancelled = true }
            }
            guard !isCancelled, shard.park(self) else { break }
            await Suspension<Void>.wait { parked = $0 }
        }
        shard.workerEnded(self)
    }

    @inline(__always)
    private func begin(_ call: ServerCall) {
        self.call = call
        call.worker = self
    }

    @inline(__always)
    private func end(_ call: consuming ServerCall, _ shard: ServerShard) {
        if let duration = shard.loop.checkStall() { shard.reportSlowHandler(call.method.descriptor, duration) }
        self.call = nil
        shard.giveCall(consume call)
    }
}

extension EventLoop {
    /// Suspends the task and resumes it on the loop that it prefers.
    func returnToLoop() async {
        await Suspension<Void>.wait { suspension in
            let queued = execute { suspension.resume() }
            if !queued { suspension.resume() }
        }
    }
}
