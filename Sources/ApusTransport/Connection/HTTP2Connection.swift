internal import ApusBase
internal import ApusEventLoop
internal import ApusTLS

/// A socket and the session that it carries: reads what comes, writes what the session has, once for each turn of the
/// loop. What is a server's and what is a client's is in the subclasses.
///
///     open ──the session is finished──▶ lingering ──peer closes | time-out──▶ closed
///       └──────── the peer is lost, or its bytes make no sense ───────────────▲
///
/// With TLS the same bytes go through a ``TLSSession`` on their way (`HTTP2Connection+TLS.swift`).
///
/// Confined to its loop, which holds it as long as the socket is registered.
class HTTP2Connection {
    enum Phase {
        /// Bytes flow.
        case open
        /// Everything was sent and our direction is closed; what the peer still sends is dropped, because closing a
        /// socket with unread bytes would make the kernel drop what we sent as well.
        case lingering
        case closed
    }

    /// Output produced by one call of the session.
    private static let outputChunkBytes = 128 * 1024
    /// Output written in one turn before the loop's other connections get theirs.
    static let outputPerTurnBytesMax = 1024 * 1024
    /// Reads in one turn before the loop's other connections get theirs.
    private static let readsPerTurnMax = 4
    /// How often a full socket is looked at within the time that it may take nothing.
    private static let stallChecks = 4
    private static let lingerTimeout = Duration.seconds(1)
    /// What a peer sends after that is dropped up to here: more than is on its way in a window of usual size.
    private static let lingerBytesMax = 4 * 1024 * 1024

    /// By which channelz knows the socket.
    let channelzID = ChannelzID.make()
    let loop: EventLoop
    let descriptor: CInt
    let framer: HTTP2Session
    /// `nil` in plaintext.
    let tls: TLSSession?
    /// Whether HTTP/2 may flow: there is no TLS, or its handshake has ended and the peer is accepted.
    var isSecured: Bool
    /// The application's decision about the peer, which is awaited: nothing is read until then.
    var verification: PeerVerification?
    /// What another thread does with `tls` at the moment; the loop does not touch it meanwhile.
    var handshakeStep: HandshakeStep?
    private var registration: EventLoop.Registration?
    private var interest: EventLoop.Interest = .read
    private(set) var phase = Phase.open
    /// When the last byte of the peer came.
    private(set) var lastReadAt: MonotonicInstant
    /// PINGs that asked a silent peer whether it is there.
    final var keepalivesSent = 0
    /// When the socket last took something, of what it did not take at once, or the peer of what the socket holds.
    private var lastProgressAt: MonotonicInstant
    /// What the kernel held of our output when it was last asked.
    private var heldByKernel = 0
    /// Frames other than DATA that may wait behind a peer that does not read, before we stop reading in turn.
    private let queuedControlFramesMax: Int
    /// What the socket did not take, from `unsentStart` on.
    private var unsent: [UInt8] = []
    private var unsentStart = 0
    private var flushIsScheduled = false
    private var lingerTimer = EventLoop.TimerID.none
    /// How long a full socket may take not one byte; `nil` for as long as TCP does.
    private let writeStallTimeout: Duration?
    private var stallTimer = EventLoop.TimerID.none
    private var fruitlessEvents = FruitlessEvents()
    /// What the kernel is not asked about for a moment, because it said "ready" and nothing could be moved.
    private var pausedInterest: EventLoop.Interest = []
    private var pauseTimer = EventLoop.TimerID.none
    /// Whether the socket took nothing of what was left over.
    private var tookNothing = false
    private var droppedBytes = 0

    /// Takes over a connected, non-blocking socket; on its loop.
    init(
        descriptor: CInt,
        loop: EventLoop,
        framer: HTTP2Session,
        tls: TLSSession?,
        writeStallTimeout: Duration?,
        queuedControlFramesMax: Int = 1000
    ) {
        self.descriptor = descriptor
        self.loop = loop
        self.framer = framer
        self.tls = tls
        self.writeStallTimeout = writeStallTimeout
        self.queuedControlFramesMax = queuedControlFramesMax
        self.isSecured = tls == nil
        self.lastReadAt = loop.now
        self.lastProgressAt = loop.now
    }

