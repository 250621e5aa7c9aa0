package import ApusBase
internal import ApusEventLoop

/// Who is at the other end of a connection. Immutable; text is made only when it is asked for.
package final class ConnectionPeer: Sendable {
    private let remote: RawSocketAddress

    init(remote: RawSocketAddress) { self.remote = remote }

    /// The peer's address.
    package var address: SocketAddress { remote.address }
}
