package import ApusEventLoop
package import ApusTLS
package import Logging
internal import ApusBase
internal import Synchronization

/// What a server keeps for each of its loops: stream memory, parked workers, the connections that live there.
///
/// Confined to its loop but for what is `let`; Sendable for that reason.
package final class ServerShard: @unchecked Sendable {
    package let loop: EventLoop
    package let router: Router
    package let limits: ServerLimits
    let encodings: MessageEncodings
    package let logger: Logger
    /// `nil` to serve plaintext.
    let tls: TLSContextSource?
    /// Handlers running in the whole server; counted only when that is limited.
    let runningHandlersInServer: SharedCount?
    /// Bytes of messages that the connections of the whole server hold.
    let heldBytesInServer: HeldBytes
    /// Says what peers did that had their connections ended.
    let faultLog: PeerFaultLog

    let streams = Confined(StreamPool())
    let http2Memory = HTTP2Memory()
    private(set) var connections: [Int64: ServerConnection] = [:]
    private let hot = Confined(Hot())
    /// The fewest workers that were parked at any time since the last look: those were not needed.
    private var fewestParked = 0
    private var expiry = EventLoop.TimerID.none
    private var workersByJob: [UInt: HandlerWorker] = [:]
    private var isStopped = false
    private var whenEmpty: [@Sendable () -> Void] = []

    /// What every call touches.
    private struct Hot {
        var parked: [HandlerWorker] = []
        /// Call objects for the next calls, in a list; how many there are, and how many may be.
        var firstSpareCall: ServerCall?
        var spareCallCount = 0
        var spareCallsMax = 256
        /// Calls whose handler waits for a worker, and whether one was woken for them.
        var readyCalls = CallQueue()
        var isDispatching = false
        /// Calls, for channelz.
        var callsStarted = 0
        var callsSucceeded = 0
        var callsFailed = 0
        var callsStartedTime = ChangeTime()
    }

    package init(
        loop: EventLoop,
        router: Router,
        limits: ServerLimits,
        encodings: MessageEncodings = MessageEncodings(),
        logger: Logger,
        runningHandlersInServer: SharedCount?,
        heldBytesInServer: HeldBytes = HeldBytes(limit: nil),
        tls: TLSContextSource? = nil
    ) {
        self.loop = loop
        self.router = router
        self.limits = limits
        self.encodings = encodings
        self.logger = logger
        self.runningHandlersInServer = runningHandlersInServer
        self.heldBytesInServer = heldBytesInServer
        self.faultLog = PeerFaultLog(logger: logger, loop: loop)
        self.tls = tls
    }

    deinit {
        while hot.value.readyCalls.popFirst() != nil {}
        hot.destroy()
        streams.value.removeAll()
        streams.destroy()
    }

    // MARK: Calls

    /// A call object: one that is free, or a new one.
    @inline(__always)
    func takeCall(_ method: ServedMethodRef, _ session: ServerSession) -> ServerCall {
        guard let call = hot.value.firstSpareCall.take() else {
            return ServerCall(shard: self, method: method, peer: session.peer)
        }
        hot.value.firstSpareCall = call.takeNextSpare()
        hot.value.spareCallCount -= 1
        return call
    }

    // For channelz; each is an addition to a field that no other thread sees.

    @inline(__always)
    func noteCallStarted() { hot.value.callsStarted &+= 1 }

    @inline(__always)
    func noteCallEnded(isSuccess: Bool) {
        if isSuccess { hot.value.callsSucceeded &+= 1 } else { hot.value.callsFailed &+= 1 }
    }

    /// Bytes of a peer are about to be read.
    @inline(__always)
    func mayStartCalls(now: MonotonicInstant) {
        hot.value.callsStartedTime.batchBegins(hot.value.callsStarted, now: now)
    }

    /// On the loop.
    var callCounts: CallCounts {
        CallCounts(
            started: hot.value.callsStarted,
            succeeded: hot.value.callsSucceeded,
            failed: hot.value.callsFailed,
            lastStarted: hot.value.callsStartedTime.last(hot.value.callsStarted).map {
                WallClock(loop.clock).time(of: $0)
            }
        )
    }

    /// Keeps the object for another call, unless a handler kept it.
    @inline(__always)
    func giveCall(_ call: consuming ServerCall) {
        var call = consume call
        guard isKnownUniquelyReferenced(&call), hot.value.spareCallCount < hot.value.spareCallsMax else { return }
        call.recycle(next: hot.value.firstSpareCall.take())
        hot.value.firstSpareCall = call
        hot.value.spareCallCount += 1
    }

    /// Runs an asynchronous handler.
    @inline(__always)
    func start(_ call: ServerCall, _ executor: HandlerExecutor) {
        switch executor {
        case .eventLoop:
            hot.value.readyCalls.append(call)
            if !hot.value.isDispatching {
                hot.value.isDispatching = true
                dispatch()
            }
        case .globalConcurrent:
            call.task = Task.detached { await call.run() }
        }
    }

    /// The next call whose handler is to run on this loop.
    @inline(__always)
    func takeReadyCall() -> ServerCall? {
        while let call = hot.value.readyCalls.popFirst() {
            guard let session = call.session, session.isHeldUp, !call.isOver else { return call }
            session.hold(call)
        }
        return nil
    }

    // MARK: Workers

    /// Wakes a worker for the calls that are ready, and looks again once it has run: when a handler suspended, the
    /// calls behind it need another worker.
    private func dispatch() {
        guard !hot.value.readyCalls.isEmpty else {
            hot.value.isDispatching = false
            return
        }
        if let worker = hot.value.parked.popLast() {
            fewestParked = min(fewestParked, hot.value.parked.count)
            worker.wake()
        } else {
            HandlerWorker().start(self)
        }
        loop.execute { self.dispatch() }
    }

    /// Takes a worker that has nothing to do; `false` when there are enough.
    func park(_ worker: HandlerWorker) -> Bool {
        guard !isStopped, hot.value.parked.count < limits.parkedWorkersMax else { return false }
        hot.value.parked.append(worker)
        if hot.value.parked.count == 1 { scheduleExpiry() }
        return true
    }

    func workerStarted(_ worker: HandlerWorker) { workersByJob[worker.job] = worker }

    func workerEnded(_ worker: HandlerWorker) { workersByJob[worker.job] = nil }

    /// The call whose handler a job of the loop belongs to.
    func call(ofJob job: UInt) -> ServerCall? { workersByJob[job]?.currentCall }

    /// Names the method when a job of a handler holds up the loop.
    func observeStalls() {
        loop.addStallObserver { [weak self] job, duration in
            guard let call = self?.call(ofJob: job) else { return false }
            self?.reportSlowHandler(call.method.descriptor, duration)
            return true
        }
    }

    /// A handler held this loop's thread: every other call of the loop waited.
    func reportSlowHandler(_ method: MethodDescriptor, _ duration: Duration) {
        logger.warning(
            "a handler held up its event loop; run the method on the global executor, or do not block in it",
            metadata: ["method": "\(method)", "duration": "\(duration)"]
        )
    }

    private func scheduleExpiry() {
        guard expiry == .none else { return }
        fewestParked = hot.value.parked.count
        expiry = loop.schedule(after: limits.parkedWorkerLifetime) { [weak self] in self?.expireWorkers() }
    }

    private func expireWorkers() {
        expiry = .none
        let unneeded = min(fewestParked, hot.value.parked.count)
        for worker in hot.value.parked.prefix(unneeded) { worker.retire() }
        hot.value.parked.removeFirst(unneeded)
        if !hot.value.parked.isEmpty { scheduleExpiry() }
    }

    // MARK: Connections

    /// Connections of this loop, of whatever server; from any thread.
    var connectionsAssigned: Int { loop.connectionCount.load(ordering: .relaxed) }

    func add(_ connection: ServerConnection) {
        connections[connection.channelzID] = connection
    }

    func forEachConnection(_ body: (ServerConnection) -> Void) {
        for connection in connections.values { body(connection) }
    }

    func remove(_ connection: ServerConnection) {
        guard connections.removeValue(forKey: connection.channelzID) != nil else { return }
        if connections.isEmpty { announceEmpty() }
    }

    /// Calls back, on the loop, once no connection is left.
    func whenEmpty(_ body: @escaping @Sendable () -> Void) {
        whenEmpty.append(body)
        if connections.isEmpty { announceEmpty() }
    }

    private func announceEmpty() {
        let bodies = whenEmpty
        whenEmpty.removeAll()
        for body in bodies { body() }
    }

    /// The server has stopped: no worker is kept any longer.
    func stop() {
        isStopped = true
        loop.cancel(expiry)
        expiry = .none
        for worker in hot.value.parked { worker.retire() }
        hot.value.parked.removeAll()
        // They hold the shard.
        hot.value.spareCallsMax = 0
        while let call = hot.value.firstSpareCall.take() { hot.value.firstSpareCall = call.takeNextSpare() }
    }
}