    /// Watches the socket from here on.
    final func open() throws(SystemError) {
        registration = try loop.register(descriptor, interest: interest, handler: self)
    }

    /// The kernel gives up what it sends in vain as soon as a PING would (gRFC A18); without it that takes minutes.
    final func limitUnacknowledged(_ timeout: Duration) {
        let milliseconds = CInt(clamping: max(timeout.saturatingNanoseconds / 1_000_000, 1))
        // A socket that is not TCP's has no such option, and no network below it that could lose bytes.
        try? SystemCalls.setOption(.userTimeoutMilliseconds, to: milliseconds, on: descriptor)
    }

    // MARK: What a subclass does

    /// The other end, for channelz.
    var remoteAddress: SocketAddress { .unnamed }
    /// What was counted on the connection, for channelz.
    func counts(_ wall: WallClock) -> SocketCounts { SocketCounts() }
    /// Bytes of the peer, while the connection is open; with TLS, what was in it.
    func receive(_ bytes: UnsafeRawBufferPointer) {}
    /// The TLS handshake has ended, and the peer is accepted.
    func secured(_ info: TLSConnectionInfo?) {}
    /// TLS cannot go on; the connection is closed next.
    func securityFailed(_ error: TLSError) {}
    /// The session is asked for output next.
    func prepareOutput() {}
    /// The session has given all it had; `true` to ask it again.
    func outputRanDry() -> Bool { false }
    /// The socket takes no more for now.
    func outputStalled() {}
    /// The socket has taken what was left over; the session is asked for more next.
    func outputFlows() {}
    /// The peer took nothing of what it was sent; the connection is closed next.
    func peerTookNothing(in timeout: Duration) {}
    /// The peer did too much of something, and was told so as far as the socket took it.
    func peerWentTooFar(_ excess: PeerExcess) {}
    /// The session has nothing left to do: it was drained, or nghttp2 ended it for something that the peer sent.
    func sessionFinished() {}
    /// The session is of no further use: ends the calls that are left.
    func tearDown(cause: String) {}
    /// The socket is closed; `wasOpen` tells a connection that was lost from one that had said goodbye.
    func closed(cause: String, wasOpen: Bool) {}

    // MARK: The end

    /// Everything is sent: close our direction and wait for the peer to close its own.
    final func linger(cause: String) {
        guard phase == .open else { return }
        sayGoodbye()
        phase = .lingering
        loop.cancel(stallTimer)
        tearDown(cause: cause)
        abandonHandshake()
        do {
            try SystemCalls.shutdownWriting(descriptor)
            setInterest(.read)
            lingerTimer = loop.schedule(at: loop.now.advanced(by: Self.lingerTimeout), handler: LingerTimer(self))
        } catch {
            close("\(error)")
        }
    }

    /// The socket failed.
    private func lost(_ error: SystemError) {
        close(isSecured ? "\(error)" : "\(error) during the TLS handshake")
    }

    final func close(_ cause: String) {
        guard phase != .closed else { return }
        let wasOpen = phase == .open
        if wasOpen { sayGoodbye() }
        phase = .closed
        loop.cancel(lingerTimer)
        loop.cancel(stallTimer)
        abandonHandshake()
        loop.cancel(pauseTimer)
        if let registration { loop.deregister(registration) }
        tearDown(cause: cause)
        SystemCalls.close(descriptor)
        unsent = []
        closed(cause: cause, wasOpen: wasOpen)
    }

    private final class LingerTimer: TimerHandler {
        private let connection: HTTP2Connection

        init(_ connection: HTTP2Connection) { self.connection = connection }

        func timerFired(tag: UInt64) { connection.close("it was closed") }
    }
}

// MARK: - Reading

extension HTTP2Connection: DescriptorHandler {
    final func descriptorReady(_ readiness: EventLoop.Readiness) {
        if readiness.concernsReading { read(readiness) }
        if readiness.isWritable, phase == .open { flushBecauseOfRoom(readiness) }
    }

