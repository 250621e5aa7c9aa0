internal import ApusBase
internal import ApusEventLoop

/// What a server keeps for one stream while its bytes flow.
///
/// A struct in memory of its own, reused from stream to stream: as objects of a class the same fields cost a request
/// some 14 % more instructions, in reference counts and exclusivity checks. What the handler holds is ``ServerCall``.
struct ServerStream: OpenRecord {
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
    /// What the head says of encodings; not reset, because every head that is accepted sets it.
    var encodings = CallEncodings()
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

/// The address of a ``ServerStream`` in its pool: dropped when its stream is given back, to which `streamClosed` and
/// the list of queued streams see.
typealias StreamHandle = RecordHandle<ServerStream>
typealias StreamPool = RecordPool<ServerStream>
