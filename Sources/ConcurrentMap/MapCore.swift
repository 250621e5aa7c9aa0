internal import CConcurrentMap
public import Synchronization

/// A map without the types of its keys and values: tables, locks, and what waits to be freed.
///
/// A hash chooses one of 64 segments, each of which has a table and a lock of its own and grows by itself, so that
/// writers rarely meet and growth stops only the writers of one segment for a short time. Readers use the tables alone.
@usableFromInline
@safe
struct MapCore {
    // SAFETY: allocated in `init`, freed by `free`, which the map calls from its `deinit`. Indices are constants, or
    // below `segmentCount`.
    @usableFromInline let words: UnsafeMutablePointer<Atomic<UInt>>

    static let segmentCount = 64
    private static let firstSegmentWord = segmentCount
    private static let firstSharedWord = firstSegmentWord + segmentCount * Segment.wordCount
    private static let wordCount = firstSharedWord + 8

    @usableFromInline
    init(minimumCapacity: Int) {
        let bytes = Self.wordCount * MemoryLayout<Atomic<UInt>>.stride
        let memory = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 64)
        unsafe words = memory.bindMemory(to: Atomic<UInt>.self, capacity: Self.wordCount)
        for index in 0..<Self.wordCount { unsafe (words + index).initialize(to: Atomic(0)) }
        let share = (max(minimumCapacity, 0) + Self.segmentCount - 1) / Self.segmentCount
        for index in 0..<Self.segmentCount {
            // The keys are spread unevenly, a quarter more than the mean in some segment.
            let table = share == 0 ? Table.empty : Table(slotCount: Self.slotCount(for: share + share / 4))
            unsafe words[index].store(table.word, ordering: .releasing)
        }
        reclaimingThreshold = Self.retiredMax
    }

    // Parts -----------------------------------------------------------------------------------------------------------

    @inlinable
    @inline(__always)
    static func segmentIndex(of hash: UInt) -> Int { Int(bitPattern: hash &>> (UInt(UInt.bitWidth) &- 6)) }

    @inlinable
    @inline(__always)
    func table(of segment: Int) -> Table { unsafe Table(word: words[segment].load(ordering: .sequentiallyConsistent)) }

    func setTable(_ table: Table, of segment: Int) {
        unsafe words[segment].store(table.word, ordering: .sequentiallyConsistent)
    }

    func segment(_ index: Int) -> Segment { unsafe Segment(words + Self.firstSegmentWord + index * Segment.wordCount) }

    @usableFromInline
    func version(of segment: Int) -> UInt { self.segment(segment).version }

    private subscript(shared index: Int) -> UnsafeMutablePointer<Atomic<UInt>> {
        unsafe words + Self.firstSharedWord + index
    }
    /// The list of entries that were taken out, without those that are still with their segments.
    var retired: UnsafeMutablePointer<Atomic<UInt>> { unsafe self[shared: 0] }
    /// How many are in that list.
    var retiredCount: UnsafeMutablePointer<Atomic<UInt>> { unsafe self[shared: 1] }
    /// The list of tables that were replaced.
    var retiredTables: UnsafeMutablePointer<Atomic<UInt>> { unsafe self[shared: 2] }
    /// How many snapshots are being copied; until none is, nothing is freed.
    var holds: UnsafeMutablePointer<Atomic<UInt>> { unsafe self[shared: 3] }

    static let retiredMax = 128

    /// How long the list has to be for a writer to free what is in it.
    var reclaimingThreshold: Int {
        get { Int(unsafe self[shared: 4].pointee.load(ordering: .relaxed)) }
        nonmutating set { unsafe self[shared: 4].pointee.store(UInt(newValue), ordering: .relaxed) }
    }

    /// When that was done last.
    var lastTick: UInt {
        get { unsafe self[shared: 5].pointee.load(ordering: .relaxed) }
        nonmutating set { unsafe self[shared: 5].pointee.store(newValue, ordering: .relaxed) }
    }

    /// Entries in the map; as of no one time while others write.
    @usableFromInline var count: Int { (0..<Self.segmentCount).reduce(0) { $0 + segment($1).count } }

    /// Ends the map: `freeEntry` gets each entry, also those taken out before. Nobody reads any more.
    @usableFromInline
    func free(_ freeEntry: (UInt) -> Void) {
        for index in 0..<Self.segmentCount {
            let table = table(of: index)
            table.forEachEntry(freeEntry)
            if table != .empty { table.free() }
        }
        var list = takeAllRetired()
        while let entry = list.removeFirst() { freeEntry(entry) }
        var table = unsafe retiredTables.pointee.exchange(0, ordering: .acquiring)
        while table != 0 {
            let next = Table(word: table).nextRetired
            Table(word: table).free()
            table = next
        }
        unsafe words.deinitialize(count: Self.wordCount)
        unsafe words.deallocate()
    }
}
