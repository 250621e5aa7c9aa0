internal import ApusBase

/// When a count last changed, by looking at it once for each batch of work: no clock is read for a single change, and
/// nothing is written.
struct ChangeTime {
    private var seen = 0
    private var batchBegan = MonotonicInstant(nanoseconds: 0)
    private var changed: MonotonicInstant?

    /// Work begins that may change the count.
    @inline(__always)
    mutating func batchBegins(_ count: Int, now: MonotonicInstant) {
        if count != seen {
            seen = count
            changed = batchBegan
        }
        batchBegan = now
    }

    /// When it last changed; `nil` if it never did.
    func last(_ count: Int) -> MonotonicInstant? { count != seen ? batchBegan : changed }
}
