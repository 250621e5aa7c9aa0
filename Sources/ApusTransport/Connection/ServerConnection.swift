internal import ApusBase
internal import ApusEventLoop
internal import Logging

/// A socket and the session that it carries: reads what comes, writes what the session has, once for each turn of the
/// loop.
///
///     open ──GOAWAY and last stream──▶ lingering ──peer closes | time-out──▶ closed
///       └──────── the peer is lost, or its bytes make no sense ───────────────▲
///
/// Confined to its shard's loop, which holds it as long as the socket is registered.
final class ServerConnection {
    private enum Phase {
        /// Bytes flow.
        case open
        /// Everything was sent and our direction is closed; what the peer still sends is dropped, because closing a
        /// socket with unread bytes would make the kernel drop what we sent as well.
        case lingering
        case closed
    }

    private enum Alarm: UInt64 {
        case handshake, shutdownPing, linger
    }

    /// Output produced by one call of the session.
    private static let outputChunkBytes = 128 * 1024
    /// Output written in one turn before the loop's other connections get theirs.
    private static let outputPerTurnBytesMax = 1024 * 1024
    /// Reads in one turn before the loop's other connections get theirs.
    private static let readsPerTurnMax = 4
    /// Frames other than DATA that may wait behind a peer that does not read, before we stop reading in turn.
    private static let queuedControlFramesMax = 1000
    private static let shutdownPingTimeout = Duration.seconds(5)
    private static let lingerTimeout = Duration.seconds(1)

    let peer: ConnectionPeer
    private let shard: ServerShard
    private let session: ServerSession
    private let descriptor: CInt
    private var registration: EventLoop.Registration?
    private var interest: EventLoop.Interest = .read
    private var phase = Phase.open
    /// What the socket did not take, from `unsentStart` on.
    private var unsent: [UInt8] = []
    private var unsentStart = 0
    private var flushIsScheduled = false
    private var isDraining = false
    private var isEstablished = false
    private var alarms: [EventLoop.TimerID] = [.none, .none, .none]
    private let onClose: @Sendable () -> Void

    /// Takes over a connected, non-blocking socket; on the shard's loop.
    init(
        descriptor: CInt,
        peer: ConnectionPeer,
        shard: ServerShard,
        onClose: @escaping @Sendable () -> Void
    ) throws(RPCError) {
        self.descriptor = descriptor
        self.peer = peer
        self.shard = shard
        self.session = try ServerSession(shard: shard, peer: peer)
        self.onClose = onClose
    }

    private var loop: EventLoop { shard.loop }

    func start() throws(SystemError) {
        registration = try loop.register(descriptor, interest: interest, handler: self)
        session.carrier = self
        shard.add(self)
        // Our SETTINGS go out with the answer to the peer's first bytes: it speaks first (RFC 9113 §3.4), and a peer
        // that does not speak HTTP/2 can then be told in its own terms.
        setAlarm(.handshake, shard.limits.handshakeTimeout)
    }

    // MARK: Shutting down

    /// Lets the calls that run end, and refuses new ones, in two steps (RFC 9113 §6.8): GOAWAY and a PING, and when the
    /// peer has answered that, so that it knows, the last GOAWAY.
    func drain() {
        guard phase == .open, !isDraining else { return }
        isDraining = true
        guard isEstablished else { return close("the server shuts down") }
        session.announceShutdown()
        session.submitPing()
        setAlarm(.shutdownPing, Self.shutdownPingTimeout)
        scheduleFlush()
    }

    /// Ends the calls that run, and the connection.
    func abort() {
        guard phase == .open else { return close("the server stopped") }
        session.resetAll()
        // nghttp2 sends nothing but GOAWAY once it is told to terminate.
        flush()
        session.terminate(.noError)
        flush()
        close("the server stopped")
    }

    private func finishDraining() {
        clearAlarm(.shutdownPing)
        session.refuseNewStreams()
        scheduleFlush()
    }

