/// Where a search ended, and the hazards that keep it valid.
@usableFromInline
struct Place {
    @usableFromInline let record: HazardRecord
    @usableFromInline let hash: UInt
    /// Of the segment, from before the search.
    @usableFromInline let version: UInt
    /// The entry with the key, under the topmost hazard of `record`; 0 if there is none, and then no hazard is left.
    @usableFromInline let entry: UInt

    @inlinable
    init(record: HazardRecord, hash: UInt, version: UInt, entry: UInt) {
        self.record = record
        self.hash = hash
        self.version = version
        self.entry = entry
    }
}

/// What became of a change.
@usableFromInline
enum Outcome {
    /// Another writer was faster, and the search has to be repeated.
    case overtaken
    case done
    /// It is done, and what was taken out before is to be freed once the caller has given up its hazards.
    case doneAndReclaim
}

extension MapCore {
    /// Adds an entry for a key that a search did not find.
    @usableFromInline
    func insert(_ entry: UInt, at place: Place) -> Outcome {
        let index = Self.segmentIndex(of: place.hash)
        let segment = segment(index)
        segment.lock.lock()
        guard segment.version == place.version else {
            segment.lock.unlock()
            return .overtaken
        }
        var table = table(of: index)
        let tag = Table.tag(of: place.hash)
        var slot = table.freeSlot(for: tag)
        var replaced: Table?
        if slot.hash == 0 {
            if segment.occupied >= Self.occupiedMax(table) {
                replaced = table
                table = rebuild(table, of: index)
                slot = table.freeSlot(for: tag)
            }
            segment.occupied += 1
        }
        slot.setHash(tag)
        slot.setEntry(entry)
        segment.count += 1
        segment.version &+= 1
        segment.lock.unlock()
        guard let replaced, replaced != .empty else { return .done }
        retire(replaced)
        return .doneAndReclaim
    }

    /// Puts an entry in the place of the one that a search found, or nothing (0), if that one is still there. Promptly:
    /// what was taken out is freed at the next opportunity, and not only when there is much of it.
    @usableFromInline
    func replace(at place: Place, with entry: UInt, promptly: Bool) -> Outcome {
        let index = Self.segmentIndex(of: place.hash)
        let segment = segment(index)
        segment.lock.lock()
        let table = table(of: index)
        guard let slot = table.slot(of: place.entry, withTag: Table.tag(of: place.hash)) else {
            segment.lock.unlock()
            return .overtaken
        }
        slot.setEntry(entry)
        if entry == 0 {
            segment.count -= 1
            segment.occupied -= table.tidy(slot)
        }
        let list = segment.retire(place.entry)
        segment.lock.unlock()
        place.record.noteReplaced(place.entry)
        if let list { retire(list) }
        return isReclaimingDue(promptly: promptly) ? .doneAndReclaim : .done
    }

    /// Removes everything in one step, and frees it as far as nobody reads it.
    @usableFromInline
    func removeAll(_ freeEntry: (UInt) -> Void) {
        var tables: [Table] = []
        tables.reserveCapacity(Self.segmentCount)
        lockAll()
        for index in 0..<Self.segmentCount {
            let table = table(of: index)
            guard table != .empty else { continue }
            tables.append(table)
            setTable(.empty, of: index)
            segment(index).count = 0
            segment(index).occupied = 0
        }
        unlockAll()
        for table in tables {
            var list = RetiredList()
            table.forEachEntry { list.add($0) }
            retire(list)
            retire(table)
        }
        reclaim(freeEntry)
    }

    func lockAll() {
        for index in 0..<Self.segmentCount { segment(index).lock.lock() }
    }

    func unlockAll() {
        for index in 0..<Self.segmentCount { segment(index).lock.unlock() }
    }

    // Growth ----------------------------------------------------------------------------------------------------------

    /// At most half of the slots are in use, so that most searches end at the first slot that they look at: the
    /// processor foresees where they end, which is worth more than the memory.
    private static func occupiedMax(_ table: Table) -> Int { table.slotCount / 2 }

    private static let slotCountMin = 8

    /// A size in which entries take at most two thirds of what may be in use, so that some time passes until the next.
    static func slotCount(for count: Int) -> Int {
        var slots = slotCountMin
        while slots < count * 3 { slots *= 2 }
        return slots
    }

    /// Replaces a table by one that is large enough for one more entry, with the segment locked. Readers of the old
    /// table go on in it, as of this moment.
    private func rebuild(_ old: Table, of index: Int) -> Table {
        let segment = segment(index)
        let table = Table(slotCount: Self.slotCount(for: segment.count + 1))
        for index in 0...old.mask {
            let slot = old.slot(at: index)
            let entry = slot.entry
            guard entry != 0 else { continue }
            let tag = slot.hash
            let place = table.freeSlot(for: tag)
            place.setHash(tag)
            place.setEntry(entry)
        }
        segment.occupied = segment.count
        setTable(table, of: index)
        return table
    }
}
