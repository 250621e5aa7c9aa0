/// How many streams a client has open on a connection: as many as the server allows (MAX_CONCURRENT_STREAMS), or fewer
/// for a while after it refused one within that.
///
/// Some servers count a stream for a while after its end. To fill its slot at once is refused again, and the one retry
/// of a call is lost; so a slot stays empty until another stream has ended, or a moment has passed.
struct StreamAllowance {
    /// What the server allows.
    private(set) var limit: Int
    /// What is used of it.
    private(set) var current: Int
    private var endsSinceGrowth = 0

    init(limit: Int) {
        self.limit = limit
        current = limit
    }

    /// Whether less is used than the server allows.
    var isReduced: Bool { current < limit }

    mutating func setLimit(_ limit: Int) {
        guard limit != self.limit else { return }
        self = StreamAllowance(limit: limit)
    }

    /// A stream was refused while so many others were open. Far from the limit that has another reason.
    mutating func refused(open: Int) {
        guard open + 1 >= current else { return }
        current = min(max(open, 1), limit)
        endsSinceGrowth = 0
    }

    /// A stream ended as it should: one more is opened for each round of streams that did.
    mutating func ended() {
        guard isReduced else { return }
        endsSinceGrowth += 1
        if endsSinceGrowth >= current { grow() }
    }

    mutating func grow() {
        endsSinceGrowth = 0
        current = min(current + 1, limit)
    }
}
