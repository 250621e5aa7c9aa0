/// The client's half of one attempt at an RPC: what is legal next.
///
///     to the peer      open ──last message──▶ finishing ──END_STREAM left──▶ ended
///     from the peer    awaitingHead ──head──▶ body ──trailers──▶ ended
///                        └───────── head with END_STREAM ─────────▲
///
/// What HTTP/2 itself forbids (a second head, trailers without END_STREAM, an informational head that ends the stream)
/// nghttp2 answers with RST_STREAM PROTOCOL_ERROR before it gets here. Buffers and the call live beside it, in
/// ``ClientStream``.
struct ClientStreamState {
    private enum Outbound { case open, finishing, ended }

    private enum Inbound {
        /// The peer's head has not come; informational heads (1xx) do not count.
        case awaitingHead
        /// Messages may come, and trailers.
        case body
        /// The status has come, or is no longer waited for: the call has its end.
        case ended
    }

    private var outbound = Outbound.open
    private var inbound = Inbound.awaitingHead

    /// Whether the next block of header fields is a head.
    var awaitsHead: Bool { inbound == .awaitingHead }

    /// Whether the call still waits for something on this stream.
    var isDecided: Bool { inbound == .ended }

    /// Whether END_STREAM follows what is queued.
    var isFinishing: Bool { outbound == .finishing }

    enum OnHead {
        /// A head that messages and trailers follow.
        case head
        /// The one block that there is: status and trailers are in it (PROTOCOL-HTTP2.md, "Trailers-Only").
        case trailersOnly
        /// Informational: the head is still to come (RFC 9110 §15.2).
        case skip
        /// The call has ended; this is of no interest.
        case drop
    }

    mutating func receiveHead(isInformational: Bool, endStream: Bool) -> OnHead {
        guard inbound == .awaitingHead else { return .drop }
        if endStream {
            inbound = .ended
            return .trailersOnly
        }
        if isInformational { return .skip }
        inbound = .body
        return .head
    }

    /// Whether the peer's messages are for the call.
    var acceptsData: Bool { inbound == .body }

    /// The stream's last block, or its end without one. `false` when the call has ended before.
    mutating func receiveEnd() -> Bool {
        guard inbound != .ended else { return false }
        inbound = .ended
        return true
    }

    /// The call is over on this side: cancelled, out of time, or failed for what the peer sent.
    mutating func abandon() {
        inbound = .ended
        if outbound == .open { outbound = .finishing }
    }

    /// The last message was queued.
    mutating func finish() { if outbound == .open { outbound = .finishing } }

    /// END_STREAM is in the frame that leaves next.
    mutating func endSent() { outbound = .ended }

    /// Whether the peer waits for more of us.
    var hasEnded: Bool { outbound == .ended }
}
