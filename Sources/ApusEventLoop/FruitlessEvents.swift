package import ApusBase

/// Counts events after which nothing could be moved: the kernel says "ready", and the call says EAGAIN, or that memory
/// is short. One is nothing to speak of; without a pause between many a loop would do nothing else.
///
/// Nothing is counted while bytes flow, so that this costs nothing then.
package struct FruitlessEvents {
    private static let windowNanoseconds: Int64 = 100_000_000
    private static let eventsPerWindowMax = 16

    private var windowStart = MonotonicInstant(nanoseconds: 0)
    private var count = 0

    /// How long to look away: a shortage mostly ends within moments, and the loop comes back a hundred times a second.
    package static let pause = Duration.milliseconds(10)

    package init() {}

    /// Notes one more; `true` when it is time for a pause.
    package mutating func note(now: MonotonicInstant) -> Bool {
        if now.nanoseconds(since: windowStart) > Self.windowNanoseconds {
            windowStart = now
            count = 0
        }
        count += 1
        return count >= Self.eventsPerWindowMax
    }
}
