public import CConcurrentMap
public import Synchronization

/// Where one thread says which memory it is reading: an entry or table whose address stands in a record's hazards is
/// not freed. Only its thread writes to a record; who wants to free memory reads the records of all.
///
/// Hazards are taken and given back like a stack, so that reads may nest: within `withValue`, or within the `==` of a
/// key. A record that is full is followed by another of the same thread. Records are never freed; one whose thread has
/// ended goes to the next thread that needs one.
@usableFromInline
@safe
struct HazardRecord {
    // SAFETY: a record's memory is allocated once, with `wordCount` words that are initialised, and never freed. Every
    // index is below `wordCount`: hazards are taken only after `hasRoom` said that there is room.
    @usableFromInline let words: UnsafeMutablePointer<Atomic<UInt>>

    @inlinable
    init(_ words: UnsafeMutablePointer<Atomic<UInt>>) {
        unsafe self.words = unsafe words
    }

    /// How many hazards a record has.
    @inlinable static var capacity: Int { 16 }
    /// How many of them a search uses: one for the table, one for the entry.
    @inlinable static var countForSearch: Int { 2 }

    // Where things are. What a read touches comes first.
    @inlinable static var depthWord: Int { 0 }
    @inlinable static var fenceWord: Int { 1 }
    @inlinable static var firstHazard: Int { 2 }
    static var updatesWord: Int { 18 }
    static var overtakenWord: Int { 19 }
    static var reclaimingWord: Int { 20 }
    static var ownerWord: Int { 21 }
    static var nextWord: Int { 22 }
    static var siblingWord: Int { 23 }
    static var wordCount: Int { 24 }

    /// The record of the calling thread.
    ///
    /// To be called only from functions that are not inlined: inlined into an `async` function, the optimiser would
    /// take one thread's record for another's behind a suspension.
    @inlinable
    @inline(__always)
    static var current: HazardRecord {
        guard let record = unsafe cconcurrentmap_thread_record() else { return HazardDomain.makeRecord() }
        // SAFETY: what is set as a thread's record is the memory of one.
        return unsafe HazardRecord(record.assumingMemoryBound(to: Atomic<UInt>.self))
    }

    /// The record of the calling thread, with room for a search.
    @inlinable
    @inline(__always)
    static var currentWithRoom: HazardRecord {
        let record = current
        return record.depth + countForSearch <= capacity ? record : HazardDomain.followingRecord(of: record)
    }

    /// How many hazards are taken. Known to the thread alone.
    @inlinable
    @inline(__always)
    var depth: Int {
        get { Int(bitPattern: unsafe words[Self.depthWord].load(ordering: .relaxed)) }
        nonmutating set { unsafe words[Self.depthWord].store(UInt(bitPattern: newValue), ordering: .relaxed) }
    }

    /// Announces that the thread is about to read what is at an address. It may do so if the address is found where it
    /// was found before once more, now: whoever removed it from there and wants to free it sees the hazard.
    @inlinable
    @inline(__always)
    func publish(_ address: UInt, at index: Int) {
        #if DEBUG
            HazardDomain.isAboutToPublish(self)
        #endif
        #if TSAN
            // The thread sanitizer knows no fences.
            unsafe words[Self.firstHazard &+ index].store(address, ordering: .sequentiallyConsistent)
        #else
            // Releasing, because the hazard that stood here before is given up with it.
            unsafe words[Self.firstHazard &+ index].store(address, ordering: .releasing)
            if unsafe words[Self.fenceWord].load(ordering: .relaxed) == 0 {
                cconcurrentmap_compiler_fence()
            } else {
                atomicMemoryFence(ordering: .sequentiallyConsistent)
            }
        #endif
    }

    /// Gives up a hazard.
    @inlinable
    @inline(__always)
    func clear(at index: Int) {
        unsafe words[Self.firstHazard &+ index].store(0, ordering: .releasing)
    }

    /// Gives up the hazard that was taken last.
    @inlinable
    @inline(__always)
    func leave() {
        let last = depth &- 1
        clear(at: last)
        depth = last
    }
}

// SAFETY: as above: words of a record, at indices that are its constants or below its count of hazards.
extension HazardRecord: Equatable {
    @usableFromInline
    static func == (left: HazardRecord, right: HazardRecord) -> Bool { left.bits == right.bits }

