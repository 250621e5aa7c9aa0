internal import ApusBase
internal import ApusEventLoop
internal import Logging

// What a connection has time for. No timer is set for a frame or a call: each of these is set once, and when it is due
// it looks at what has happened meanwhile.

extension ServerConnection {
    /// How far a connection's age may be from the one that is configured, so that those which began together do not all
    /// end together (gRFC A9).
    private static let ageJitter = 0.9...1.1

    /// The handshake is over.
    func startTimes() {
        if let times = shard.limits.keepalive {
            keepalive = Keepalive(times)
            // The kernel counts the time of a peer that acknowledges and takes nothing as well: that is the write
            // stall's, which must not be cut short.
            if let stall = shard.limits.writeStallTimeout { limitUnacknowledged(max(times.timeout, stall)) }
            checkKeepalive()
        }
        if let idle = shard.limits.maxConnectionIdle { setAlarm(.idle, idle) }
        if let age = shard.limits.maxConnectionAge { setAlarm(.age, age * .random(in: Self.ageJitter)) }
    }

    // MARK: Header fields

    /// A read ended in a block of header fields: it has to end in time.
    func watchHeaders() {
        if isSet(.headers) { return }
        blockWatched = session.blocksBegun
        setAlarm(.headers, shard.limits.headerTimeout)
    }

    func headersAreDue() {
        guard session.isInBlock else { return }
        guard session.blocksBegun == blockWatched else { return watchHeaders() }
        session.cutOff(.slowHeaders)
        flush()
        peerWentTooFar(.slowHeaders)
    }

    // MARK: Keepalive

    func checkKeepalive() {
        guard var action = nextKeepaliveAction() else { return }
        if action == .lost {
            // On a loop that was held up the answer may be here, unread.
            descriptorReady(.readable)
            guard phase == .open, let second = nextKeepaliveAction() else { return }
            action = second
        }
        switch action {
        case .wait(let instant): setAlarm(.keepalive, at: instant)
        case .ping(let instant):
            keepalivesSent += 1
            session.submitPing()
            scheduleFlush()
            setAlarm(.keepalive, at: instant)
        case .sleep: setAlarm(.keepalive, keepalive?.times.time ?? .zero)
        case .lost:
            let timeout = keepalive?.times.timeout ?? .zero
            shard.logger.info(
                "a peer did not answer a keepalive PING",
                metadata: ["peer": "\(peer.address)", "timeout": "\(timeout)"]
            )
            close("it did not answer a keepalive PING within \(timeout)")
        }
    }

    private func nextKeepaliveAction() -> Keepalive.Action? {
        keepalive?.check(now: loop.now, lastRead: lastReadAt, hasCalls: session.openStreams > 0)
    }

    // MARK: Age

    /// Ends a connection that has had no call for too long.
    func checkIdleness() {
        guard let idle = shard.limits.maxConnectionIdle else { return }
        if session.openStreams > 0 { return setAlarm(.idle, idle) }
        let end = session.idleSince.advanced(by: idle)
        if end > loop.now { setAlarm(.idle, at: end) } else { drain(reason: "max_idle") }
    }

    /// Ends a connection that is old enough: its calls may end, and what is left after the grace period is stopped.
    func becomeOld() {
        if isTooOld {
            shard.logger.info(
                "the calls of a connection that is too old did not end in time",
                metadata: ["peer": "\(peer.address)", "calls": "\(session.openStreams)"]
            )
            return abort()
        }
        guard !isDraining else { return }
        isTooOld = true
        drain(reason: "max_age")
        if let grace = shard.limits.maxConnectionAgeGrace { setAlarm(.age, grace) }
    }
}
