extension ConcurrentMap: Sequence {
    public typealias Element = (key: Key, value: Value)

    /// Goes through the pairs of a map, in 64 parts, each as it is when the iterator comes to it.
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
        let pairs = Self.pairs(of: core.holdAll())
        core.endHold()
        // Code of the keys runs here, when nothing is held any more.
        return Dictionary(pairs) { first, _ in first }
    }
}

extension ConcurrentMap {
    @usableFromInline var segmentCount: Int { MapCore.segmentCount }

    @inlinable
    func pairs(ofSegment segment: Int) -> [Element] {
        let pairs = Self.pairs(of: core.hold(segment: segment))
        core.endHold()
        return pairs
    }

    /// Copies of what is in entries that are held.
    @inlinable
    static func pairs(of entries: [UInt]) -> [Element] {
        entries.compactMap { address in
            // SAFETY: nothing is freed while there is a hold.
            guard let entry = unsafe UnsafePointer<Entry<Key, Value>>(bitPattern: address) else { return nil }
            return unsafe (entry.pointee.key, entry.pointee.value)
        }
    }
}
