internal import ApusBase

/// Holds a client to how often it may send PINGs (gRFC A8): those that come too soon are strikes, which are forgotten
/// when the server has sent HEADERS or DATA in between, and after some of them the connection ends.
///
/// That lets a client measure its connection while a call flows, and keeps one without calls from keeping us awake.
struct PingStrikes {
    /// The least time between two PINGs of a client that has no call open, where it is not permitted to do as with one:
    /// two hours, as in other implementations of gRPC.
    static let intervalWithoutCalls = Duration.seconds(2 * 60 * 60)

    private let limits: PingLimits
    private var strikes = 0
    private var lastPing: MonotonicInstant?
    private var callFramesSent: UInt32 = 0

    init(_ limits: PingLimits) { self.limits = limits }

    /// A PING came. `false` when that was one too many.
    ///
    /// - Parameter callFramesSent: how many HEADERS and DATA frames have been sent on the connection.
    mutating func pingReceived(now: MonotonicInstant, hasCalls: Bool, callFramesSent: UInt32) -> Bool {
        let previous = lastPing
        lastPing = now
        if callFramesSent != self.callFramesSent {
            self.callFramesSent = callFramesSent
            strikes = 0
            return true
        }
        guard let previous else { return true }
        let mayAskOften = hasCalls || limits.permitsWithoutCalls
        let interval = mayAskOften ? limits.minInterval : max(Self.intervalWithoutCalls, limits.minInterval)
        if previous.advanced(by: interval) > now { strikes += 1 }
        return strikes <= limits.maxStrikes
    }
}

/// How often a client may send PINGs.
package struct PingLimits: Sendable {
    package var minInterval: Duration = .seconds(5 * 60)
    /// Whether the interval is the same without a call.
    package var permitsWithoutCalls = false
    /// PINGs that come too soon before the connection ends with the next.
    package var maxStrikes = 2
}
