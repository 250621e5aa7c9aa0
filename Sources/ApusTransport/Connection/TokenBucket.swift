internal import ApusBase

/// A rate with room for bursts: so much a second, of which what was not used in the last seconds may come at once.
///
/// A plain integer until it is used up; only then is the time looked at.
struct TokenBucket {
    /// How many seconds of the rate may come at once.
    static let burstSeconds = 5

    private let perSecond: Int
    let capacity: Int
    private var tokens: Int
    private var filledAt: MonotonicInstant

    /// - Parameter perSecond: `nil` for a bucket that is never empty.
    init(perSecond: Int?, now: MonotonicInstant) {
        // What 64 bits hold is thousands of years of any rate that could be meant.
        self.perSecond = min(perSecond ?? .max, 1 << 32)
        capacity = perSecond == nil ? .max : self.perSecond * Self.burstSeconds
        tokens = capacity
        filledAt = now
    }

    var isEmpty: Bool { tokens == 0 }

    /// Takes one; `false` when there is none.
    mutating func take(now: MonotonicInstant) -> Bool {
        if tokens == 0 { refill(now) }
        guard tokens > 0 else { return false }
        if capacity != .max { tokens -= 1 }
        return true
    }

    /// Adds what was earned otherwise.
    mutating func add(_ count: Int) { tokens = min(tokens + count, capacity) }

    private mutating func refill(_ now: MonotonicInstant) {
        let elapsed = min(max(now.nanoseconds(since: filledAt), 0), Int64(Self.burstSeconds) * 1_000_000_000)
        // At most 2^32 a second for five: microseconds are fine enough, and keep the product in 64 bits.
        let fresh = Int(elapsed / 1_000) * perSecond / 1_000_000
        // What is left of a token stays in the time that is not counted yet.
        guard fresh > 0 else { return }
        filledAt = now
        tokens = min(fresh, capacity)
    }
}