    /// Everything is sent: close our direction and wait for the peer to close its own.
    private func linger() {
        guard phase == .open else { return }
        phase = .lingering
        clearAlarm(.handshake)
        session.tearDown(cause: "it was closed")
        do {
            try SystemCalls.shutdownWriting(descriptor)
            setInterest(.read)
            setAlarm(.linger, Self.lingerTimeout)
        } catch {
            close("\(error)")
        }
    }

    private func close(_ cause: String) {
        guard phase != .closed else { return }
        let openStreams = session.openStreams
        let hadBegun = phase == .open
        phase = .closed
        for alarm in alarms { loop.cancel(alarm) }
        if let registration { loop.deregister(registration) }
        session.tearDown(cause: cause)
        SystemCalls.close(descriptor)
        unsent = []
        // In this order: who waits for the server's end may look at the number of connections.
        onClose()
        shard.remove(self)
        if hadBegun, openStreams > 0 {
            shard.logger.info(
                "lost a connection with calls open",
                metadata: ["peer": "\(peer.address)", "calls": "\(openStreams)", "cause": "\(cause)"]
            )
        } else {
            shard.logger.debug("closed a connection", metadata: ["peer": "\(peer.address)", "cause": "\(cause)"])
        }
    }

    // MARK: Alarms

    private func setAlarm(_ alarm: Alarm, _ delay: Duration) {
        clearAlarm(alarm)
        alarms[Int(alarm.rawValue)] = loop.schedule(
            at: loop.now.advanced(by: delay),
            handler: self,
            tag: alarm.rawValue
        )
    }

    private func clearAlarm(_ alarm: Alarm) {
        loop.cancel(alarms[Int(alarm.rawValue)])
        alarms[Int(alarm.rawValue)] = .none
    }
}

extension ServerConnection: TimerHandler {
    func timerFired(tag: UInt64) {
        switch Alarm(rawValue: tag) {
        case .handshake:
            shard.logger.info(
                "a peer did not speak HTTP/2 in time",
                metadata: ["peer": "\(peer.address)", "timeout": "\(shard.limits.handshakeTimeout)"]
            )
            close("no HTTP/2 preface and SETTINGS within \(shard.limits.handshakeTimeout)")
        case .shutdownPing: finishDraining()
        case .linger, nil: close("it was closed by the server")
        }
    }
}

// MARK: - Reading

extension ServerConnection: DescriptorHandler {
    func descriptorReady(_ readiness: EventLoop.Readiness) {
        if !readiness.isDisjoint(with: [.readable, .hangUp, .error, .peerClosed]) { read() }
        if readiness.contains(.writable), phase == .open { flush() }
    }

    private func read() {
        for _ in 0..<Self.readsPerTurnMax {
            // SAFETY: the scratch buffer is the loop's and is used up before anything else runs on the loop.
            let buffer = unsafe loop.readScratch
            switch unsafe SystemCalls.read(descriptor, into: buffer) {
            case .bytes(0): return close("the peer closed it")
            case .bytes(let count):
                if phase == .open { unsafe receive(UnsafeRawBufferPointer(rebasing: buffer[..<count])) }
                guard phase != .closed, count == buffer.count else { return }
            case .wouldBlock: return
            case .failed(let error): return close("\(error)")
            }
        }
    }

    @inline(__always)
    private func receive(_ bytes: UnsafeRawBufferPointer) {
        // SAFETY: `bytes` is the caller's for the length of this call.
        if let reason = unsafe session.receive(bytes) {
            return unsafe refuse(bytes, reason)
        }
        session.startReadyCalls()
        scheduleFlush()
    }

    /// The peer broke the protocol: say so, in HTTP/2 if it got that far.
    private func refuse(_ bytes: UnsafeRawBufferPointer, _ reason: String) {
        // SAFETY: as for `receive`.
        let foreign = isEstablished ? nil : unsafe ForeignProtocol(firstBytes: bytes)
        let cause = foreign?.description ?? reason
        shard.logger.info(
            "closing a connection that broke the protocol",
            metadata: ["peer": "\(peer.address)", "cause": "\(cause)"]
        )
        if let answer = foreign?.answer {
            _ = unsafe answer.withUnsafeBytes { unsafe SystemCalls.send(descriptor, $0) }
        } else if foreign == nil {
            flush()
        }
        if phase == .open { linger() }
    }
}

