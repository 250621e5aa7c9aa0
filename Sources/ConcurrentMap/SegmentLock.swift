internal import CConcurrentMap
internal import Synchronization

/// A lock for a few dozen instructions, in one word. Not the standard library's `Mutex`: a map holds the locks of all
/// its segments at once for a snapshot, and the thread sanitizer understands this one.
///
/// No code of the map's user ever runs with it held.
@safe
struct SegmentLock {
    // SAFETY: the word is that of a segment, and lives as long as the map.
    //
    // 0 is free, 1 held, 2 held with threads that may be asleep.
    private let word: UnsafeMutablePointer<Atomic<UInt>>

    init(_ word: UnsafeMutablePointer<Atomic<UInt>>) { unsafe self.word = unsafe word }

    private static let spinsMax = 100

    func lock() {
        if !tryLock() { lockSlowly() }
    }

    private func tryLock() -> Bool {
        unsafe word.pointee.compareExchange(expected: 0, desired: 1, ordering: .sequentiallyConsistent).exchanged
    }

    @inline(never)
    private func lockSlowly() {
        for _ in 0..<Self.spinsMax {
            if unsafe word.pointee.load(ordering: .relaxed) == 0, tryLock() { return }
            cconcurrentmap_pause()
        }
        while unsafe word.pointee.exchange(2, ordering: .sequentiallyConsistent) != 0 {
            unsafe cconcurrentmap_wait(word, 2)
        }
    }

    /// Sequentially consistent, so that what was stored with the lock held comes before what the thread reads next.
    func unlock() {
        if unsafe word.pointee.exchange(0, ordering: .sequentiallyConsistent) == 2 { unsafe cconcurrentmap_wake(word) }
    }
}
