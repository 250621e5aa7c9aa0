internal import ApusEventLoop
internal import ApusTLS

/// The application's decision about the peer of a connection, made in a task of its own.
///
/// The task holds no connection: one that ends meanwhile is gone at once, and the task is cancelled, so that
/// verifications that hang do not pile up behind peers that have long left.
///
/// Sendable, because all but the task is touched on the connection's loop alone.
final class PeerVerification: @unchecked Sendable {
    private weak var connection: HTTP2Connection?
    private let loop: EventLoop
    private var task: Task<Void, Never>?

    init(_ connection: HTTP2Connection, _ peer: TLSPeer, _ verifier: @escaping TLSPeerVerifier) {
        self.connection = connection
        loop = connection.loop
        task = Task.detached { [self] in
            var refusal: String?
            do {
                try await verifier(peer)
            } catch {
                refusal = "\(error)"
            }
            loop.execute { [refusal] in self.connection?.verificationEnded(refusal) }
        }
    }

    /// Nobody waits for the decision any more.
    func cancel() {
        connection = nil
        task?.cancel()
        task = nil
    }
}
