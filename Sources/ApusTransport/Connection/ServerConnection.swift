internal import ApusBase
internal import ApusEventLoop
internal import ApusTLS
internal import Logging

/// A connection that a server accepted: the handshake's time limit, the orderly shutdown, what to tell a peer that
/// speaks something else. The bytes flow in ``HTTP2Connection``.
///
/// Confined to its shard's loop.
final class ServerConnection: HTTP2Connection {
    enum Alarm: UInt64, CaseIterable {
        case handshake, shutdownPing, headers, keepalive, idle, age
    }

    private static let shutdownPingTimeout = Duration.seconds(5)

    let peer: ConnectionPeer
    let shard: ServerShard
    let session: ServerSession
    private(set) var isDraining = false
    /// It is drained for its age, and has a time to end within.
    var isTooOld = false
    private var isEstablished = false
    /// What the last GOAWAY of a connection that is drained says.
    private var reasonToDrain = ""
    /// `nil` when the peer is never asked whether it is still there.
    var keepalive: Keepalive?
    /// The block of header fields that has to end in time.
    var blockWatched: UInt32 = 0
    /// Calls that ran when the connection ended.
    private var openCallsAtEnd = 0
    private var alarms = [EventLoop.TimerID](repeating: .none, count: Alarm.allCases.count)
    private let onClose: @Sendable () -> Void

    /// Takes over a connected, non-blocking socket; on the shard's loop.
    init(
        descriptor: CInt,
        peer: ConnectionPeer,
        shard: ServerShard,
        onClose: @escaping @Sendable () -> Void
    ) throws(RPCError) {
        self.peer = peer
        self.shard = shard
        self.session = try ServerSession(shard: shard, peer: peer)
        self.onClose = onClose
        let tls = try shard.tls.map { source throws(RPCError) in
            do throws(TLSError) {
                return try TLSSession(server: source.current)
            } catch {
                throw RPCError(code: .internal, message: "\(error)", cause: error)
            }
        }
        super.init(
            descriptor: descriptor,
            loop: shard.loop,
            framer: session,
            tls: tls,
            writeStallTimeout: shard.limits.writeStallTimeout,
            queuedControlFramesMax: shard.limits.queuedControlFramesMax
        )
    }

    func start() throws(SystemError) {
        try open()
        session.carrier = self
        shard.add(self)
        // Our SETTINGS go out with the answer to the peer's first bytes: it speaks first (RFC 9113 §3.4), and a peer
        // that does not speak HTTP/2 can then be told in its own terms.
        setAlarm(.handshake, shard.limits.handshakeTimeout)
    }

    // MARK: Shutting down

    /// Lets the calls that run end, and refuses new ones, in two steps (RFC 9113 §6.8): GOAWAY and a PING, and when the
    /// peer has answered that, so that it knows, the last GOAWAY.
    ///
    /// - Parameter reason: what that says.
    func drain(reason: String = "") {
        guard phase == .open, !isDraining else { return }
        isDraining = true
        reasonToDrain = reason
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
        session.refuseNewStreams(debugData: reasonToDrain)
        scheduleFlush()
    }

    override func tearDown(cause: String) {
        for alarm in alarms { loop.cancel(alarm) }
        openCallsAtEnd = session.openStreams
        session.tearDown(cause: cause)
    }

    override func closed(cause: String, wasOpen: Bool) {
        // In this order: who waits for the server's end may look at the number of connections.
        onClose()
        shard.remove(self)
        if wasOpen, openCallsAtEnd > 0 {
            shard.faultLog.log(
                .info,
                "lost a connection with calls open",
                ["peer": "\(peer.address)", "calls": "\(openCallsAtEnd)", "cause": "\(cause)"]
            )
        } else {
            shard.logger.debug("closed a connection", metadata: ["peer": "\(peer.address)", "cause": "\(cause)"])
        }
    }

    override func sessionFinished() {
        if let cause = session.connectionError { logBrokenProtocol(cause) }
        linger(cause: "it was closed")
    }

    private func logBrokenProtocol(_ cause: String) {
        shard.faultLog.log(
            .info,
            "closing a connection that broke the protocol",
            ["peer": "\(peer.address)", "cause": "\(cause)"]
        )
    }

