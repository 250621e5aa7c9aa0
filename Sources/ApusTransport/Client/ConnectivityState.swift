/// Whether a channel has a connection (gRPC's "Connectivity Semantics and API").
public enum ConnectivityState: Int, Hashable, Sendable {
    /// There is none, and no call has asked for one.
    case idle
    /// One is being made.
    case connecting
    /// There is one: the server's SETTINGS have come.
    case ready
    /// The last attempt failed, and the next waits for the back-off. Calls fail at once, unless they wait for ready.
    case transientFailure
    /// The channel was closed, for good.
    case closed
}