    /// Whether the thread is releasing values: what their `deinit`s retire is left to the loop that is under way.
    var isReclaiming: Bool {
        get { unsafe words[Self.reclaimingWord].load(ordering: .relaxed) != 0 }
        nonmutating set { unsafe words[Self.reclaimingWord].store(newValue ? 1 : 0, ordering: .relaxed) }
    }

    func hazard(at index: Int) -> UInt {
        unsafe words[Self.firstHazard + index].load(ordering: .acquiring)
    }

    // Updates under way ----------------------------------------------------------------------------------------------

    /// Marks the entry at the top of the stack as one that an update starts from.
    @usableFromInline
    func beginUpdate() {
        let bit = UInt(1) << UInt(depth - 1)
        set(Self.updatesWord, bits: bit, to: true)
        set(Self.overtakenWord, bits: bit, to: false)
    }

    /// Ends the update that began last; true if this very thread replaced the entry that it started from.
    @usableFromInline
    func endUpdate() -> Bool {
        let bit = UInt(1) << UInt(depth - 1)
        set(Self.updatesWord, bits: bit, to: false)
        return unsafe words[Self.overtakenWord].load(ordering: .relaxed) & bit != 0
    }

    /// Tells the updates of this thread that start from an entry that it has just been replaced.
    func noteReplaced(_ entry: UInt) {
        var record = self
        repeat {
            var updates = unsafe record.words[Self.updatesWord].load(ordering: .relaxed)
            while updates != 0 {
                let index = updates.trailingZeroBitCount
                updates &= updates - 1
                if record.hazard(at: index) == entry {
                    record.set(Self.overtakenWord, bits: 1 << UInt(index), to: true)
                }
            }
            record = record.sibling
        } while record != self
    }

    private func set(_ word: Int, bits: UInt, to isSet: Bool) {
        let old = unsafe words[word].load(ordering: .relaxed)
        unsafe words[word].store(isSet ? old | bits : old & ~bits, ordering: .relaxed)
    }

    // Lists of records ------------------------------------------------------------------------------------------------

    /// The next record of the same thread, in a ring.
    var sibling: HazardRecord {
        get { unsafe Self(bits: words[Self.siblingWord].load(ordering: .relaxed)) ?? self }
        nonmutating set { unsafe words[Self.siblingWord].store(newValue.bits, ordering: .relaxed) }
    }

    /// The next record of all, nil at the end. Does not change once a record is in the list.
    var next: HazardRecord? {
        get { unsafe Self(bits: words[Self.nextWord].load(ordering: .relaxed)) }
        nonmutating set { unsafe words[Self.nextWord].store(newValue?.bits ?? 0, ordering: .relaxed) }
    }

    var bits: UInt { unsafe UInt(bitPattern: words) }

    init?(bits: UInt) {
        guard let words = unsafe UnsafeMutablePointer<Atomic<UInt>>(bitPattern: bits) else { return nil }
        unsafe self.init(words)
    }

    /// Takes a record that no thread has; false if another was faster.
    func claim() -> Bool {
        guard unsafe words[Self.ownerWord].load(ordering: .relaxed) == 0 else { return false }
        return unsafe words[Self.ownerWord].compareExchange(expected: 0, desired: 1, ordering: .acquiring).exchanged
    }

    /// Gives the record to whoever claims it next. Its thread has ended, and reads nothing any more, whatever it left.
    func release() {
        for index in 0..<Self.capacity { clear(at: index) }
        for word in [Self.depthWord, Self.updatesWord, Self.overtakenWord, Self.reclaimingWord, Self.siblingWord] {
            unsafe words[word].store(0, ordering: .relaxed)
        }
        unsafe words[Self.ownerWord].store(0, ordering: .releasing)
    }

    /// A new record, owned.
    static func allocate(isFenced: Bool) -> HazardRecord {
        let memory = UnsafeMutableRawPointer.allocate(
            byteCount: wordCount * MemoryLayout<Atomic<UInt>>.stride,
            alignment: 64
        )
        let words = unsafe memory.bindMemory(to: Atomic<UInt>.self, capacity: wordCount)
        for index in 0..<wordCount { unsafe (words + index).initialize(to: Atomic(0)) }
        unsafe words[fenceWord].store(isFenced ? 1 : 0, ordering: .relaxed)
        unsafe words[ownerWord].store(1, ordering: .relaxed)
        return unsafe HazardRecord(words)
    }

    func setFenced() { unsafe words[Self.fenceWord].store(1, ordering: .sequentiallyConsistent) }
}
