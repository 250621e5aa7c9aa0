internal import ApusBase

/// What one connection has let its peer do of that which an honest one does little of.
///
/// Each event that counts is one that costs its sender less than us, or nothing; what a call costs is limited by the
/// number of calls. Nothing here is looked at while calls are made and answered.
struct PeerBudgets {
    private var cancellations: TokenBucket
    private var violations: TokenBucket
    private var emptyFrames: FrameBudget
    private var pings: PingStrikes

    init(_ limits: ServerLimits, now: MonotonicInstant) {
        cancellations = TokenBucket(perSecond: limits.cancellationsPerSecond, now: now)
        violations = TokenBucket(perSecond: limits.violationsPerSecond, now: now)
        emptyFrames = FrameBudget(perSecond: limits.emptyFramesPerSecond, now: now)
        pings = PingStrikes(limits.pings)
    }

    /// A call was cancelled soon after it began, and before anything was sent of it. One that has been open for a while
    /// was in the way of others: the limit of open streams holds those down.
    mutating func youngCallCancelled(now: MonotonicInstant) -> PeerExcess? {
        cancellations.take(now: now) ? nil : .cancellations
    }

    /// A stream was reset for something that the peer did wrong.
    mutating func streamBrokeRules(now: MonotonicInstant) -> PeerExcess? {
        violations.take(now: now) ? nil : .violations
    }

    /// A frame came that carries nothing of a call.
    mutating func emptyFrameReceived(now: MonotonicInstant, callFramesSent: UInt32) -> PeerExcess? {
        emptyFrames.take(now: now, sent: callFramesSent) ? nil : .emptyFrames
    }

    mutating func pingReceived(now: MonotonicInstant, hasCalls: Bool, callFramesSent: UInt32) -> PeerExcess? {
        pings.pingReceived(now: now, hasCalls: hasCalls, callFramesSent: callFramesSent) ? nil : .pings
    }
}

/// Tells streams that began a moment ago from older ones, without a time kept with each: ids grow, so it is enough to
/// note the last one now and then.
struct YoungStreams {
    /// A stream that is younger than this is young, one that is older than twice this is not.
    static let age = Duration.milliseconds(50)

    private var lastNoted: Int32 = 0
    private var oldUpTo: Int32 = 0
    private var dueAt = MonotonicInstant(nanoseconds: 0)

    /// Whether a note is due; asked before each read.
    @inline(__always)
    func isDue(_ now: MonotonicInstant) -> Bool { now >= dueAt }

    /// Notes which stream was the last that began before this read.
    mutating func note(lastStreamID: Int32, now: MonotonicInstant) {
        // Nothing was read since it was due, so that none began since either.
        oldUpTo = now >= dueAt.advanced(by: Self.age) ? lastStreamID : lastNoted
        lastNoted = lastStreamID
        dueAt = now.advanced(by: Self.age)
    }

    func isYoung(_ streamID: Int32) -> Bool { streamID > oldUpTo }
}
