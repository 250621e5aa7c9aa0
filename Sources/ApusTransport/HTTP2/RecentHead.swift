internal import CNghttp2

/// The fields of the last head (or the last trailers) on a connection, to recognise the next by.
///
/// The calls of one client mostly have the same head, and HPACK sends a field that repeats as an index into a table,
/// for which nghttp2 hands out the same counted buffer each time. So a field is known by two addresses, and a head that
/// repeats costs no look at its bytes at all.
@safe
struct RecentHead {
    private struct Field {
        let name: CountedBytes
        let value: CountedBytes
    }

    // SAFETY: `fields` has room for `capacity` and those up to `end` are initialised; `expected` points at one of them
    // or one past the last. They are trivial values. The owner calls `destroy` last of all.
    private let fields: UnsafeMutablePointer<Field>
    private let capacity: Int
    /// The name of the one field whose value may change without making the head another; empty for none.
    private let changing: StaticString
    /// The field that the head under way has to bring next to be the same as the last.
    private var expected: UnsafeMutablePointer<Field>
    private var end: UnsafeMutablePointer<Field>
    /// Whether the head under way has differed.
    private(set) var differs = false
    /// Whether the head under way has more fields than are remembered.
    private var isTooLong = false

    enum Match {
        /// The field repeats the one that stood there.
        case same
        /// The field has the name of the one that stood there, and is one that changes from call to call.
        case changed(oldValueBytes: Int)
        /// The head differs from here on.
        case different
    }

    /// Memory for heads of at most so many fields; of a longer one nothing is remembered.
    init(capacity: Int, changing: StaticString) {
        self.capacity = capacity
        self.changing = changing
        unsafe fields = .allocate(capacity: capacity)
        unsafe expected = fields
        unsafe end = fields
    }

    /// Frees the memory, after ``removeAll()``.
    func destroy() { unsafe fields.deallocate() }

    mutating func begin() {
        unsafe expected = fields
        differs = false
    }

    /// The head is complete. Says whether it was the same as the last; never of one without fields, because the last
    /// may have had more than are remembered.
    mutating func finish() -> Bool {
        if isTooLong {
            isTooLong = false
            removeAll()
        }
        return unsafe !differs && expected == end && end > fields
    }

    /// Whether these are the very buffers that are expected; if so, goes on to the next.
    @inline(__always)
    mutating func isNext(_ name: CountedBytes, _ value: CountedBytes) -> Bool {
        guard unsafe expected < end, unsafe expected.pointee.name == name, unsafe expected.pointee.value == value else {
            return false
        }
        unsafe expected += 1
        return true
    }

    /// What a field is that ``isNext(_:_:)`` did not know.
    mutating func match(_ name: CountedBytes, _ value: CountedBytes) -> Match {
        guard unsafe expected < end else { return .different }
        let known = unsafe expected.pointee
        guard known.name == name || known.name.hasSameBytes(as: name) else { return .different }
        if known.value.hasSameBytes(as: value) {
            unsafe expected += 1
            return .same
        }
        guard name.withSpan({ $0.elementsEqual(changing) }) else { return .different }
        let oldValueBytes = known.value.withSpan { $0.count }
        value.retain()
        unsafe expected.pointee = Field(name: known.name, value: value)
        known.value.release()
        unsafe expected += 1
        return .changed(oldValueBytes: oldValueBytes)
    }

    /// The head under way differs: forgets what it has not repeated, and hands out what it has.
    mutating func diverge(deliver: (CountedBytes, CountedBytes) -> Void) {
        differs = true
        while unsafe end > expected {
            unsafe end -= 1
            unsafe end.pointee.name.release()
            unsafe end.pointee.value.release()
        }
        var field = unsafe fields
        while unsafe field < end {
            unsafe deliver(field.pointee.name, field.pointee.value)
            unsafe field += 1
        }
    }

    /// Remembers a field of a head that differs.
    mutating func append(_ name: CountedBytes, _ value: CountedBytes) {
        guard unsafe end < fields + capacity else {
            isTooLong = true
            return
        }
        name.retain()
        value.retain()
        unsafe end.initialize(to: Field(name: name, value: value))
        unsafe end += 1
        unsafe expected = end
    }

    /// Forgets everything; to be called before the session is freed.
    mutating func removeAll() {
        unsafe expected = fields
        diverge { _, _ in }
    }
}

/// Bytes that nghttp2 holds and counts the holders of.
@safe
struct CountedBytes: Equatable {
    // SAFETY: valid during the callback that brought it, and from `retain` to `release`, which have to come before the
    // session that owns the memory is freed.
    private let buffer: OpaquePointer

    init(_ buffer: OpaquePointer) { unsafe self.buffer = buffer }

    /// Whether it is the same buffer.
    @inline(__always)
    static func == (left: Self, right: Self) -> Bool { unsafe left.buffer == right.buffer }

    func retain() { unsafe nghttp2_rcbuf_incref(buffer) }

    func release() { unsafe nghttp2_rcbuf_decref(buffer) }

    @inline(__always)
    func withSpan<Result>(_ body: (Span<UInt8>) -> Result) -> Result {
        let vector = unsafe nghttp2_rcbuf_get_buf(buffer)
        guard let start = unsafe vector.base else { return body(Span()) }
        return unsafe body(Span(_unsafeStart: start, count: vector.len))
    }

    func hasSameBytes(as other: CountedBytes) -> Bool {
        withSpan { mine in other.withSpan { mine.elementsEqual($0) } }
    }
}