/// A number that several loops share.
package final class SharedCount: Sendable {
    private let count = Atomic<Int>(0)

    package init() {}

    package var value: Int { count.load(ordering: .relaxed) }

    /// Adds one unless that would pass `limit`.
    package func increment(upTo limit: Int) -> Bool {
        if count.add(1, ordering: .relaxed).newValue <= limit { return true }
        count.subtract(1, ordering: .relaxed)
        return false
    }

    package func decrement() { count.subtract(1, ordering: .relaxed) }
}

/// Bytes that the connections of several loops hold, as far as these have told.
package final class HeldBytes: Sendable {
    private let bytes = Atomic<Int>(0)
    private let limit: Int

    /// - Parameter limit: `nil` for none.
    package init(limit: Int?) { self.limit = limit ?? .max }

    package var value: Int { bytes.load(ordering: .relaxed) }

    package var isOverLimit: Bool { value > limit }

    package func add(_ change: Int) { bytes.add(change, ordering: .relaxed) }
}

/// Calls in order, first in, first out.
@safe
struct CallQueue {
    // SAFETY: each element from `start` on owns a reference, which `popFirst` hands over; the owner drains the queue.
    // Plain references would keep calls that were taken alive until the queue is empty, and so from being used again.
    private var calls: [Unmanaged<ServerCall>] = unsafe []
    private var start = 0

    var isEmpty: Bool { unsafe start == calls.count }

    @inline(__always)
    mutating func append(_ call: ServerCall) { unsafe calls.append(Unmanaged.passRetained(call)) }

    @inline(__always)
    mutating func popFirst() -> ServerCall? {
        guard unsafe start < calls.count else { return nil }
        let call = unsafe calls[start].takeRetainedValue()
        start += 1
        // The queue drains within a turn: its memory is used again from the front.
        if unsafe start == calls.count {
            unsafe calls.removeAll(keepingCapacity: true)
            start = 0
        }
        return call
    }
}
