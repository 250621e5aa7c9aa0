internal import ApusBase
internal import ApusEventLoop
internal import Logging

// The channel's quiet times, on the loop: how often it may ask a silent server whether it is there, and when it lets
// a connection go that it has no use for.

extension ClientChannel {
    /// The longest time that doubling leads to.
    private static let keepaliveTimeMax = Duration.seconds(24 * 60 * 60)

    var keepalive: Keepalive.Times? { state.value.keepalive }

    /// The server closes a connection for our PINGs: the next ones are asked half as often (gRFC A8).
    func pingedTooOften(_ address: SocketAddress) {
        guard var times = state.value.keepalive else {
            logger.warning(
                "the server was pinged too often, but not by keepalive",
                metadata: ["peer": "\(address)"]
            )
            return
        }
        times.time = max(min(times.time * 2, Self.keepaliveTimeMax), times.time)
        state.value.keepalive = times
        logger.warning(
            "the server finds the keepalive PINGs too frequent: their time is doubled for new connections",
            metadata: ["peer": "\(address)", "time": "\(times.time)"]
        )
    }

    /// A new connection is let go when no call was open for the channel's idle time-out.
    func watchForIdleness() {
        guard let timeout = limits.idleTimeout else { return }
        state.value.lastCallEnded = loop.now
        wakeForIdleness(at: loop.now.advanced(by: timeout))
    }

    private func wakeForIdleness(at instant: MonotonicInstant) {
        loop.cancel(state.value.idleTimer)
        state.value.idleTimer = loop.schedule(at: instant, handler: IdleTimer(self))
    }

    /// Held by the loop as long as it is scheduled; the channel may go before it.
    private final class IdleTimer: TimerHandler {
        private weak let channel: ClientChannel?

        init(_ channel: ClientChannel) { self.channel = channel }

        func timerFired(tag: UInt64) { channel?.mayBeIdle() }
    }

    private func mayBeIdle() {
        state.value.idleTimer = .none
        guard let timeout = limits.idleTimeout, let connection = state.value.connection else { return }
        let quietSince = state.value.liveCalls > 0 ? loop.now : state.value.lastCallEnded
        let due = quietSince.advanced(by: timeout)
        guard due <= loop.now else { return wakeForIdleness(at: due) }
        logger.debug(
            "letting a connection go that no call has used",
            metadata: ["peer": "\(connection.address)", "timeout": "\(timeout)"]
        )
        connection.session.drain()
    }
}