    /// Whether the peer may have more of its frames answered. What one read may bring about is bounded by its size.
    private func mayReadOn() -> Bool {
        guard framer.queuedControlFrames > queuedControlFramesMax else { return true }
        flush()
        return phase == .open && framer.queuedControlFrames <= queuedControlFramesMax
    }

    private func read(_ readiness: EventLoop.Readiness) {
        if !isSecured {
            // A peer that hangs up is told of whatever the interest is; its last word is read when the step is over.
            if phase == .open, handshakeStep != nil { return noteFruitlessEvent(.read, readiness) }
            // A handshake's cryptography takes a good part of a millisecond: many at once would keep the loop's other
            // connections waiting.
            if !takesStepsElsewhere, !loop.mayDoCostlyUnit() { return }
        }
        for index in 0..<Self.readsPerTurnMax {
            // SAFETY: the scratch buffer is the loop's and is used up before anything else runs on the loop.
            let buffer = unsafe loop.readScratch
            switch unsafe SystemCalls.read(descriptor, into: buffer) {
            case .bytes(0): return inputEnded()
            case .bytes(let count):
                lastReadAt = loop.now
                let bytes = unsafe UnsafeRawBufferPointer(rebasing: buffer[..<count])
                if phase == .open {
                    if tls == nil { unsafe receive(bytes) } else { unsafe receiveSecured(bytes) }
                } else {
                    droppedBytes += count
                    if droppedBytes > Self.lingerBytesMax { return close("it was closed") }
                }
                guard phase != .closed, count == buffer.count, !isHandshakeHeld, mayReadOn() else { return }
            case .wouldBlock:
                if index == 0 { noteFruitlessEvent(.read, readiness) }
                return
            case .failed(let error): return lost(error)
            }
        }
    }

    private func flushBecauseOfRoom(_ readiness: EventLoop.Readiness) {
        tookNothing = false
        flush()
        if tookNothing { noteFruitlessEvent(.write, readiness) }
    }

    /// The kernel said "ready", and nothing could be moved.
    @inline(never)
    private func noteFruitlessEvent(_ direction: EventLoop.Interest, _ readiness: EventLoop.Readiness) {
        guard phase != .closed, fruitlessEvents.note(now: loop.now) else { return }
        // These are told whatever the interest is, and nothing comes after them.
        if !readiness.isDisjoint(with: [.hangUp, .error]) { return close("the peer is gone") }
        pausedInterest.formUnion(direction)
        applyInterest()
        if pauseTimer != .none { return }
        pauseTimer = loop.schedule(after: FruitlessEvents.pause) { [weak self] in
            self?.pauseTimer = .none
            self?.pausedInterest = []
            self?.applyInterest()
        }
    }
}

// MARK: - Writing

extension HTTP2Connection: TurnEndHandler {
    final func scheduleFlush() {
        if flushIsScheduled { return }
        flushIsScheduled = true
        loop.atEndOfTurn(self)
    }

    final func endOfTurn() {
        flushIsScheduled = false
        flush()
    }

    /// Writes what there is, as far as the socket takes it.
    final func flush() {
        guard phase == .open, writeUnsent() else { return }
        if tls != nil { return flushSecured() }
        var written = 0
        while written < Self.outputPerTurnBytesMax {
            prepareOutput()
            // SAFETY: the scratch buffer is the loop's and is used up before anything else runs on the loop.
            let buffer = unsafe UnsafeMutableRawBufferPointer(rebasing: loop.writeScratch[..<Self.outputChunkBytes])
            guard let count = unsafe framer.produce(into: buffer) else {
                return close("the HTTP/2 session failed: \(framer.lastDiagnosis)")
            }
            if count > 0, unsafe !write(UnsafeRawBufferPointer(rebasing: buffer[..<count])) { return }
            written += count
            if buffer.count - count >= HTTP2Session.frameBytesMax, !outputRanDry() { break }
        }
        flushed(written)
    }

    /// The session has given what it had, or as much as it may in a turn.
    func flushed(_ written: Int) {
        if written >= Self.outputPerTurnBytesMax { scheduleFlush() }
        if let excess = framer.excess { return peerWentTooFar(excess) }
        if framer.isFinished { sessionFinished() }
    }