    override func peerWentTooFar(_ excess: PeerExcess) {
        guard phase == .open else { return }
        shard.faultLog.log(
            .warning,
            "closing a connection whose peer does too much of something",
            ["peer": "\(peer.address)", "cause": "\(excess)", "goaway": "\(excess.debugData)"]
        )
        linger(cause: excess.description)
    }

    // MARK: Channelz

    override var remoteAddress: SocketAddress { peer.address }

    override func counts(_ wall: WallClock) -> SocketCounts { session.counts(wall) }

    // MARK: TLS

    override func secured(_ info: TLSConnectionInfo?) { peer.secured(info) }

    override func securityFailed(_ error: TLSError) {
        // Many clients hang up without a word once they have what they want, and who asks whether the port is open
        // says nothing at all.
        let isUsual = error.reason == .truncated && (isSecured || tls?.hasReceived != true)
        let level = isUsual ? Logger.Level.debug : .info
        shard.faultLog.log(level, "TLS with a peer failed", ["peer": "\(peer.address)", "cause": "\(error)"])
    }

    // MARK: Bytes

    override func receive(_ bytes: UnsafeRawBufferPointer) {
        // SAFETY: `bytes` is the caller's for the length of this call.
        session.willReceive()
        if let reason = unsafe session.receive(bytes) {
            return unsafe refuse(bytes, reason)
        }
        if session.isInBlock { watchHeaders() }
        session.startReadyCalls()
        scheduleFlush()
    }

    /// The peer broke the protocol: say so, in HTTP/2 if it got that far.
    private func refuse(_ bytes: UnsafeRawBufferPointer, _ reason: String) {
        // SAFETY: as for `receive`.
        if let excess = session.excess {
            flush()
            return peerWentTooFar(excess)
        }
        let foreign = isEstablished ? nil : unsafe ForeignProtocol(firstBytes: bytes)
        logBrokenProtocol(foreign?.description ?? reason)
        if let answer = foreign?.answer, tls == nil {
            writePlainly(answer)
        } else if foreign == nil {
            flush()
        }
        linger(cause: "it was closed")
    }

    override func prepareOutput() { session.willSend() }

    override func outputRanDry() -> Bool { session.startHeldCalls() }

    override func peerTookNothing(in timeout: Duration) {
        shard.faultLog.log(
            .info,
            "closing a connection whose peer takes nothing of what it is sent",
            ["peer": "\(peer.address)", "timeout": "\(timeout)"]
        )
    }

    // MARK: Alarms

    func isSet(_ alarm: Alarm) -> Bool { alarms[Int(alarm.rawValue)] != .none }

    func setAlarm(_ alarm: Alarm, _ delay: Duration) { setAlarm(alarm, at: loop.now.advanced(by: delay)) }

    func setAlarm(_ alarm: Alarm, at instant: MonotonicInstant) {
        clearAlarm(alarm)
        alarms[Int(alarm.rawValue)] = loop.schedule(at: instant, handler: self, tag: alarm.rawValue)
    }

    func clearAlarm(_ alarm: Alarm) {
        loop.cancel(alarms[Int(alarm.rawValue)])
        alarms[Int(alarm.rawValue)] = .none
    }
}

extension ServerConnection: TimerHandler {
    func timerFired(tag: UInt64) {
        guard let alarm = Alarm(rawValue: tag) else { return }
        clearAlarm(alarm)
        guard phase == .open else { return }
        switch alarm {
        case .handshake:
            let what =
                isSecured
                ? "did not speak HTTP/2" : isVerifying ? "was not verified" : "did not finish the TLS handshake"
            shard.faultLog.log(
                .info,
                "a peer \(what) in time",
                ["peer": "\(peer.address)", "timeout": "\(shard.limits.handshakeTimeout)"]
            )
            close("it \(what) within \(shard.limits.handshakeTimeout)")
        case .shutdownPing: finishDraining()
        case .headers: headersAreDue()
        case .keepalive: checkKeepalive()
        case .idle: checkIdleness()
        case .age: becomeOld()
        }
    }
}

extension ServerConnection: SessionCarrier {
    func sessionHasOutput() { scheduleFlush() }

    func sessionPingAcknowledged() {
        // Any other PING of ours would be none of the shutdown's business, and one answer is enough.
        if isDraining, alarms[Int(Alarm.shutdownPing.rawValue)] != .none { finishDraining() }
    }

    func sessionEstablished() {
        isEstablished = true
        clearAlarm(.handshake)
        startTimes()
    }
}
