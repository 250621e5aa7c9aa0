internal import CConcurrentMap
internal import Synchronization

/// Reading many entries as of one moment: their addresses are collected with locks held, which takes little time, and
/// nothing is freed until the caller has copied what is behind them.
//
// SAFETY: the words are the map's, which is alive while it is called.
extension MapCore {
    /// Snapshots that follow each other without a gap would keep anything from being freed: if much waits for it, a new
    /// one waits for the others to end, and frees what they kept.
    @usableFromInline
    func waitUntilHoldsAreFew(_ freeEntry: (UInt) -> Void) {
        guard unsafe retiredCount.pointee.load(ordering: .relaxed) >= Self.retiredMaxForHolds else { return }
        while unsafe holds.pointee.load(ordering: .acquiring) != 0 { cconcurrentmap_yield() }
        reclaim(freeEntry)
    }

    private static let retiredMaxForHolds: UInt = 4096

    /// All entries, as of one moment. To be followed by `endHold`.
    @usableFromInline
    func holdAll() -> [UInt] {
        var entries: [UInt] = []
        // So that the array rarely grows while writers wait.
        let expected = count
        entries.reserveCapacity(expected + expected / 8 + 64)
        lockAll()
        beginHold()
        for index in 0..<Self.segmentCount { table(of: index).forEachEntry { entries.append($0) } }
        unlockAll()
        return entries
    }

    /// The entries of one segment, as of one moment. To be followed by `endHold`.
    @usableFromInline
    func hold(segment index: Int) -> [UInt] {
        let segment = segment(index)
        var entries: [UInt] = []
        entries.reserveCapacity(segment.count + 8)
        segment.lock.lock()
        beginHold()
        table(of: index).forEachEntry { entries.append($0) }
        segment.lock.unlock()
        return entries
    }

    /// Called with a lock held that a writer takes before it retires one of the entries: who frees it later sees this.
    private func beginHold() { unsafe holds.pointee.add(1, ordering: .sequentiallyConsistent) }

    @usableFromInline
    func endHold() { unsafe holds.pointee.subtract(1, ordering: .releasing) }
}
