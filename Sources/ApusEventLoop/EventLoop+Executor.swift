internal import ApusBase

/// The loop as an executor of tasks.
///
/// A job does not say in which role its executor is wanted, and the two must be told apart. A job that comes to a
/// task executor runs isolated to nothing: were it run with `runSynchronously(isolatedTo: loop, taskExecutor: loop)`,
/// the runtime would hold it to be inside an actor, forbid it to go on inline into a default actor, and queue it anew
/// at each call of a function without isolation. A job of an actor has to run isolated to that actor's executor.
/// Hence `serialExecutor`, an object of its own that queues jobs with a mark; the loop as a `SerialExecutor` is that
/// object.
extension EventLoop: TaskExecutor {
    package func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        if !submit(.job(job)) { globalConcurrentExecutor.enqueue(ExecutorJob(job)) }
    }

    /// The bits of a job's reference.
    @inline(__always)
    static func identity(of job: UnownedJob) -> UInt {
        // SAFETY: an UnownedJob is one reference to an object of the runtime; it is not followed.
        unsafe unsafeBitCast(job, to: UInt.self)
    }
}

extension EventLoop: SerialExecutor {
    /// For an actor's `unownedExecutor`. The actor has to keep the loop alive.
    package func asUnownedSerialExecutor() -> UnownedSerialExecutor {
        // SAFETY: the loop owns the object that is referred to, and the caller, as told, keeps the loop.
        unsafe serialExecutor.asUnownedSerialExecutor()
    }
}

/// The loop as the executor of actors: what runs on it is alone.
final class LoopSerialExecutor: SerialExecutor, @unchecked Sendable {
    // SAFETY: the loop owns this object, and whoever hands out an unowned reference to it (an actor, by
    // `unownedExecutor`) keeps the loop alive.

    /// Set once, before anyone else sees this object.
    private unowned(unsafe) var loop: EventLoop?
    private let leftOver = Lock(LeftOver())

    /// Jobs that came when the loop had ended.
    private struct LeftOver {
        var jobs: [UnownedJob] = []
        var isBeingRun = false
    }

    func attach(_ loop: EventLoop) { unsafe self.loop = loop }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        guard let loop = unsafe loop else { return }
        if !loop.submit(.isolatedJob(job)) { enqueueLeftOver(job, loop) }
    }

    /// Everything on the loop's thread is serial with everything else there, whatever the runtime believes it runs in.
    func isIsolatingCurrentContext() -> Bool? { unsafe loop?.isCurrent }

    func checkIsolated() {
        precondition(
            isIsolatingCurrentContext() == true,
            "not on the thread of the event loop that is this actor's executor"
        )
    }

    /// The global executor would run an actor's jobs side by side. A thread that lasts as long as there are any does
    /// not.
    private func enqueueLeftOver(_ job: UnownedJob, _ loop: EventLoop) {
        let isFirst = leftOver.withLock { leftOver in
            leftOver.jobs.append(job)
            defer { leftOver.isBeingRun = true }
            return !leftOver.isBeingRun
        }
        guard isFirst else { return }
        let thread = try? LoopThread(name: "apus-left-over", isDetached: true) { loop.serialExecutor.runLeftOver() }
        // Without threads there is but the caller's.
        if thread == nil { runLeftOver() }
    }

    private func runLeftOver() {
        while let job = nextLeftOver() { unsafe job.runSynchronously(on: asUnownedSerialExecutor()) }
    }

    private func nextLeftOver() -> UnownedJob? {
        leftOver.withLock { leftOver in
            if leftOver.jobs.isEmpty {
                leftOver.isBeingRun = false
                return nil
            }
            return leftOver.jobs.removeFirst()
        }
    }
}
