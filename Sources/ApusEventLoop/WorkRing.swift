/// One thing a loop has been asked to run.
enum LoopWork: Sendable {
    /// A job that came to the loop as a task executor.
    case job(UnownedJob)
    /// A job of an actor whose executor the loop is.
    case isolatedJob(UnownedJob)
    case body(@Sendable () -> Void)
}

/// First in, first out. It grows as needed: a suspended task that is resumed has to be queued somewhere. Not
/// thread-safe.
///
/// Sendable since no copy of it can exist: whoever has it, has it alone.
@safe
struct WorkRing: ~Copyable, @unchecked Sendable {
    // SAFETY: `storage` is owned by this value, allocated in init and freed in deinit; the `count` elements from
    // `head` on, modulo the capacity, are initialised, and no others.

    private static let initialCapacity = 64
    /// An empty ring of more than this gives its memory back.
    private static let keptCapacityMax = 16_384

    private var storage: UnsafeMutablePointer<LoopWork>
    /// The capacity, which is a power of two, less one.
    private var mask: Int
    private var head = 0
    private(set) var count = 0

    init() {
        unsafe storage = .allocate(capacity: Self.initialCapacity)
        mask = Self.initialCapacity - 1
    }

    deinit {
        var index = head
        for _ in 0..<count {
            unsafe (storage + index).deinitialize(count: 1)
            index = (index + 1) & mask
        }
        unsafe storage.deallocate()
    }

    var isEmpty: Bool { count == 0 }

    mutating func append(_ work: consuming LoopWork) {
        if count > mask { resize(to: (mask + 1) * 2) }
        unsafe (storage + ((head + count) & mask)).initialize(to: work)
        count += 1
    }

    mutating func popFirst() -> LoopWork? {
        if count == 0 { return nil }
        let work = unsafe (storage + head).move()
        head = (head + 1) & mask
        count -= 1
        return work
    }

    /// Appends what the other holds, which is empty then.
    mutating func takeAll(from other: inout WorkRing) {
        while let work = other.popFirst() { append(work) }
    }

    /// Gives back what a burst took. Does nothing unless the ring is empty.
    mutating func releaseExcess() {
        if count == 0 && mask >= Self.keptCapacityMax { resize(to: Self.initialCapacity) }
    }

    private mutating func resize(to capacity: Int) {
        let moved = UnsafeMutablePointer<LoopWork>.allocate(capacity: capacity)
        let untilEnd = min(count, mask + 1 - head)
        unsafe moved.moveInitialize(from: storage + head, count: untilEnd)
        unsafe (moved + untilEnd).moveInitialize(from: storage, count: count - untilEnd)
        unsafe storage.deallocate()
        unsafe storage = moved
        mask = capacity - 1
        head = 0
    }
}
