package import ApusBase
internal import ApusEventLoop

/// Who is at the other end of a connection. Immutable; text is made only when it is asked for.
package final class ConnectionPeer: Sendable {
    private let remote: RawSocketAddress
    /// The process at the other end of a unix socket.
    package let credentials: UnixCredentials?

    init(remote: RawSocketAddress, credentials: UnixCredentials? = nil) {
        self.remote = remote
        self.credentials = credentials
    }

    /// The peer of a connected socket.
    convenience init(remote: RawSocketAddress, descriptor: CInt) {
        let credentials = remote.isInternet ? nil : try? SystemCalls.peerCredentials(of: descriptor)
        self.init(remote: remote, credentials: credentials)
    }

    /// The peer's address.
    package var address: SocketAddress { remote.address }
}
