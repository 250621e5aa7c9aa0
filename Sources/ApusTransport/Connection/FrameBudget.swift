internal import ApusBase

/// How many frames a peer may send that carry nothing of a call: each costs its sender less than us, and some of them
/// have nghttp2 go through all streams.
///
/// What is sent to it lets it send so many more: with them it gives credit, measures the connection, acknowledges what
/// it gets.
struct FrameBudget {
    private static let framesEarnedByFrame = 4
    /// What was sent long ago earns nothing any more. As much may be under way when the peer begins to answer for it.
    private static let framesRememberedMax: UInt32 = 1 << 16

    private var frames: TokenBucket
    private var framesPaidFor: UInt32 = 0

    init(perSecond: Int?, now: MonotonicInstant) { frames = TokenBucket(perSecond: perSecond, now: now) }

    /// - Parameter sent: how many frames of calls it has been sent.
    /// - Returns: whether it may send one more.
    mutating func take(now: MonotonicInstant, sent: UInt32) -> Bool {
        if frames.isEmpty { pay(for: sent) }
        return frames.take(now: now)
    }

    private mutating func pay(for sent: UInt32) {
        if sent &- framesPaidFor > Self.framesRememberedMax { framesPaidFor = sent &- Self.framesRememberedMax }
        let paid = min(Int(sent &- framesPaidFor), max(frames.capacity / Self.framesEarnedByFrame, 1))
        frames.add(paid * Self.framesEarnedByFrame)
        framesPaidFor &+= UInt32(truncatingIfNeeded: paid)
    }
}
