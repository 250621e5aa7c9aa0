internal import ApusBase
internal import ApusEventLoop
internal import ApusTLS
internal import Logging

/// A connection that a channel made. It is of use once the server's SETTINGS have come; until then a server that says
/// nothing, or speaks something else, is one of the ways in which connecting fails. The bytes flow in
/// ``HTTP2Connection``.
///
/// Confined to its channel's loop.
final class ClientConnection: HTTP2Connection {
    let address: SocketAddress
    let session: ClientSession
    private let channel: ClientChannel
    private(set) var isEstablished = false
    private var hasReceived = false
    private var openCallsAtEnd = 0
    /// What the server did wrong, when that ended the connection.
    private var protocolError: String?
    /// `nil` when the server is never asked whether it is still there.
    private var keepalive: Keepalive?
    private var keepaliveTimer = EventLoop.TimerID.none

    init(descriptor: CInt, address: SocketAddress, channel: ClientChannel) throws(RPCError) {
        self.address = address
        self.channel = channel
        self.keepalive = channel.keepalive.map { Keepalive($0) }
        self.session = try ClientSession(channel: channel, address: address)
        let tls = try channel.tls.map { source throws(RPCError) in
            do throws(TLSError) {
                return try TLSSession(client: source.current, host: channel.target.host)
            } catch {
                throw RPCError(code: .unavailable, message: "TLS: \(error)", cause: error)
            }
        }
        // What waits to be sent is mostly what the calls want: a server that stands still would not have its answers
        // read. What it makes us queue is limited by the session's budget.
        super.init(
            descriptor: descriptor,
            loop: channel.loop,
            framer: session,
            tls: tls,
            writeStallTimeout: channel.limits.writeStallTimeout,
            queuedControlFramesMax: .max
        )
    }

    /// Sends the preface; the client speaks first (RFC 9113 §3.4).
    func start() throws(SystemError) {
        loop.connectionAdded()
        try open()
        if let keepalive { limitUnacknowledged(keepalive.times.timeout) }
        session.carrier = self
        if tls == nil { scheduleFlush() } else { startHandshake() }
    }

    override func secured(_ info: TLSConnectionInfo?) { scheduleFlush() }

    /// The channel closes: the server is told that the calls are cancelled and that nothing follows.
    func shutDown() {
        if phase == .open {
            session.resetAll()
            // nghttp2 sends nothing but GOAWAY once it is told to terminate.
            flush()
            session.terminate(.noError)
            flush()
        }
        close("the channel was closed")
    }

    override var remoteAddress: SocketAddress { address }

    override func counts(_ wall: WallClock) -> SocketCounts { session.counts(wall) }

    override func receive(_ bytes: UnsafeRawBufferPointer) {
        // SAFETY: `bytes` is the caller's for the length of this call.
        session.willReceive()
        if !hasReceived {
            hasReceived = true
            if let foreign = unsafe ForeignProtocol(answer: bytes) { return close(foreign.description) }
        }
        if let reason = unsafe session.receive(bytes) {
            protocolError = reason
            session.sendCallsElsewhere()
            flush()
            return close(reason)
        }
        session.received()
        scheduleFlush()
    }

    override func prepareOutput() { session.willSend() }

    override func outputRanDry() -> Bool {
        let hasOpened = session.openMore()
        return session.nextTurn() || hasOpened
    }

    override func outputStalled() { session.stall() }

    override func outputFlows() { session.goOn() }

    override func sessionFinished() {
        if let error = session.connectionError { protocolError = "the server broke the protocol: \(error)" }
        let cause = protocolError ?? "it was closed"
        if isEstablished, channel.mayLinger { linger(cause: cause) } else { close(cause) }
    }

    override func tearDown(cause: String) {
        openCallsAtEnd = session.openStreams
        keepalive = nil
        loop.cancel(keepaliveTimer)
        channel.connectionEnds(self)
        session.tearDown(cause: cause)
    }

    override func closed(cause: String, wasOpen: Bool) {
        loop.connectionRemoved()
        // A server of TLS hangs up on a client that begins with something else, mostly without a word.
        let isMute = !isEstablished && !hasReceived && tls == nil
        let cause = isMute ? "\(cause) before it said anything; does it expect TLS?" : cause
        let metadata: Logger.Metadata = [
            "peer": "\(address)", "calls": "\(openCallsAtEnd)", "cause": "\(cause)",
        ]
        if wasOpen, openCallsAtEnd > 0 {
            channel.logger.info("lost a connection with calls open", metadata: metadata)
        } else {
            channel.logger.debug("closed a connection", metadata: metadata)
        }
        channel.connectionClosed(self, cause: session.goAway.map { "\(cause), after GOAWAY \($0)" } ?? cause)
    }
}

extension ClientConnection: ClientSessionCarrier {
    func sessionHasOutput() { scheduleFlush() }

    func sessionEstablished() {
        isEstablished = true
        channel.connectionEstablished(self)
        checkKeepalive()
    }

    func sessionDrains() { channel.connectionDrains(self) }

    func sessionOpensCall() {
        guard let action = keepalive?.callBegan(now: loop.now, lastRead: lastReadAt) else { return }
        follow(action)
    }

    func sessionWasToldToCalmDown(_ debugData: String) {
        if debugData == "too_many_pings" { channel.pingedTooOften(address) }
    }
}

// MARK: - Keepalive

extension ClientConnection: TimerHandler {
    package func timerFired(tag: UInt64) {
        keepaliveTimer = .none
        checkKeepalive()
    }

    private func checkKeepalive() {
        guard var action = nextKeepaliveAction() else { return }
        if action == .lost {
            // On a loop that was held up the answer may be here, unread.
            descriptorReady(.readable)
            guard phase == .open, let second = nextKeepaliveAction() else { return }
            action = second
        }
        follow(action)
    }

    private func nextKeepaliveAction() -> Keepalive.Action? {
        keepalive?.check(now: loop.now, lastRead: lastReadAt, hasCalls: session.openStreams > 0)
    }

    private func follow(_ action: Keepalive.Action) {
        switch action {
        case .wait(let instant): keepaliveTimer = loop.schedule(at: instant, handler: self)
        case .ping(let instant):
            keepalivesSent += 1
            session.submitPing()
            scheduleFlush()
            keepaliveTimer = loop.schedule(at: instant, handler: self)
        case .sleep: session.announceNextOpening()
        case .lost:
            let timeout = keepalive?.times.timeout ?? .zero
            close("it did not answer a keepalive PING within \(timeout)")
        }
    }
}
