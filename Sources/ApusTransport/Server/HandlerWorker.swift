internal import ApusEventLoop

/// A task that waits on a loop for calls to handle, one after another.
///
/// To resume a task that waits costs a quarter of making one, so asynchronous handlers run in tasks that are kept. A task
/// that was cancelled stays cancelled, so such a worker is thrown away; and because a worker runs no code of a second call
/// before the loop gave it that call, a late cancel cannot hit the wrong one. Task-local values and priority do not leak
/// from call to call: the task is detached and sets none, and what a handler binds ends with its scope.
///
/// Sendable, because all of it is confined to the shard's loop.
final class HandlerWorker: @unchecked Sendable {
    private unowned let shard: ServerShard
    private var task: Task<Void, Never>?
    private var parked: Suspension<Void>?
    private var call: ServerCall?
    private var isCancelled = false
    /// What the loop calls the worker's task, to tell it from a task that the handler made.
    private(set) var job: UInt = 0

    init(shard: ServerShard) { self.shard = shard }

    /// The call being handled, for a log line.
    var currentCall: ServerCall? { call }

    @inline(__always)
    func isRunning(on loop: EventLoop) -> Bool { loop.currentJob == job }

    /// Begins with a call. The task holds the worker and the shard.
    func start(with call: ServerCall) {
        self.call = call
        call.worker = self
        let shard = self.shard
        task = Task.detached(executorPreference: shard.loop) { await self.run(shard) }
    }

    /// Hands a call to a parked worker.
    @inline(__always)
    func resume(with call: ServerCall) {
        self.call = call
        call.worker = self
        let continuation = parked
        parked = nil
        continuation?.resume()
    }

    /// Ends a parked worker's task.
    func retire() {
        let continuation = parked
        parked = nil
        continuation?.resume()
    }

    /// Cancels the handler that is running.
    func cancel() {
        isCancelled = true
        task?.cancel()
    }

    private func run(_ shard: ServerShard) async {
        guard shard.loop.isCurrent else { return await runOnce() }
        job = shard.loop.currentJob
        shard.workerStarted(self)
        while call != nil {
            await runOnce()
            // An actor that another thread shares may have left us on that thread.
            if !shard.loop.isCurrent { await shard.loop.returnToLoop() }
            guard shard.loop.isCurrent else { return }
            giveCallBack(to: shard)
            if isCancelled { break }
            await Suspension<Void>.wait { continuation in
                parked = continuation
                if !shard.park(self) {
                    parked = nil
                    continuation.resume()
                }
            }
        }
        shard.workerEnded(self)
    }

    /// On the loop; on another thread only when the loop stopped before the task began: the handler still gets to run.
    private func runOnce() async {
        await call?.run()
    }

    private func giveCallBack(to shard: ServerShard) {
        guard let finished = call else { return }
        call = nil
        shard.giveCall(consume finished)
    }
}

extension EventLoop {
    /// Suspends the task and resumes it on the loop that it prefers.
    func returnToLoop() async {
        await Suspension<Void>.wait { continuation in
            let queued = execute { continuation.resume() }
            if !queued { continuation.resume() }
        }
    }
}
