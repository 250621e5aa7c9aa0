import Glibc

/// The times that calls took, in nanoseconds; nothing, not even the clock, is touched when they are not wanted.
struct Latencies: Sendable {
    private let wanted: Bool
    private var nanoseconds: [UInt32] = []

    init(wanted: Bool, capacity: Int) {
        self.wanted = wanted
        if wanted { nanoseconds.reserveCapacity(capacity) }
    }

    /// The moment that a call begins.
    func stamp() -> UInt64 { wanted ? now(CLOCK_MONOTONIC) : 0 }

    mutating func record(since began: UInt64) {
        if wanted { nanoseconds.append(UInt32(clamping: now(CLOCK_MONOTONIC) - began)) }
    }

    mutating func append(_ other: Latencies) {
        if wanted { nanoseconds += other.nanoseconds }
    }

    var count: Int { nanoseconds.count }

    mutating func sort() { nanoseconds.sort() }

    /// In microseconds, as JSON. They must be sorted.
    func percentile(_ percent: Int) -> String {
        guard !nanoseconds.isEmpty else { return "null" }
        return "\(Double(nanoseconds[nanoseconds.count * percent / 100]) / 1000)"
    }
}

/// A clock of the kernel's, in nanoseconds.
func now(_ clock: clockid_t) -> UInt64 {
    var time = timespec()
    clock_gettime(clock, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}