// MARK: - Writing

extension ServerConnection: SessionCarrier, TurnEndHandler {
    func sessionHasOutput() { scheduleFlush() }

    func sessionPingAcknowledged() {
        // Any other PING of ours would be none of the shutdown's business, and one answer is enough.
        if isDraining, alarms[Int(Alarm.shutdownPing.rawValue)] != .none { finishDraining() }
    }

    func sessionEstablished() {
        isEstablished = true
        clearAlarm(.handshake)
    }

    private func scheduleFlush() {
        if flushIsScheduled { return }
        flushIsScheduled = true
        loop.atEndOfTurn(self)
    }

    func endOfTurn() {
        flushIsScheduled = false
        flush()
    }

    /// Writes what there is, as far as the socket takes it.
    private func flush() {
        guard phase == .open, writeUnsent() else { return }
        var written = 0
        while written < Self.outputPerTurnBytesMax {
            session.willSend()
            // SAFETY: the scratch buffer is the loop's and is used up before anything else runs on the loop.
            let buffer = unsafe UnsafeMutableRawBufferPointer(rebasing: loop.writeScratch[..<Self.outputChunkBytes])
            guard let count = unsafe session.produce(into: buffer) else {
                return close("the HTTP/2 session failed: \(session.lastDiagnosis)")
            }
            if count > 0, unsafe !write(UnsafeRawBufferPointer(rebasing: buffer[..<count])) { return }
            written += count
            if buffer.count - count >= ServerSession.frameBytesMax { break }
        }
        if written >= Self.outputPerTurnBytesMax { scheduleFlush() }
        if session.isFinished { finish() }
    }

    /// The session has nothing left to do: it was drained, or nghttp2 ended it for something that the peer sent.
    private func finish() {
        if let cause = session.connectionError {
            shard.logger.info(
                "closing a connection that broke the protocol",
                metadata: ["peer": "\(peer.address)", "cause": "\(cause)"]
            )
        }
        linger()
    }

    /// Writes what was left over; `false` when some still is.
    private func writeUnsent() -> Bool {
        if unsent.isEmpty { return true }
        // SAFETY: the bytes are the array's, which is not changed during the call.
        let result = unsafe unsent.withUnsafeBytes { bytes in
            unsafe SystemCalls.send(descriptor, UnsafeRawBufferPointer(rebasing: bytes[unsentStart...]))
        }
        switch result {
        case .bytes(let count): unsentStart += count
        case .wouldBlock: break
        case .failed(let error):
            close("\(error)")
            return false
        }
        if unsentStart < unsent.count {
            waitForRoom()
            return false
        }
        unsent = []
        unsentStart = 0
        setInterest(.read)
        return true
    }

    /// Writes a chunk; what the socket does not take is kept. `false` when that was all for now.
    private func write(_ bytes: UnsafeRawBufferPointer) -> Bool {
        // SAFETY: `bytes` is the caller's for the length of this call, and the rest is copied.
        let taken: Int
        switch unsafe SystemCalls.send(descriptor, bytes) {
        case .bytes(let count): taken = count
        case .wouldBlock: taken = 0
        case .failed(let error):
            close("\(error)")
            return false
        }
        if taken == bytes.count { return true }
        unsafe unsent = [UInt8](bytes[taken...])
        unsentStart = 0
        waitForRoom()
        return false
    }

    /// The socket is full. A peer that makes us answer and does not read is not read from either.
    private func waitForRoom() {
        let mayRead = session.queuedControlFrames <= Self.queuedControlFramesMax
        setInterest(mayRead ? [.read, .write] : .write)
    }

    private func setInterest(_ wanted: EventLoop.Interest) {
        guard wanted != interest, let registration else { return }
        interest = wanted
        loop.update(registration, interest: wanted)
    }
}
