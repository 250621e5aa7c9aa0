internal import ApusBase

/// Finds out whether a peer that says nothing is still there (gRFC A8): after a time without a byte from it it is asked
/// with a PING, and if nothing comes then either, the connection is lost. Any byte is an answer: a peer that sends is
/// there, whether it has come to the PING or not.
///
///                 ┌───────────a byte───────────┐
///                 ▼                            │
///     ──▶ watching ──`time` without a byte──▶ asked ──`timeout` without a byte──▶ lost
///            ▲ └──the same, and no call──▶ dormant
///            └────────────a call──────────────┘
///
/// It does no I/O and has no clock: who owns it has a timer, and does what ``Action`` says.
package struct Keepalive {
    /// When to ask, and how long to wait for an answer.
    package struct Times: Hashable, Sendable {
        package var time: Duration
        package var timeout: Duration
        /// Whether a peer is asked that no call is open with.
        package var withoutCalls: Bool

        package init(time: Duration, timeout: Duration, withoutCalls: Bool) {
            self.time = time
            self.timeout = timeout
            self.withoutCalls = withoutCalls
        }
    }

    enum Action: Equatable {
        /// Nothing is due before then.
        case wait(until: MonotonicInstant)
        /// Send a PING, and look again then.
        case ping(until: MonotonicInstant)
        /// Nothing is due before a call begins.
        case sleep
        /// The peer is not there any more.
        case lost
    }

    private enum State {
        case watching
        case asked(MonotonicInstant)
        case dormant
    }

    let times: Times
    private var state = State.watching

    init(_ times: Times) { self.times = times }

    /// What is due now.
    ///
    /// - Parameter lastRead: when the last byte of the peer came.
    mutating func check(now: MonotonicInstant, lastRead: MonotonicInstant, hasCalls: Bool) -> Action {
        if case .asked(let instant) = state, lastRead < instant {
            let end = instant.advanced(by: times.timeout)
            return end > now ? .wait(until: end) : .lost
        }
        state = .watching
        let due = lastRead.advanced(by: times.time)
        if due > now { return .wait(until: due) }
        guard hasCalls || times.withoutCalls else {
            state = .dormant
            return .sleep
        }
        state = .asked(now)
        return .ping(until: now.advanced(by: times.timeout))
    }

    /// A call begins where there was none. What is due if nothing was; `nil` otherwise.
    mutating func callBegan(now: MonotonicInstant, lastRead: MonotonicInstant) -> Action? {
        guard case .dormant = state else { return nil }
        return check(now: now, lastRead: lastRead, hasCalls: true)
    }
}
