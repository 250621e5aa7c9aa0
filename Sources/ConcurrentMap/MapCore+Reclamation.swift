internal import CConcurrentMap
internal import Synchronization

/// Freeing what was taken out of the map, once no hazard is on it.
///
/// Writers leave entries with their segment, and hand them on to the map in lists of eight. Whoever makes the map's
/// list too long frees what it can: it takes the list, collects the hazards of all threads, frees what has none and
/// puts the rest back. It holds no lock and no hazard of its own then, since a `deinit` may use the map.
//
// SAFETY: the words are the map's, which is alive while it is called.
extension MapCore {
    func retire(_ list: RetiredList) {
        guard list.count > 0 else { return }
        // Before they can be taken, so that the count never falls below 0.
        unsafe retiredCount.pointee.add(UInt(list.count), ordering: .relaxed)
        var head = unsafe retired.pointee.load(ordering: .relaxed)
        while true {
            RetiredList.setNext(head, of: list.tail)
            let (exchanged, original) = unsafe retired.pointee.weakCompareExchange(
                expected: head,
                desired: list.head,
                ordering: .releasing
            )
            if exchanged { return }
            head = original
        }
    }

    func retire(_ table: Table) {
        var head = unsafe retiredTables.pointee.load(ordering: .relaxed)
        while true {
            table.nextRetired = head
            let (exchanged, original) = unsafe retiredTables.pointee.weakCompareExchange(
                expected: head,
                desired: table.word,
                ordering: .releasing
            )
            if exchanged { return }
            head = original
        }
    }

    func isReclaimingDue(promptly: Bool) -> Bool {
        if unsafe retiredCount.pointee.load(ordering: .relaxed) >= UInt(reclaimingThreshold) { return true }
        return promptly && UInt(cconcurrentmap_tick()) != lastTick
    }

    /// Entries that were taken out and are not freed yet. For tests.
    var unreclaimedCount: Int {
        var count = 0
        for index in 0..<Self.segmentCount {
            let segment = segment(index)
            segment.lock.lock()
            count += segment.retiredCount
            segment.lock.unlock()
        }
        return count + Int(unsafe retiredCount.pointee.load(ordering: .relaxed))
    }

    /// Everything that was taken out, also what is still with the segments.
    func takeAllRetired() -> RetiredList {
        var list = takeRetired()
        for index in 0..<Self.segmentCount {
            let segment = segment(index)
            guard segment.retiredHead != 0 else { continue }
            segment.lock.lock()
            let taken = segment.takeRetired()
            segment.lock.unlock()
            if let taken { list.add(taken) }
        }
        return list
    }

    /// The map's list. What is in it counts until it is freed.
    private func takeRetired() -> RetiredList {
        var list = RetiredList()
        var entry = unsafe retired.pointee.exchange(0, ordering: .acquiring)
        while entry != 0 {
            let next = RetiredList.next(of: entry)
            list.add(entry)
            entry = next
        }
        unsafe retiredCount.pointee.subtract(UInt(list.count), ordering: .relaxed)
        return list
    }

    /// Frees what was taken out before the call and is read by nobody.
    ///
    /// Called again from a `deinit` that it runs, it does nothing: the call under way looks again.
    @usableFromInline
    @inline(never)
    func reclaim(_ freeEntry: (UInt) -> Void) {
        let record = HazardRecord.current
        guard !record.isReclaiming else { return }
        record.isReclaiming = true
        defer { record.isReclaiming = false }
        repeat {
            lastTick = UInt(cconcurrentmap_tick())
            guard unsafe holds.pointee.load(ordering: .acquiring) == 0 else { return }
            guard reclaimOnce(freeEntry) else { return }
        } while unsafe retiredCount.pointee.load(ordering: .relaxed) >= UInt(reclaimingThreshold)
    }

    /// False if nothing could be freed.
    private func reclaimOnce(_ freeEntry: (UInt) -> Void) -> Bool {
        var list = takeAllRetired()
        var table = unsafe retiredTables.pointee.exchange(0, ordering: .acquiring)
        // A snapshot that began since then may be reading what was taken out after it began.
        let isHeld = unsafe holds.pointee.load(ordering: .acquiring) != 0
        guard !isHeld, let hazards = HazardDomain.hazards().map(Hazards.init) else {
            reclaimingThreshold = Self.retiredMax + 2 * list.count
            retire(list)
            while table != 0 {
                let next = Table(word: table).nextRetired
                retire(Table(word: table))
                table = next
            }
            return false
        }
        while table != 0 {
            let next = Table(word: table).nextRetired
            if hazards.contains(table) { retire(Table(word: table)) } else { Table(word: table).free() }
            table = next
        }
        var kept = RetiredList()
        var free = RetiredList()
        while let entry = list.removeFirst() {
            if hazards.contains(entry) { kept.add(entry) } else { free.add(entry) }
        }
        retire(kept)
        reclaimingThreshold = Self.retiredMax + 2 * kept.count
        while let entry = free.removeFirst() { freeEntry(entry) }
        return true
    }
}

/// The addresses that threads may be reading, to be asked often.
private struct Hazards {
    private let sorted: [UInt]

    init(_ addresses: [UInt]) { sorted = addresses.sorted() }

    func contains(_ address: UInt) -> Bool {
        var low = 0
        var high = sorted.count
        while low < high {
            let middle = (low + high) / 2
            if sorted[middle] < address { low = middle + 1 } else { high = middle }
        }
        return low < sorted.count && sorted[low] == address
    }
}