    /// Writes what was left over; `false` when some still is.
    func writeUnsent() -> Bool {
        if unsent.isEmpty { return true }
        // SAFETY: the bytes are the array's, which is not changed during the call.
        let result = unsafe unsent.withUnsafeBytes { bytes in
            unsafe SystemCalls.send(descriptor, UnsafeRawBufferPointer(rebasing: bytes[unsentStart...]))
        }
        switch result {
        case .bytes(let count):
            unsentStart += count
            lastProgressAt = loop.now
        case .wouldBlock: tookNothing = true
        case .failed(let error):
            lost(error)
            return false
        }
        if unsentStart < unsent.count {
            waitForRoom()
            return false
        }
        unsent = []
        unsentStart = 0
        setInterest(isHandshakeHeld ? [] : .read)
        outputFlows()
        return true
    }

    /// Writes a chunk; what the socket does not take is kept. `false` when that was all for now.
    func write(_ bytes: UnsafeRawBufferPointer) -> Bool {
        // SAFETY: `bytes` is the caller's for the length of this call, and the rest is copied.
        if !unsent.isEmpty {
            unsafe unsent.append(contentsOf: bytes)
            return false
        }
        let taken: Int
        switch unsafe SystemCalls.send(descriptor, bytes) {
        case .bytes(let count): taken = count
        case .wouldBlock: taken = 0
        case .failed(let error):
            lost(error)
            return false
        }
        if taken == bytes.count { return true }
        unsafe unsent = [UInt8](bytes[taken...])
        unsentStart = 0
        lastProgressAt = loop.now
        watchStall()
        outputStalled()
        waitForRoom()
        return false
    }

    final var isUnsentEmpty: Bool { unsent.isEmpty }

    /// The socket is full: from here on something has to be taken.
    private func watchStall() {
        guard stallTimer == .none, let timeout = writeStallTimeout else { return }
        heldByKernel = SystemCalls.queuedOutputBytes(of: descriptor)
        checkStall(in: timeout / Self.stallChecks)
    }

    private func checkStall(in delay: Duration) {
        // Cancelled when the connection is closed: nothing is kept for longer.
        stallTimer = loop.schedule(after: delay) {
            self.stallTimer = .none
            self.stallIsDue()
        }
    }

    /// The socket has been full for a while, and has to have taken something meanwhile. A peer that reads and gives no
    /// credit (a window of zero) keeps nothing in the socket, and may take as long as it wants.
    ///
    /// What the peer takes of what the kernel has counts as well: only when a third of its buffer is free, which may be
    /// megabytes, does the kernel ask for more. On a slow path that takes minutes.
    private func stallIsDue() {
        guard phase == .open, !unsent.isEmpty, let timeout = writeStallTimeout else { return }
        let held = SystemCalls.queuedOutputBytes(of: descriptor)
        if held < heldByKernel { lastProgressAt = loop.now }
        heldByKernel = held
        let left = Duration.nanoseconds(lastProgressAt.advanced(by: timeout).nanoseconds(since: loop.now))
        if left > .zero { return checkStall(in: min(left, timeout / Self.stallChecks)) }
        peerTookNothing(in: timeout)
        try? SystemCalls.dropUnsentWhenClosed(descriptor)
        close("it took nothing of what it was sent for \(timeout)")
    }

    /// Writes bytes that are none of the session's, as far as they go: a last word to a peer that speaks otherwise.
    final func writePlainly(_ bytes: [UInt8]) {
        // SAFETY: the bytes are the array's, which is not changed during the call.
        _ = unsafe bytes.withUnsafeBytes { unsafe SystemCalls.send(descriptor, $0) }
    }

    /// The socket is full. A peer that makes us answer and does not read is not read from either.
    private func waitForRoom() {
        let mayRead = framer.queuedControlFrames <= queuedControlFramesMax && !isHandshakeHeld
        setInterest(mayRead ? [.read, .write] : .write)
    }

    func setInterest(_ wanted: EventLoop.Interest) {
        guard wanted != interest else { return }
        interest = wanted
        applyInterest()
    }

    private func applyInterest() {
        if let registration { loop.update(registration, interest: interest.subtracting(pausedInterest)) }
    }
}
