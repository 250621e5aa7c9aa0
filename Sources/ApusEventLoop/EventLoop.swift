package import ApusBase
internal import CLinux
package import Logging
package import Synchronization

/// One thread, its descriptors, its timers and its work: everything a connection lives on.
///
/// A turn is: wait for events; tell the descriptors' handlers; fire the timers; take what other threads have queued;
/// run jobs and bodies, up to a bound; call those who wait for the end of the turn.
///
/// It is an executor of Swift tasks (`Task(executorPreference: loop)`) and of actors (`unownedExecutor`); see
/// `EventLoop+Executor.swift`.
///
/// Thread-safety: `execute`, `enqueue`, `wake`, `stop`, `join`, `isCurrent`, `addStallObserver` and the connection
/// count are for any thread. All else belongs to the loop's own, which debug builds check. The thread keeps the loop
/// alive until it is stopped.
@safe
package final class EventLoop: @unchecked Sendable {
    // SAFETY: `state` and the scratch storages are owned by the loop and freed in deinit. Only
    // the loop's thread follows them, in between; it holds a reference to the loop. The same goes for the extensions.

    package struct Configuration: Sendable {
        /// A callback, job or body that runs for longer is reported; nil for never. The clock that measures it is
        /// only as fine as the kernel's tick: 1 to 10 ms.
        package var stallThreshold: Duration? = .milliseconds(500)
        /// How many of the jobs and bodies that were queued when a turn comes to them it runs; the rest waits for the
        /// next, so that descriptors are not starved.
        package var queuedWorkPerTurnMax = 4096
        /// How many more it runs of those that these have queued.
        package var furtherWorkPerTurnMax = 256
        /// How many units of work that take long by nature (a TLS handshake's public-key cryptography) one turn does,
        /// so that they do not add up at the expense of everything else.
        package var costlyUnitsPerTurnMax = 2
        /// Bytes that a turn may inflate, or as much work as that; about a millisecond.
        package var codedBytesPerTurnMax = 512 * 1024
        /// How many timers one turn fires.
        package var timersPerTurnMax = 4096

        package init() {}
    }

    package let name: String
    package let clock: any LoopClock
    let configuration: Configuration
    let logger: Logger
    let inbox: LoopInbox
    /// The executor of actors that live here.
    let serialExecutor = LoopSerialExecutor()
    /// How many connections live here; for whoever looks for the loop with the fewest.
    package let connectionCount = Atomic<Int>(0)
    /// Present until it is joined.
    private let thread = Lock<LoopThread?>(nil)
    /// Why a loop that never ran did not.
    let startError: SystemError?

    /// 0 if nothing is measured.
    let stallThresholdNanoseconds: Int64
    /// Confined to the loop's thread, and to `init` and `deinit`; so are the two below.
    let state: UnsafeMutablePointer<LoopState>
    private var readScratchStorage: UnsafeMutableRawBufferPointer?
    private var writeScratchStorage: UnsafeMutableRawBufferPointer?
    private var plaintextScratchStorage: UnsafeMutableRawBufferPointer?

    private static let readScratchBytes = 64 * 1024
    private static let writeScratchBytes = 256 * 1024

    /// Starts the loop's thread.
    ///
    /// - Throws: what keeps the kernel from giving an epoll, an eventfd or a thread.
    package convenience init(
        name: String,
        clock: any LoopClock = MonotonicClock(),
        configuration: Configuration = Configuration(),
        logger: Logger
    ) throws(SystemError) {
        let inbox = try LoopInbox()
        let descriptors = try DescriptorTable(wakeDescriptor: inbox.eventDescriptor)
        self.init(name, clock, configuration, logger, inbox: inbox, descriptors: descriptors, startError: nil)
        clock.attach(self)
        let thread = try LoopThread(name: name) { self.run() }
        self.thread.withLock { $0 = thread }
    }

    /// A loop that could not be started: it refuses all work, as a stopped one does, and says why when a descriptor is
    /// registered. For where there is no one to throw to.
    convenience init(name: String, unstartable error: SystemError, logger: Logger) {
        self.init(
            name,
            MonotonicClock(),
            Configuration(),
            logger,
            inbox: LoopInbox(closed: ()),
            descriptors: DescriptorTable(closed: ()),
            startError: error
        )
        unsafe state.pointee.isClosed = true
    }

    private init(
        _ name: String,
        _ clock: any LoopClock,
        _ configuration: Configuration,
        _ logger: Logger,
        inbox: LoopInbox,
        descriptors: consuming DescriptorTable,
        startError: SystemError?
    ) {
        self.name = name
        self.clock = clock
        self.configuration = configuration
        self.logger = logger
        self.inbox = inbox
        self.startError = startError
        stallThresholdNanoseconds = configuration.stallThreshold.map { max($0.saturatingNanoseconds, 1) } ?? 0
        unsafe state = .allocate(capacity: 1)
        unsafe state.initialize(to: LoopState(now: clock.now(), descriptors: descriptors))
        serialExecutor.attach(self)
    }

    deinit {
        thread.withLock { $0?.detach() }
        unsafe state.deinitialize(count: 1)
        unsafe state.deallocate()
        unsafe readScratchStorage?.deallocate()
        unsafe writeScratchStorage?.deallocate()
        unsafe plaintextScratchStorage?.deallocate()
    }

    // MARK: Which thread

    /// Whether the caller is on this loop's thread.
    package var isCurrent: Bool {
        // SAFETY: two addresses are compared; neither is followed.
        unsafe clinux_current_loop() == Unmanaged.passUnretained(self).toOpaque()
    }

    /// The loop whose thread the caller is on, if any.
    package static var current: EventLoop? {
        // SAFETY: the address was set by the loop's thread, which holds a reference until after it has reset it.
        guard let address = unsafe clinux_current_loop() else { return nil }
        return unsafe Unmanaged<EventLoop>.fromOpaque(address).takeUnretainedValue()
    }

    /// Stops a debug build if the caller is not on the loop's thread.
    @inline(__always)
    package func assertCurrent() {
        assert(isCurrent, "this belongs to the thread of event loop \(name)")
    }

    /// The time as of the start of the turn or the last `refreshNow`. The loop's own thread.
    package var now: MonotonicInstant {
        assertCurrent()
        return unsafe state.pointee.now
    }

    /// Reads the clock, for whoever has worked for long in this turn.
    package func refreshNow() {
        assertCurrent()
        unsafe state.pointee.now = clock.now()
    }

    // MARK: Work

    /// Which job is being run (the bits of its UnownedJob), 0 if none is. A task's job is the same each time it runs.
    /// The loop's own thread.
    package var currentJob: UInt { unsafe state.pointee.currentJob }

    /// Runs a closure on the loop, in the order in which closures and jobs come. From the loop's own thread it takes
    /// no lock and wakes no one; it is then run later in this turn or in the next, never before this returns.
    ///
    /// - Returns: false if the loop has ended; the closure is dropped then. One that was accepted is run.
    @discardableResult
    package func execute(_ body: @escaping @Sendable () -> Void) -> Bool {
        submit(.body(body))
    }

    /// Runs a closure on the loop and gives what it returns; `nil` if the loop has ended. Waits its turn there, also
    /// when the caller is on the loop.
    package func ask<Answer: Sendable>(_ question: @escaping @Sendable () -> Answer) async -> Answer? {
        await withCheckedContinuation { (continuation: CheckedContinuation<Answer?, Never>) in
            // What is accepted is run, so that this is resumed in any case.
            if !execute({ continuation.resume(returning: question()) }) { continuation.resume(returning: nil) }
        }
    }

    @inline(__always)
    func submit(_ item: consuming LoopWork) -> Bool {
        guard isCurrent else { return inbox.submit(item) }
        if unsafe state.pointee.isClosed { return false }
        unsafe state.pointee.work.append(item)
        return true
    }

    /// Has the loop go through a turn. Any thread.
    package func wake() { inbox.wake() }

    /// Has a handler called when this turn ends, after its events, timers and work. One that adds itself when it is
    /// called is called again at the end of the next turn, which then does not wait for events. A handler is called
    /// as often as it was added.
    package func atEndOfTurn(_ handler: any TurnEndHandler) {
        assertCurrent()
        unsafe state.pointee.turnEndHandlers.append(handler)
    }

    /// Has a closure called, on the loop, when the loop is about to end: whoever lives here can say goodbye, and what
    /// that queues is still run. Any thread; not called if the loop has ended.
    package func atEnd(_ body: @escaping @Sendable () -> Void) {
        // SAFETY: `state` is the loop's own, followed on its own thread only.
        execute { unsafe self.state.pointee.endObservers.append(body) }
    }

    /// Keeps an object, and tells it when the loop is about to end, until it is removed; on a loop that ends it is told
    /// at once. The loop's own thread.
    package func addResident(_ resident: any LoopResident) {
        // SAFETY: as above.
        assertCurrent()
        if unsafe state.pointee.isEnding { return resident.loopEnds() }
        unsafe state.pointee.residents[ObjectIdentifier(resident)] = resident
    }

    package func removeResident(_ resident: any LoopResident) {
        // SAFETY: as above. Bound to a name, so that the resident is dropped when the table is no longer being changed.
        assertCurrent()
        let removed = unsafe state.pointee.residents.removeValue(forKey: ObjectIdentifier(resident))
        _ = removed
    }

    /// Whether this turn may do one more costly unit of work; who is refused comes again in the next, as a descriptor
    /// that stays readable does by itself. The loop's own thread.
    package func mayDoCostlyUnit() -> Bool {
        // SAFETY: as above.
        assertCurrent()
        guard unsafe state.pointee.costlyUnits < configuration.costlyUnitsPerTurnMax else { return false }
        unsafe state.pointee.costlyUnits += 1
        return true
    }

    /// Whether this turn may compress and inflate more; what it has done is told to ``coded(bytes:)``. The loop's own
    /// thread.
    package var mayCode: Bool {
        // SAFETY: as above.
        assertCurrent()
        return unsafe state.pointee.codedBytes < configuration.codedBytesPerTurnMax
    }

    package func coded(bytes: Int) {
        // SAFETY: as above.
        assertCurrent()
        unsafe state.pointee.codedBytes += bytes
    }

    // MARK: Load

    package func connectionAdded() { connectionCount.add(1, ordering: .relaxed) }
    package func connectionRemoved() { connectionCount.subtract(1, ordering: .relaxed) }

    // MARK: Scratch memory

    /// 64 KiB to read into, of no defined content. For one synchronous stretch on the loop: whoever runs next uses it
    /// too.
    package var readScratch: UnsafeMutableRawBufferPointer {
        assertCurrent()
        if let storage = unsafe readScratchStorage { return unsafe storage }
        let storage = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.readScratchBytes, alignment: 64)
        unsafe readScratchStorage = storage
        return unsafe storage
    }

    /// 256 KiB to gather a write in, under the same terms.
    package var writeScratch: UnsafeMutableRawBufferPointer {
        assertCurrent()
        if let storage = unsafe writeScratchStorage { return unsafe storage }
        let storage = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.writeScratchBytes, alignment: 64)
        unsafe writeScratchStorage = storage
        return unsafe storage
    }

    /// 64 KiB to decrypt into what is in `readScratch`, under the same terms. Only a loop that has TLS to do has it.
    package var plaintextScratch: UnsafeMutableRawBufferPointer {
        assertCurrent()
        if let storage = unsafe plaintextScratchStorage { return unsafe storage }
        let storage = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.readScratchBytes, alignment: 64)
        unsafe plaintextScratchStorage = storage
        return unsafe storage
    }

    // MARK: The end

    /// Asks the loop to end: it runs what is queued, drops its timers and descriptors (their owners close those), and
    /// from then on refuses work. Returns at once; harmless when repeated.
    package func stop() { inbox.requestStop() }

    /// Waits until the loop's thread has ended, which `stop` has to bring about.
    ///
    /// - Returns: false, at once, on the loop's own thread: a thread cannot wait for itself.
    @discardableResult
    package func join() -> Bool {
        if isCurrent {
            assertionFailure("event loop \(name) cannot wait for itself")
            return false
        }
        thread.withLock { thread in
            thread?.join()
            thread = nil
        }
        return true
    }
}

/// Lives on a loop, and is told when that is about to end: it can say goodbye, and what that queues is still run.
package protocol LoopResident: AnyObject {
    func loopEnds()
}

/// Is called when the turn ends in which it was added.
package protocol TurnEndHandler: AnyObject {
    func endOfTurn()
}
