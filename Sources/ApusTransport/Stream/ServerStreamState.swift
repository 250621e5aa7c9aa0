/// The server's half of one RPC: what is legal next.
///
///     from the peer   open ──END_STREAM──▶ ended          (`ignored` once the call is decided without the rest)
///     to the peer     idle ──head──▶ streaming ──status──▶ finishing ──trailers left──▶ ended
///                       └────────────status (Trailers-Only)───▲
///
/// Buffers, queues and the handler live beside it, in ``ServerStream``.
struct ServerStreamState {
    private enum Inbound {
        /// From the request's head on; the peer may send messages.
        case open
        /// The peer half-closed.
        case ended
        /// The status is decided; what the peer still sends is dropped.
        case ignored(ended: Bool)
    }

    private enum Outbound {
        /// Nothing was sent: a failure can be Trailers-Only.
        case idle
        /// The head was sent; messages may follow.
        case streaming
        /// The status is decided and waits behind the messages that are queued.
        case finishing
        /// HEADERS with END_STREAM left.
        case ended
    }

    private var inbound = Inbound.open
    private var outbound = Outbound.idle

    /// Whether messages of the peer still matter.
    var acceptsData: Bool { if case .open = inbound { true } else { false } }

    /// Whether the peer half-closed, so that a complete answer ends the stream.
    var peerEnded: Bool {
        switch inbound {
        case .open: false
        case .ended: true
        case .ignored(let ended): ended
        }
    }

    /// Whether the status follows when the queue is empty.
    var isFinishing: Bool { outbound == .finishing }

    /// Whether the call's end is decided.
    var isDecided: Bool { outbound == .finishing || outbound == .ended }

    /// Whether END_STREAM left.
    var hasSentEnd: Bool { outbound == .ended }

    /// Whether nothing was sent, so that the head goes ahead of whatever comes.
    var headIsDue: Bool { outbound == .idle }

    mutating func receiveEnd() {
        switch inbound {
        case .open: inbound = .ended
        case .ended: break
        case .ignored: inbound = .ignored(ended: true)
        }
    }

    enum OnMessage {
        /// The head goes first.
        case sendHeadThenMessage
        case sendMessage
        /// The call is over: a race that the handler lost.
        case tooLate
    }

    mutating func sendMessage() -> OnMessage {
        switch outbound {
        case .idle:
            outbound = .streaming
            return .sendHeadThenMessage
        case .streaming: return .sendMessage
        case .finishing, .ended: return .tooLate
        }
    }

    /// Whether the head is to be sent now; `false` when it was, or the call is over.
    mutating func sendHead() -> Bool {
        guard outbound == .idle else { return false }
        outbound = .streaming
        return true
    }

    enum OnStatus {
        /// One HEADERS frame says it all.
        case sendTrailersOnly
        /// Trailers follow what is queued.
        case sendTrailers
        /// The call ended before: a race that the handler lost.
        case tooLate
    }

    mutating func sendStatus() -> OnStatus {
        let before = outbound
        guard before == .idle || before == .streaming else { return .tooLate }
        outbound = .finishing
        inbound = .ignored(ended: peerEnded)
        return before == .idle ? .sendTrailersOnly : .sendTrailers
    }

    enum OnTrailersSent {
        case nothing
        /// The peer still sends: tell it that there is no need to (RFC 9113 §8.1).
        case resetWithNoError
    }

    mutating func trailersSent() -> OnTrailersSent {
        outbound = .ended
        return peerEnded ? .nothing : .resetWithNoError
    }
}
