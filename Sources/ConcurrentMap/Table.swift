public import Synchronization

/// A slot of a table: a hash, and the address of the entry that has it.
///
/// Hash 0 is a slot that was never used, at which a search ends; entry 0 beside a hash is one whose entry was removed,
/// which a search passes by and an insertion uses again.
@usableFromInline
@safe
struct Slot {
    // SAFETY: two words of a table, which is kept alive by a hazard or by the lock of its segment.
    @usableFromInline let words: UnsafeMutablePointer<Atomic<UInt>>

    @inlinable
    init(_ words: UnsafeMutablePointer<Atomic<UInt>>) {
        unsafe self.words = unsafe words
    }

    /// Sequentially consistent, as are the loads below, so that what threads see of different keys fits together; on
    /// x86-64 such a load is an ordinary one.
    @inlinable
    @inline(__always)
    var hash: UInt { unsafe words[0].load(ordering: .sequentiallyConsistent) }

    @inlinable
    @inline(__always)
    var entry: UInt { unsafe words[1].load(ordering: .sequentiallyConsistent) }

    /// To be called with the segment locked. The unlocking behind it is sequentially consistent and orders this store
    /// before whatever the thread reads next.
    func setHash(_ hash: UInt) { unsafe words[0].store(hash, ordering: .releasing) }

    func setEntry(_ entry: UInt) { unsafe words[1].store(entry, ordering: .releasing) }
}

/// An array of slots, which is searched from the place that a hash says onward until an unused slot. It has a power of
/// two of them, at least one unused.
///
/// A table is named by one word: the address of its first slot, which ends in six zeros, plus the logarithm of its
/// size. So a search knows the size without reading it. In front of the slots is room for the list of tables to be
/// freed.
@usableFromInline
@safe
struct Table: Equatable, Sendable {
    // SAFETY: the memory behind the word is that of a table. A reader keeps it alive by a hazard, a writer by the lock
    // of the segment; indices are masked.
    @usableFromInline let word: UInt

    @inlinable
    init(word: UInt) { self.word = word }

    /// The size is in the low bits.
    @inlinable static var sizeBits: UInt { 63 }
    static var headerBytes: Int { 64 }

    @inlinable
    @inline(__always)
    var mask: UInt { (1 &<< (word & Self.sizeBits)) &- 1 }

    var slotCount: Int { 1 << Int(word & Self.sizeBits) }

    @inlinable
    @inline(__always)
    func slot(at index: UInt) -> Slot {
        let address = (word & ~Self.sizeBits) &+ (index &* 16)
        return unsafe Slot(UnsafeMutablePointer<Atomic<UInt>>(bitPattern: address).unsafelyUnwrapped)
    }

    /// What stands in a slot for a hash. The bits at the top choose the segment, so none that counts here is lost, and
    /// it is never 0.
    @inlinable
    @inline(__always)
    static func tag(of hash: UInt) -> UInt { hash | (1 &<< (UInt(UInt.bitWidth) &- 1)) }

    /// What every segment begins with: one slot that is never used. It is never freed.
    static let empty = Table(slotCount: 1)

    init(slotCount: Int) {
        let bytes = Self.headerBytes + slotCount * 16
        let memory = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 64)
        unsafe memory.initializeMemory(as: UInt8.self, repeating: 0, count: bytes)
        let slots = UInt(bitPattern: memory) + UInt(Self.headerBytes)
        self.init(word: slots | UInt(slotCount.trailingZeroBitCount))
    }

    private var header: UnsafeMutablePointer<UInt> {
        let address = (word & ~Self.sizeBits) - UInt(Self.headerBytes)
        return unsafe UnsafeMutablePointer<UInt>(bitPattern: address).unsafelyUnwrapped
    }

    /// The word of the next table in a list of those to be freed.
    var nextRetired: UInt {
        get { unsafe header.pointee }
        nonmutating set { unsafe header.pointee = newValue }
    }

    func free() { unsafe UnsafeMutableRawPointer(header).deallocate() }

    /// The slot in which an insertion puts an entry with a tag that the table does not have: the first on the way of a
    /// search that has no entry.
    func freeSlot(for tag: UInt) -> Slot {
        var index = tag & mask
        while true {
            let slot = slot(at: index)
            if slot.entry == 0 { return slot }
            index = (index &+ 1) & mask
        }
    }

    /// The slot with an entry, nil if the table does not have it. A hazard keeps the entry from being freed, so that
    /// the same address is the same entry.
    func slot(of entry: UInt, withTag tag: UInt) -> Slot? {
        var index = tag & mask
        while true {
            let slot = slot(at: index)
            if slot.entry == entry { return slot }
            if slot.hash == 0 { return nil }
            index = (index &+ 1) & mask
        }
    }

    /// Makes the slot, which has just lost its entry, and those before it that have none either, unused ones, if the
    /// slot behind is unused: no search goes beyond. Answers how many.
    func tidy(_ slot: Slot) -> Int {
        let first = word & ~Self.sizeBits
        var index = unsafe (UInt(bitPattern: slot.words) &- first) / 16
        guard self.slot(at: (index &+ 1) & mask).hash == 0 else { return 0 }
        var count = 0
        while true {
            let slot = self.slot(at: index)
            guard slot.entry == 0, slot.hash != 0 else { return count }
            slot.setHash(0)
            count += 1
            index = (index &- 1) & mask
        }
    }

    /// The addresses of all entries.
    func forEachEntry(_ body: (UInt) -> Void) {
        for index in 0...mask {
            let entry = slot(at: index).entry
            if entry != 0 { body(entry) }
        }
    }
}
