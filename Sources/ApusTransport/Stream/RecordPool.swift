/// What is kept for one stream, in memory that goes from stream to stream.
protocol PooledRecord {
    init()
    /// The next in the pool, or in a list that its owner keeps.
    var next: RecordHandle<Self>? { get set }
    /// As new.
    mutating func reset()
}

/// The address of a record in its pool.
@safe
struct RecordHandle<Record: PooledRecord>: Equatable {
    // SAFETY: records live as long as their pool; a handle is dropped when its record is given back, and pool, session
    // and handle are confined to one loop.
    private let pointer: UnsafeMutablePointer<Record>

    fileprivate init(_ pointer: UnsafeMutablePointer<Record>) { unsafe self.pointer = pointer }

    init(_ context: StreamContext) { unsafe pointer = context.pointer.assumingMemoryBound(to: Record.self) }

    @inline(__always)
    static func == (left: Self, right: Self) -> Bool { unsafe left.pointer == right.pointer }

    @inline(__always)
    var context: StreamContext { unsafe StreamContext(UnsafeMutableRawPointer(pointer)) }

    var value: Record {
        @inline(__always)
        unsafeAddress { unsafe UnsafePointer(pointer) }
        @inline(__always)
        nonmutating unsafeMutableAddress { unsafe pointer }
    }
}

/// Memory for records, made in blocks and kept for the next stream. Confined to one loop.
@safe
struct RecordPool<Record: PooledRecord> {
    private static var recordsPerBlock: Int { 32 }

    // SAFETY: a block is allocated and initialised whole, and lives until this pool does. Whoever holds a handle holds
    // the owner of the pool.
    private var blocks: [UnsafeMutablePointer<Record>] = unsafe []
    private var free: RecordHandle<Record>?

    /// Frees the records; none is in use.
    mutating func removeAll() {
        while let block = unsafe blocks.popLast() {
            unsafe block.deinitialize(count: Self.recordsPerBlock)
            unsafe block.deallocate()
        }
        free = nil
    }

    @inline(__always)
    mutating func take() -> RecordHandle<Record> {
        while true {
            if let handle = free {
                free = handle.value.next
                handle.value.next = nil
                return handle
            }
            addBlock()
        }
    }

    /// Drops what the stream held.
    @inline(__always)
    mutating func give(_ handle: RecordHandle<Record>) {
        handle.value.reset()
        handle.value.next = free
        free = handle
    }

    private mutating func addBlock() {
        let block = UnsafeMutablePointer<Record>.allocate(capacity: Self.recordsPerBlock)
        for index in 0..<Self.recordsPerBlock {
            unsafe (block + index).initialize(to: Record())
            let handle = unsafe RecordHandle(block + index)
            handle.value.next = free
            free = handle
        }
        unsafe blocks.append(block)
    }
}
