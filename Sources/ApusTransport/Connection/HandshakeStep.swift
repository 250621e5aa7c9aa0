internal import ApusBase
internal import ApusEventLoop
internal import ApusTLS

/// A step of a TLS handshake whose cryptography takes milliseconds, taken by a thread that is no loop's
/// (`TLSContext.handshakeIsSlow`).
///
/// From its beginning to `handshakeStepEnded` the TLS session is in this object's hands: the connection reads nothing
/// and says nothing. A connection that ends meanwhile leaves the session to the step, which drops it.
///
/// Sendable, because `connection` is touched on its loop alone, and `tls` by the step's thread alone while it works.
final class HandshakeStep: @unchecked Sendable {
    enum Event: Sendable {
        case received([UInt8])
        /// The application has decided about the peer; the text says why it is refused.
        case decided(refusal: String?)
    }

    /// A handshake's last bytes may have the peer's first records behind them.
    private static let plaintextBytes = 2 * TLSSession.recordBytesMax

    private weak var connection: HTTP2Connection?
    private let loop: EventLoop
    private let tls: TLSSession

    /// Begins the step; on the connection's loop. Each connection has one at a time, which bounds what waits for a
    /// thread.
    init(_ connection: HTTP2Connection, _ tls: TLSSession, _ event: Event) {
        self.connection = connection
        self.loop = connection.loop
        self.tls = tls
        OffLoopThreads.submit { [self] in
            let (state, plaintext) = take(event)
            loop.execute { self.connection?.handshakeStepEnded(state, plaintext) }
        }
    }

    private func take(_ event: Event) -> (TLSState, [UInt8]) {
        // SAFETY: all buffers are this call's own.
        var plaintext: [UInt8] = []
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.plaintextBytes, alignment: 1)
        defer { unsafe buffer.deallocate() }
        let state: TLSState
        switch event {
        case .received(let bytes):
            state = unsafe bytes.withUnsafeBytes { bytes in
                unsafe tls.receive(bytes, plaintext: buffer) { unsafe plaintext.append(contentsOf: $0) }
            }
        case .decided(let refusal):
            state = unsafe tls.verificationEnded(refusal: refusal, plaintext: buffer) {
                unsafe plaintext.append(contentsOf: $0)
            }
        }
        return (state, plaintext)
    }

    /// Nobody waits for the step any more; on the loop.
    func abandon() { connection = nil }
}
