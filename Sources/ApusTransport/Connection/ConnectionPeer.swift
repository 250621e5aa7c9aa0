package import ApusBase
internal import ApusEventLoop
package import ApusTLS

/// Who is at the other end of a connection. Thread-safe; text is made only when it is asked for.
package final class ConnectionPeer: Sendable {
    private let remote: RawSocketAddress
    /// The process at the other end of a unix socket.
    package let credentials: UnixCredentials?
    private let agreement = Lock<TLSConnectionInfo?>(nil)

    init(remote: RawSocketAddress, credentials: UnixCredentials? = nil) {
        self.remote = remote
        self.credentials = credentials
    }

    /// The peer of a connected socket.
    convenience init(remote: RawSocketAddress, descriptor: CInt) {
        let credentials = remote.isInternet ? nil : try? SystemCalls.peerCredentials(of: descriptor)
        self.init(remote: remote, credentials: credentials)
    }

    /// What TLS agreed on, and who the peer is by its certificate; `nil` in plaintext.
    package var tls: TLSConnectionInfo? { agreement.withLock { $0 } }

    /// The TLS handshake has ended; before any call comes in.
    func secured(_ info: TLSConnectionInfo?) { agreement.withLock { $0 = info } }

    /// The peer's address.
    package var address: SocketAddress { remote.address }
}
