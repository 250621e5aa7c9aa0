extension ConcurrentMap {
    /// An entry that a hazard keeps alive, until `leave`.
    @usableFromInline
    @safe
    struct Found {
        @usableFromInline let record: HazardRecord
        // SAFETY: the topmost hazard of the record is on the entry.
        @usableFromInline let entry: UnsafePointer<Entry<Key, Value>>?

        @inlinable
        @inline(__always)
        init(record: HazardRecord, entry: UnsafePointer<Entry<Key, Value>>?) {
            self.record = record
            unsafe self.entry = unsafe entry
        }
    }

    /// Finds the entry of a key. A caller that gets one calls `leave` on its record in the end.
    ///
    /// Not inlined, so that the record of the thread is asked for in a function that cannot suspend.
    @inlinable
    @inline(never)
    func find(_ key: borrowing Key) -> Found {
        let hash = UInt(bitPattern: key.hashValue)
        let record = HazardRecord.currentWithRoom
        let entry = search(key, hash, record)
        // SAFETY: what a search answers has a hazard.
        return unsafe Found(record: record, entry: UnsafePointer(bitPattern: entry))
    }

    /// As `find`, with what a writer has to know to change what was found.
    @inlinable
    @inline(never)
    func locate(_ key: borrowing Key, hash: UInt) -> Place {
        let record = HazardRecord.currentWithRoom
        let version = core.version(of: MapCore.segmentIndex(of: hash))
        return Place(record: record, hash: hash, version: version, entry: search(key, hash, record))
    }

    /// The search: the address of the entry, on which it leaves a hazard, or 0.
    ///
    /// It repeats a step only when a writer has changed the key that is looked for, or replaced the table, between two
    /// instructions of it. No lock is held and nothing is waited for.
    @inlinable
    @inline(__always)
    func search(_ key: borrowing Key, _ hash: UInt, _ record: HazardRecord) -> UInt {
        let segment = MapCore.segmentIndex(of: hash)
        let tag = Table.tag(of: hash)
        let depth = record.depth
        // The `==` of a key may search a map itself.
        record.depth = depth &+ HazardRecord.countForSearch
        while true {
            let table = core.table(of: segment)
            record.publish(table.word, at: depth &+ 1)
            guard core.table(of: segment) == table else { continue }
            let (entry, isCurrent) = search(key, tag: tag, in: table, of: segment, record, depth)
            guard isCurrent else { continue }
            record.clear(at: depth &+ 1)
            if entry == 0 { record.clear(at: depth) }
            record.depth = depth &+ (entry == 0 ? 0 : 1)
            return entry
        }
    }

    /// The search in one table. Not current: the table was replaced meanwhile.
    @inlinable
    @inline(__always)
    func search(
        _ key: borrowing Key,
        tag: UInt,
        in table: Table,
        of segment: Int,
        _ record: HazardRecord,
        _ depth: Int
    ) -> (entry: UInt, isCurrent: Bool) {
        let mask = table.mask
        var index = tag & mask
        while true {
            let slot = table.slot(at: index)
            let hash = slot.hash
            if hash == tag {
                var address = slot.entry
                while address != 0 {
                    record.publish(address, at: depth)
                    // A table that was replaced keeps its entries, also those that the map has no more.
                    guard core.table(of: segment) == table else { return (0, false) }
                    let again = slot.entry
                    if again == address {
                        if isKey(key, ofEntryAt: address) { return (address, true) }
                        break
                    }
                    address = again
                }
            } else if hash == 0 {
                return (0, true)
            }
            index = (index &+ 1) & mask
        }
    }

    @inlinable
    @inline(__always)
    func isKey(_ key: borrowing Key, ofEntryAt address: UInt) -> Bool {
        // SAFETY: the caller has a hazard on the entry, and has seen it in the map since.
        guard let entry = unsafe UnsafePointer<Entry<Key, Value>>(bitPattern: address) else { return false }
        return unsafe entry.pointee.key == key
    }
}
