internal import CConcurrentMap
internal import Synchronization

/// The hazards of all threads, for all maps of the process.
///
/// A reader writes down what it reads and then looks again whether that is still in the map; who took it out of the map
/// looks for it in what readers wrote down. Between its write and its look each side needs a fence, or both could miss
/// the other. Readers are many, so theirs costs them nothing: the reclaiming side has the kernel run a fence on every
/// running thread of the process (membarrier). Where that is missing, readers have fences of their own.
@usableFromInline
enum HazardDomain {
    /// The first of all records.
    private static let first = Atomic<UInt>(0)
    private static let mode = Atomic<Mode.RawValue>(Mode.undecided.rawValue)

    private enum Mode: Int { case undecided, membarrier, fences }

    /// Gives the calling thread a record, until it ends.
    @usableFromInline
    @inline(never)
    static func makeRecord() -> HazardRecord {
        let record = unclaimedRecord()
        record.sibling = record
        setCurrent(record)
        return record
    }

    /// For a thread whose record is full: another of its records that is not in use, or one more.
    @usableFromInline
    @inline(never)
    static func followingRecord(of full: HazardRecord) -> HazardRecord {
        var record = full.sibling
        while record != full {
            if record.depth == 0 {
                setCurrent(record)
                return record
            }
            record = record.sibling
        }
        let added = unclaimedRecord()
        added.sibling = full.sibling
        full.sibling = added
        setCurrent(added)
        return added
    }

    private static func setCurrent(_ record: HazardRecord) {
        // SAFETY: records are never freed. The closure gets what is set here, on the thread that ends.
        unsafe cconcurrentmap_set_thread_record(record.words) { words in
            guard let last = HazardRecord(bits: UInt(bitPattern: words)) else { return }
            var record = last.sibling
            while record != last {
                let following = record.sibling
                record.release()
                record = following
            }
            last.release()
        }
    }

    private static func unclaimedRecord() -> HazardRecord {
        let isFenced = decidedMode() == .fences
        var candidate = HazardRecord(bits: first.load(ordering: .acquiring))
        while let record = candidate {
            if record.claim() { return record }
            candidate = record.next
        }
        let record = HazardRecord.allocate(isFenced: isFenced)
        var head = first.load(ordering: .relaxed)
        while true {
            record.next = HazardRecord(bits: head)
            let (exchanged, original) = first.compareExchange(
                expected: head,
                desired: record.bits,
                ordering: .sequentiallyConsistent
            )
            if exchanged { return record }
            head = original
        }
    }

    private static func decidedMode() -> Mode {
        let known = Mode(rawValue: mode.load(ordering: .acquiring)) ?? .undecided
        guard known == .undecided else { return known }
        let wanted: Mode = cconcurrentmap_membarrier_register() == 1 ? .membarrier : .fences
        let original = mode.compareExchange(
            expected: Mode.undecided.rawValue,
            desired: wanted.rawValue,
            ordering: .acquiringAndReleasing
        ).original
        let first = Mode(rawValue: original) ?? .undecided
        return first == .undecided ? wanted : first
    }

    /// Has readers use fences, as where the kernel lacks membarrier. For tests, before other threads use maps.
    static func useFences() {
        mode.store(Mode.fences.rawValue, ordering: .sequentiallyConsistent)
        var candidate = HazardRecord(bits: first.load(ordering: .acquiring))
        while let record = candidate {
            record.setFenced()
            candidate = record.next
        }
    }

    /// What threads may be reading: each address that is not in the answer, and that was unreachable before the call,
    /// is read by nobody. Nil if that cannot be known now.
    static func hazards() -> [UInt]? {
        if decidedMode() == .membarrier {
            guard cconcurrentmap_membarrier() == 1 else { return nil }
        }
        atomicMemoryFence(ordering: .sequentiallyConsistent)
        var found: [UInt] = []
        var candidate = HazardRecord(bits: first.load(ordering: .sequentiallyConsistent))
        while let record = candidate {
            for index in 0..<HazardRecord.capacity {
                let address = record.hazard(at: index)
                if address != 0 { found.append(address) }
            }
            candidate = record.next
        }
        return found
    }

    /// How many records there are: as many as threads used maps at the same time. For tests.
    static var recordCount: Int {
        var count = 0
        var candidate = HazardRecord(bits: first.load(ordering: .acquiring))
        while let record = candidate {
            count += 1
            candidate = record.next
        }
        return count
    }
}

#if DEBUG
    /// For tests: stops one thread between reading an address and announcing it, where others may take the entry out
    /// and free it.
    extension HazardDomain {
        private static let stopped = Atomic<UInt>(0)
        private static let countdown = Atomic(0)

        /// Has the calling thread stop before it announces the next address but `count`, until `goOn`.
        static func stopAfter(_ count: Int) {
            countdown.store(count, ordering: .relaxed)
            stopped.store(HazardRecord.current.bits, ordering: .sequentiallyConsistent)
        }

        /// Whether a thread has stopped.
        static var hasStopped: Bool { countdown.load(ordering: .sequentiallyConsistent) < 0 }

        static func goOn() {
            countdown.store(0, ordering: .relaxed)
            stopped.store(0, ordering: .sequentiallyConsistent)
        }

        @usableFromInline
        static func isAboutToPublish(_ record: HazardRecord) {
            guard stopped.load(ordering: .relaxed) == record.bits else { return }
            guard countdown.subtract(1, ordering: .sequentiallyConsistent).newValue < 0 else { return }
            while stopped.load(ordering: .sequentiallyConsistent) == record.bits { cconcurrentmap_pause() }
        }
    }
#endif
