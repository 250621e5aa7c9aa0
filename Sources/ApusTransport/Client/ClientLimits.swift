/// What a channel holds its peer, its calls and itself to, as the transport needs it.
package struct ClientLimits: Sendable {
    package var http2 = HTTP2Settings()
    /// Largest messages sent and accepted, in bytes, unless a call says otherwise.
    package var maxRequestBytes = Int(Int32.max)
    package var maxResponseBytes = 4 * 1024 * 1024
    /// Bytes that a request stream may have queued before `write` waits, and where it goes on.
    package var sendQueueBytesHigh = 64 * 1024
    package var sendQueueBytesLow = 16 * 1024
    /// Request bytes kept for a transparent retry; a call that has sent more is bound to its stream.
    package var replayBytesMax = 256 * 1024
    /// How long it may take from the start of a connection to the peer's SETTINGS, name look-up included.
    package var connectTimeout: Duration = .seconds(20)
    package var backoff = Backoff()
    /// When a server that says nothing is asked whether it is still there; `nil` for never.
    package var keepalive: Keepalive.Times?
    /// How long a full socket may take not one byte; `nil` for as long as TCP does.
    package var writeStallTimeout: Duration? = .seconds(60)
    /// Frames that carry nothing of a call, on average; `nil` for any number.
    package var emptyFramesPerSecond: Int? = 1000
    /// How long a channel keeps a connection without a call; `nil` for as long as the server does.
    package var idleTimeout: Duration? = .seconds(30 * 60)
    /// `:authority`; `nil` for the target's.
    package var authority: String?
    package var userAgent = "apus/0.1"
    /// The first stream's id, for a test of what happens when they run out.
    package var firstStreamID: Int32 = 1

    package init() {}
}

/// The delays between attempts to connect (gRPC's connection-backoff.md).
package struct Backoff: Sendable {
    package var initialDelay: Duration = .seconds(1)
    package var multiplier = 1.6
    package var maxDelay: Duration = .seconds(120)
    /// Each delay is off by up to this share of itself, so that clients do not come back all at once.
    package var jitter = 0.2
    private var attempts = 0

    package init() {}

    /// The delay after one more failure.
    mutating func next() -> Duration {
        var delay = initialDelay / .seconds(1)
        let limit = maxDelay / .seconds(1)
        for _ in 0..<min(attempts, 64) where delay < limit { delay *= multiplier }
        attempts += 1
        return .seconds(min(delay, limit) * Double.random(in: (1 - jitter)...(1 + jitter)))
    }

    /// A connection came about.
    mutating func reset() { attempts = 0 }
}
