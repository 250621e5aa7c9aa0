extension ConcurrentMap: Sequence {
    public typealias Element = (key: Key, value: Value)

    /// Goes through the pairs of a map, in 64 parts, each as it is when the iterator comes to it. Takes no lock, unless
    /// keys are added to a part so fast that it cannot be read between two.
    ///
    /// It holds copies of the pairs of one part, and otherwise nothing, so that it may be kept for as long as one
    /// likes.
    public struct Iterator: IteratorProtocol {
        @usableFromInline let map: ConcurrentMap
        @usableFromInline var segment = 0
        @usableFromInline var pairs: [Element] = []
        @usableFromInline var position = 0

        @inlinable
        init(_ map: ConcurrentMap) { self.map = map }

        @inlinable
        public mutating func next() -> Element? {
            while position == pairs.count {
                guard segment < map.segmentCount else { return nil }
                pairs = map.pairs(ofSegment: segment)
                position = 0
                segment += 1
            }
            defer { position += 1 }
            return pairs[position]
        }
    }

    /// An iterator that is weakly consistent: see the section on consistency.
    @inlinable
    public func makeIterator() -> Iterator { Iterator(self) }

    /// 0: how many pairs will come cannot be known.
    @inlinable public var underestimatedCount: Int { 0 }

    /// All pairs that the map had at one moment between the call and its return.
    ///
    /// Writers wait while the addresses of the entries are collected; keys and values are copied when they go on.
    /// Values that are taken out of the map while a snapshot is copied are released after it.
    @inlinable
    public func snapshot() -> [Key: Value] {
        core.waitUntilHoldsAreFew { Entry<Key, Value>.free($0) }
        let pairs = Self.pairs(of: core.holdAll())
        core.endHold()
        // Code of the keys runs here, when nothing is held any more.
        return Dictionary(pairs) { first, _ in first }
    }
}

extension ConcurrentMap {
    @usableFromInline var segmentCount: Int { MapCore.segmentCount }

    /// Copies of the pairs of a segment: those that are there all the time, each once, and some of those that come or
    /// go.
    @inlinable
    func pairs(ofSegment segment: Int) -> [Element] {
        // Keys that are added all the time could make this try for ever.
        for _ in 0..<4 {
            if let pairs = readPairs(ofSegment: segment) { return pairs }
        }
        let pairs = Self.pairs(of: core.hold(segment: segment))
        core.endHold()
        return pairs
    }

    /// The same without a lock; nil if a key was added meanwhile, which may have been seen in another slot before.
    @inlinable
    @inline(never)
    func readPairs(ofSegment segment: Int) -> [Element]? {
        let record = HazardRecord.currentWithRoom
        let depth = record.depth
        record.depth = depth &+ HazardRecord.countForSearch
        defer {
            record.clear(at: depth &+ 1)
            record.clear(at: depth)
            record.depth = depth
        }
        let version = core.version(of: segment)
        let table = core.table(of: segment)
        record.publish(table.word, at: depth &+ 1)
        guard core.table(of: segment) == table else { return nil }
        var pairs: [Element] = []
        for index in 0...table.mask {
            let slot = table.slot(at: index)
            var address = slot.entry
            while address != 0 {
                record.publish(address, at: depth)
                guard core.table(of: segment) == table else { return nil }
                let again = slot.entry
                if again == address {
                    pairs += Self.pairs(of: CollectionOfOne(address))
                    break
                }
                address = again
            }
        }
        return core.version(of: segment) == version ? pairs : nil
    }

    /// Copies of what is in entries that are held, or under a hazard.
    @inlinable
    static func pairs(of entries: some Sequence<UInt>) -> [Element] {
        entries.compactMap { address in
            // SAFETY: nothing is freed while there is a hold, or that has a hazard.
            guard let entry = unsafe UnsafePointer<Entry<Key, Value>>(bitPattern: address) else { return nil }
            return unsafe (entry.pointee.key, entry.pointee.value)
        }
    }
}
