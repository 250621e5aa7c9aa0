internal import ApusBase
internal import ApusEventLoop

/// What a server keeps for one stream while its bytes flow.
///
/// A struct in memory of its own, reused from stream to stream: as objects of a class the same fields cost a request
/// some 14 % more instructions, in reference counts and exclusivity checks. What the handler holds is ``ServerCall``.
struct ServerStream {
    var id: Int32 = 0
    var state = ServerStreamState()
    /// Set once the head named a method that is served; the server's table keeps it alive.
    var method: ServedMethodRef?
    /// That method, if it is not in the table.
    var madeMethod: ServedMethod?
    var deframer = MessageDeframer()
    /// The one request of a method that takes one, then the messages that a streaming handler has not taken.
    var inbound = MessageQueue()
    var outbound = OutboundQueue()
    /// The handler's view; `nil` before the handler starts.
    var call: ServerCall?
    var metadata = Metadata()
    var authority: [UInt8] = []
    var deadline = MonotonicInstant.distantFuture
    var timer = EventLoop.TimerID.none
    /// The status to be sent, unless the call succeeded.
    var failure: RPCError?
    /// Trailing metadata of a call that succeeded.
    var trailers = Metadata()
    /// Body bytes that came and are still held, in whole messages and the one under way.
    var heldBytes = 0
    /// How many of them were credited as they came: a message larger than the window must not wait for itself.
    var creditedAhead = 0
    /// nghttp2 was told "later": it has to be told when there is more.
    var isDeferred = false
    /// In the session's list of streams whose handler is to start.
    var isReady = false
    /// Closed while it was in that list.
    var isClosed = false
    /// Waits for the connection's buffer to have room again.
    var waitsForRoom = false
    /// The next in the pool or in the list of ready streams.
    var next: StreamHandle?
    /// The neighbours in the session's list of open streams.
    var nextOpen: StreamHandle?
    var previousOpen: StreamHandle?

    init() {}

    /// As new. Field by field, because to drop what is not there costs a reference count all the same.
    @inline(__always)
    mutating func reset() {
        id = 0
        state = ServerStreamState()
        method = nil
        if madeMethod != nil { madeMethod = nil }
        if deframer.isMidMessage { deframer.reset() }
        if !inbound.isEmpty { inbound.removeAll() }
        if outbound.bytes > 0 { outbound.removeAll() }
        if call != nil { call = nil }
        deadline = .distantFuture
        timer = .none
        if failure != nil { failure = nil }
        if !trailers.isEmpty { trailers = Metadata() }
        heldBytes = 0
        creditedAhead = 0
        isDeferred = false
        isReady = false
        isClosed = false
        waitsForRoom = false
        next = nil
        nextOpen = nil
        previousOpen = nil
    }
}

/// The address of a ``ServerStream`` in its pool.
@safe
struct StreamHandle: Equatable {
    // SAFETY: records live as long as their pool; a handle is dropped when its stream is given back (`streamClosed` and
    // the list of queued streams see to it), and both happen on the loop that owns pool and session.
    private let pointer: UnsafeMutablePointer<ServerStream>

    fileprivate init(_ pointer: UnsafeMutablePointer<ServerStream>) { unsafe self.pointer = pointer }

    init(_ context: StreamContext) {
        unsafe pointer = context.pointer.assumingMemoryBound(to: ServerStream.self)
    }

    static func == (left: Self, right: Self) -> Bool { unsafe left.pointer == right.pointer }

    var context: StreamContext { unsafe StreamContext(UnsafeMutableRawPointer(pointer)) }

    var value: ServerStream {
        @inline(__always)
        unsafeAddress { unsafe UnsafePointer(pointer) }
        @inline(__always)
        nonmutating unsafeMutableAddress { unsafe pointer }
    }
}

/// Memory for streams, made in blocks and kept for the next stream. Confined to one loop.
@safe
struct StreamPool {
    private static let recordsPerBlock = 32

    // SAFETY: a block is allocated and initialised whole, and lives until this pool does. Whoever holds a handle holds
    // the shard that owns the pool.
    private var blocks: [UnsafeMutablePointer<ServerStream>] = unsafe []
    private var free: StreamHandle?

    /// Frees the records; none is in use.
    mutating func removeAll() {
        while let block = unsafe blocks.popLast() {
            unsafe block.deinitialize(count: Self.recordsPerBlock)
            unsafe block.deallocate()
        }
        free = nil
    }

    @inline(__always)
    mutating func take() -> StreamHandle {
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
    mutating func give(_ handle: StreamHandle) {
        handle.value.reset()
        handle.value.next = free
        free = handle
    }

    private mutating func addBlock() {
        let block = UnsafeMutablePointer<ServerStream>.allocate(capacity: Self.recordsPerBlock)
        for index in 0..<Self.recordsPerBlock {
            unsafe (block + index).initialize(to: ServerStream())
            let handle = unsafe StreamHandle(block + index)
            handle.value.next = free
            free = handle
        }
        unsafe blocks.append(block)
    }
}
