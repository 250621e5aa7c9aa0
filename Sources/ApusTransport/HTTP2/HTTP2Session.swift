internal import ApusBase
internal import CNghttp2

/// One end of an HTTP/2 connection: takes the bytes of the peer, gives the bytes for the peer, and does no I/O.
///
/// This class is the one place that knows nghttp2; what is above sees stream ids, spans of bytes and the events below,
/// which a subclass overrides. Inheritance and not a delegate, because a delegate would be retained and released around
/// every header of every request.
///
/// Confined to the loop that owns it. Events are called from inside ``receive(_:)`` and ``produce(into:)``; in an event
/// everything may be called but these two and ``close()``.
@safe
class HTTP2Session {
    enum Role { case server, client }

    /// The two blocks of header fields that a response has.
    enum ResponseBlock { case head, trailers }

    // SAFETY: both pointers are made in `init`, belong to this object, and are freed by `close()`, which nils them.
    // nghttp2 calls back only inside calls that this object makes on them, so `self` is alive whenever a callback runs.
    private(set) var session: OpaquePointer?

    /// Where ``produce(into:)`` is writing.
    private var output = unsafe UnsafeMutableRawBufferPointer(start: nil, count: 0)
    private var outputBytes = 0

    /// The stream that the last event was for: most events come in runs for one stream.
    private var recentStreamID: Int32 = 0
    private var recentContext: UnsafeMutableRawPointer?

    /// A server's: what nghttp2 does not mind, and should, and what it does not tell.
    private let inboundFrames = Confined(InboundFrames())

    /// A server's SETTINGS, as long as they have not been asked for.
    private var opening: [UInt8] = []

    /// Bytes received and not yet credited to the connection's window; handed to nghttp2 once for each read.
    private var uncreditedConnectionBytes = 0

    let role: Role
    let settings: HTTP2Settings
    private let memory: HTTP2Memory
    private let recentHead: Confined<RecentHead>
    /// What a response ends with repeats as its head does; a server reads no trailers, and has the head's here.
    private let recentTrailers: Confined<RecentHead>
    /// The one of the two that the block being read is held against.
    private var recentFields: Confined<RecentHead>
    /// Whether the fields that come in are those of a block that is ours to read.
    private var isReadingFields = false
    /// Of the block of header fields under way, when nobody reads it: its stream, and what it has come to.
    private var unread = UnreadBlock()

    /// What nghttp2 said last of a fault in what it received: the cause that an error names.
    private(set) var lastDiagnosis = ""
    /// What a peer did wrong that nghttp2 does not mind.
    private var violation = ""
    /// Why the session ended, when that was an error: what we told the peer in GOAWAY.
    private(set) var connectionError: String?
    /// What the peer did too much of. Nothing it sends is read after that.
    private(set) var excess: PeerExcess?

    init(role: Role, settings: HTTP2Settings, memory: HTTP2Memory) throws(RPCError) {
        self.role = role
        self.settings = settings
        self.memory = memory
        let capacity = min(settings.maxHeaderFields, 64)
        // What changes from call to call in the heads of one client, and would make each of them look new.
        recentHead = Confined(RecentHead(capacity: capacity, changing: role == .server ? "grpc-timeout" : ""))
        recentTrailers = role == .server ? recentHead : Confined(RecentHead(capacity: capacity, changing: ""))
        recentFields = recentHead
        unsafe self.session = nil
        // SAFETY: nghttp2 copies callbacks and options; `self` outlives the session, see above.
        let result = unsafe Self.open(role: role, memory: memory, owner: Unmanaged.passUnretained(self).toOpaque())
        guard let session = unsafe result else {
            throw RPCError(code: .resourceExhausted, message: "no memory for an HTTP/2 session")
        }
        unsafe self.session = session
        submitInitialSettings()
        if role == .server { unsafe takeOpening(session) }
    }

    /// Takes the SETTINGS of a server from nghttp2, and puts the limit of streams into them that is meant: nghttp2 was
    /// told a higher one, because over its own it ends the connection of a client that has acknowledged it.
    private func takeOpening(_ session: OpaquePointer) {
        // SAFETY: the pointer is that of `init`; what nghttp2 hands out is valid until the next call on the session,
        // and is copied.
        var frame: UnsafePointer<UInt8>?
        let count = unsafe nghttp2_session_mem_send(session, &frame)
        guard count > 0, let frame = unsafe frame else { return }
        opening = unsafe Array(UnsafeBufferPointer(start: frame, count: count))
        let limit = settings.maxConcurrentStreams
        for entry in stride(from: Self.frameHeaderBytes, to: opening.count - 5, by: 6)
        where opening[entry] == 0 && opening[entry + 1] == UInt8(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS.rawValue) {
            for (index, shift) in [24, 16, 8, 0].enumerated() {
                opening[entry + 2 + index] = UInt8(truncatingIfNeeded: limit >> shift)
            }
        }
    }

    deinit {
        close()
        if role == .client {
            recentTrailers.value.destroy()
            recentTrailers.destroy()
        }
        recentHead.value.destroy()
        recentHead.destroy()
        inboundFrames.destroy()
    }

    /// Frees the session. No event comes after it, and what is called after it does nothing.
    final func close() {
        // SAFETY: see `session`; it is nil from here on.
        guard let session = unsafe session else { return }
        unsafe self.session = nil
        recentHead.value.removeAll()
        recentTrailers.value.removeAll()
        unsafe nghttp2_session_del(session)
    }

    // MARK: Events, for a subclass to override

    /// The head of a request begins. `nil` refuses the stream (REFUSED_STREAM): the peer may try again elsewhere.
    func requestBegan(_ streamID: Int32) -> StreamContext? { nil }
    /// A client: a block of header fields begins on a stream. Which is it?
    func responseFieldsBegan(_ stream: StreamContext) -> ResponseBlock { .head }
    /// The fields of a block follow, one by one, because they are not those of the connection's last block of its kind.
    func fieldsBegan() {}
    /// A field of a block.
    func fieldReceived(name: Span<UInt8>, value: Span<UInt8>) {}
    /// A head has so far the fields of the last one, but another value of the field that changes from call to call.
    func fieldChanged(value: Span<UInt8>, oldValueBytes: Int) {}
    /// A block that nobody reads (trailers of a request, the head of a stream that was refused) is far over the limits
    /// of a head, and its stream is reset.
    func unreadBlockIsTooLarge() {}
    /// A field with a byte that HTTP/2 forbids in names or values (RFC 9113 §8.2.1). The stream is reset, and nothing
    /// more of the block is looked at.
    func invalidFieldReceived(_ stream: StreamContext) {}
    /// A head is whole and well-formed HTTP/2. Its fields were received since ``fieldsBegan()``, or are those of the
    /// last head.
    func headReceived(_ stream: StreamContext, endStream: Bool) {}
    /// A second block of header fields, which ends the stream. To a client its fields came as those of a head do.
    func trailersReceived(_ stream: StreamContext) {}
    /// A part of the body. Padding is not in it and is credited already.
    func dataReceived(_ stream: StreamContext, _ bytes: Span<UInt8>) {}
    /// The peer's half of the stream ended with a DATA frame.
    func endReceived(_ stream: StreamContext) {}
    /// The stream is gone; its context will not be seen again.
    func streamClosed(_ stream: StreamContext, _ code: HTTP2ErrorCode) {}
    /// The peer reset a stream, which is closed next; `nil` when it was gone before.
    func resetReceived(_ stream: StreamContext?) {}
    /// We reset a stream, or nghttp2 did.
    func resetSent(_ code: HTTP2ErrorCode) {}
    /// A frame came that carries nothing of a call.
    func controlFrameReceived(_ kind: ControlFrame) {}
    /// The peer's SETTINGS arrived.
    func settingsReceived() {}
    func pingAcknowledged() {}
    /// The peer sent GOAWAY; streams above `lastStreamID` are closed with REFUSED_STREAM next.
    func goAwayReceived(_ code: HTTP2ErrorCode, lastStreamID: Int32, debugData: String) {}
    /// What to send next on a stream, at most `bytesMax`.
    func planData(_ stream: StreamContext, bytesMax: Int) -> DataPlan { DataPlan(bytes: 0, ending: .later) }
    /// Copies the planned bytes out.
    func copyData(_ stream: StreamContext, into target: UnsafeMutableRawBufferPointer) {}
    /// The plan said that trailers follow: submit them now.
    func trailersWanted(_ stream: StreamContext) {}
    /// HEADERS with END_STREAM left for the peer.
    func endOfHeadersSent(_ stream: StreamContext) {}
    /// A client: the head of a request left for the peer.
    func requestSent(_ stream: StreamContext) {}
    /// Header fields could not be sent, for instance because they are too large for the peer.
    func headersNotSent(_ stream: StreamContext, reason: String) {}
}

// MARK: - Bytes in, bytes out

extension HTTP2Session {
    /// Reads what the peer sent.
    ///
    /// - Returns: `nil`, or why the connection has to be closed; what explains it to the peer (GOAWAY) may wait in
    ///   ``produce(into:)``.
    final func receive(_ bytes: UnsafeRawBufferPointer) -> String? {
        // SAFETY: `bytes` is the caller's for the length of this call.
        if role == .server, let position = unsafe inboundFrames.value.findStray(in: bytes) {
            return unsafe receive(bytes, upTo: position)
        }
        return unsafe feed(bytes)
    }

    /// Reads what comes before a frame that should not be, and ends the connection.
    @inline(never)
    private final func receive(_ bytes: UnsafeRawBufferPointer, upTo position: Int) -> String? {
        // SAFETY: as above.
        if position > 0, let reason = unsafe feed(UnsafeRawBufferPointer(rebasing: bytes[..<position])) {
            return reason
        }
        guard let stray = inboundFrames.value.stray else { return nil }
        violation = stray.what
        terminate(stray.code)
        return nil
    }

    @inline(__always)
    private final func feed(_ bytes: UnsafeRawBufferPointer) -> String? {
        // SAFETY: `bytes` is the caller's for the length of this call; nghttp2 keeps nothing of it.
        guard let session = unsafe session else { return "the session is closed" }
        if !lastDiagnosis.isEmpty { lastDiagnosis = "" }
        let result = unsafe nghttp2_session_mem_recv(
            session,
            bytes.baseAddress?.assumingMemoryBound(to: UInt8.self),
            bytes.count
        )
        if uncreditedConnectionBytes > 0 {
            unsafe nghttp2_session_consume_connection(session, uncreditedConnectionBytes)
            uncreditedConnectionBytes = 0
        }
        guard result < 0 else { return nil }
        if let excess { return excess.description }
        let reason = unsafe String(cString: nghttp2_strerror(Int32(truncatingIfNeeded: result)))
        return lastDiagnosis.isEmpty ? reason : "\(reason): \(lastDiagnosis)"
    }

    /// The space that ``produce(into:)`` needs to be given for one frame.
    ///
    /// Twice the largest frame: behind a DATA frame that is written in place nghttp2 may hand out another frame before
    /// it returns.
    static var frameBytesMax: Int { 2 * oneFrameBytesMax }

    /// The largest frame: SETTINGS_MAX_FRAME_SIZE as it stands, and the frame header (RFC 9113 §4.1, §4.2).
    private static var oneFrameBytesMax: Int { frameHeaderBytes + 16_384 }
    private static var frameHeaderBytes: Int { 9 }
    private static var frameTypeHeaders: UInt8 { 1 }
    private static var frameTypeContinuation: UInt8 { 9 }

    /// Fills `buffer` with frames for the peer.
    ///
    /// - Returns: the bytes written; as long as less than ``frameBytesMax`` is left free there may be more to come.
    ///   `nil` when the session cannot go on.
    final func produce(into buffer: UnsafeMutableRawBufferPointer) -> Int? {
        // SAFETY: `output` is set for the length of this call alone, in which `buffer` is valid. What nghttp2 hands out
        // is valid until the next call on the session, and is copied before that.
        guard let session = unsafe session else { return nil }
        unsafe output = buffer
        outputBytes = 0
        if !opening.isEmpty { writeOpening() }
        defer { unsafe output = UnsafeMutableRawBufferPointer(start: nil, count: 0) }
        var frame: UnsafePointer<UInt8>?
        while unsafe output.count - outputBytes >= Self.frameBytesMax {
            let count = unsafe nghttp2_session_mem_send(session, &frame)
            if count < 0 { return nil }
            guard count > 0, let frame = unsafe frame, let start = unsafe output.baseAddress else { return outputBytes }
            unsafe (start + outputBytes).copyMemory(from: frame, byteCount: count)
            outputBytes += count
        }
        if role == .client, let frame = unsafe frame { unsafe noteLeft(frame) }
        return outputBytes
    }

    /// The buffer is full. Of the frame that was the last to fit nghttp2 says only when it is asked for the next that
    /// it has left, which may be much later, or never; and a request that may have been seen must not be sent again.
    @inline(never)
    private final func noteLeft(_ frame: UnsafePointer<UInt8>) {
        // SAFETY: nghttp2 hands out whole frames, which have a header of nine bytes; valid until the next call.
        let type = unsafe frame[3]
        guard type == Self.frameTypeHeaders || type == Self.frameTypeContinuation else { return }
        let word = unsafe UnsafeRawPointer(frame).loadUnaligned(fromByteOffset: 5, as: UInt32.self)
        let streamID = Int32(truncatingIfNeeded: UInt32(bigEndian: word) & 0x7FFF_FFFF)
        if let stream = context(of: streamID) { requestSent(stream) }
    }

    /// Whether a client's block of header fields is under way, be it one that is only skipped.
    @inline(__always)
    final var isInBlock: Bool { inboundFrames.value.isInBlock }

    /// How many of a client's blocks of header fields have begun: by that one is known that stays under way.
    final var blocksBegun: UInt32 { inboundFrames.value.blocksBegun }

    private final func writeOpening() {
        // SAFETY: `produce` was given room for more than a frame.
        unsafe output.copyBytes(from: opening)
        outputBytes = opening.count
        opening = []
    }

    /// Whether the connection has served its purpose: it was closed by GOAWAY or a fault, and nothing is left to do.
    final var isFinished: Bool {
        // SAFETY: see `session`.
        guard let session = unsafe session else { return true }
        return unsafe nghttp2_session_want_read(session) == 0 && nghttp2_session_want_write(session) == 0
    }

    /// Frames other than DATA that wait to be sent: what a peer makes us queue by not reading.
    final var queuedControlFrames: Int {
        // SAFETY: see `session`.
        guard let session = unsafe session else { return 0 }
        return unsafe nghttp2_session_get_outbound_queue_size(session)
    }
}

// MARK: - From the callbacks

extension HTTP2Session {
    /// The context of a stream, or `nil` when it is not ours (any more).
    @inline(__always)
    final func context(of streamID: Int32) -> StreamContext? {
        // SAFETY: nghttp2 gives back what `began` set, and `recentContext` is dropped when its stream closes; the owner
        // keeps a context alive until `streamClosed`.
        if streamID == recentStreamID { return unsafe recentContext.map { unsafe StreamContext($0) } }
        guard let session = unsafe session,
            let pointer = unsafe nghttp2_session_get_stream_user_data(session, streamID)
        else { return nil }
        recentStreamID = streamID
        unsafe recentContext = pointer
        return unsafe StreamContext(pointer)
    }

    /// A block of header fields begins: the head of a request, or its trailers, whose fields nobody reads.
    final func requestFieldsBegan(_ streamID: Int32, isHead: Bool) {
        // SAFETY: see `context(of:)`.
        forgetBrokenBlock()
        guard isHead, let session = unsafe session else { return unreadBlockBegan(streamID) }
        guard let context = requestBegan(streamID) else {
            unreadBlockBegan(streamID)
            return reset(streamID, .refusedStream)
        }
        unsafe nghttp2_session_set_stream_user_data(session, streamID, context.pointer)
        recentStreamID = streamID
        unsafe recentContext = context.pointer
        isReadingFields = true
        recentFields.value.begin()
    }

    /// A block of header fields begins on a stream of a client.
    final func responseFieldsBegan(_ streamID: Int32) {
        forgetBrokenBlock()
        guard let stream = context(of: streamID) else { return unreadBlockBegan(streamID) }
        recentFields = responseFieldsBegan(stream) == .head ? recentHead : recentTrailers
        isReadingFields = true
        recentFields.value.begin()
    }

    /// If the last block broke off, what is remembered of it is no block.
    @inline(__always)
    private final func forgetBrokenBlock() {
        if isReadingFields { recentFields.value.removeAll() }
        isReadingFields = false
    }

    private final func unreadBlockBegan(_ streamID: Int32) { unread = UnreadBlock(streamID: streamID) }

    /// - Returns: what nghttp2 is told.
    @inline(__always)
    final func received(_ name: CountedBytes, _ value: CountedBytes) -> CInt {
        if isReadingFields, recentFields.value.isNext(name, value) { return 0 }
        return receivedOther(name, value)
    }

    /// A field that is not the very one that stood there in the last head.
    @inline(never)
    private final func receivedOther(_ name: CountedBytes, _ value: CountedBytes) -> CInt {
        guard isReadingFields else { return receivedUnread(name, value) }
        compare(name, value)
        return isReadingFields ? 0 : HTTP2Callbacks.abandonedBlock
    }

    /// A field of a block that nobody reads. nghttp2 checks each byte of it all the same, and a byte on the wire may
    /// stand for thousands: a block that is far over what a head may be is not gone through to its end.
    private final func receivedUnread(_ name: CountedBytes, _ value: CountedBytes) -> CInt {
        unread.add(nameBytes: name.withSpan { $0.count }, valueBytes: value.withSpan { $0.count })
        guard settings.isFarOverLimit(listBytes: unread.listBytes, fields: unread.fieldCount) else { return 0 }
        unreadBlockIsTooLarge()
        reset(unread.streamID, .enhanceYourCalm)
        return HTTP2Callbacks.abandonedBlock
    }

    @inline(__always)
    private final func compare(_ name: CountedBytes, _ value: CountedBytes) {
        if !recentFields.value.differs {
            switch recentFields.value.match(name, value) {
            case .same: return
            case .changed(let oldValueBytes):
                return value.withSpan { fieldChanged(value: $0, oldValueBytes: oldValueBytes) }
            case .different: diverge()
            }
        }
        recentFields.value.append(name, value)
        deliver(name, value)
    }

    @inline(__always)
    final func headEnded(_ stream: StreamContext, endStream: Bool) {
        fieldsEnded()
        headReceived(stream, endStream: endStream)
    }

    /// A block that a client reads is whole: a head, or trailers.
    final func responseFieldsEnded(_ stream: StreamContext, endStream: Bool) {
        guard isReadingFields else { return }
        let isHead = recentFields.isSame(as: recentHead)
        fieldsEnded()
        if isHead { headReceived(stream, endStream: endStream) } else { trailersReceived(stream) }
    }

    @inline(__always)
    private final func fieldsEnded() {
        if !recentFields.value.finish(), !recentFields.value.differs { diverge() }
        isReadingFields = false
    }

    /// Nothing more of this block is to be looked at, and its stream is reset: nghttp2 decodes what is left of it, as
    /// it has to, without checking each field and calling for it.
    final func abandonBlock(_ streamID: Int32, _ code: HTTP2ErrorCode) {
        // Before nghttp2 does it with INTERNAL_ERROR.
        reset(streamID, code)
        forgetFields()
    }

    /// The block just read is not one to expect again, or too large to keep.
    final func forgetFields() {
        recentFields.value.removeAll()
        // What follows in it is not read: it would be taken for the whole of it.
        isReadingFields = false
    }

    private final func diverge() {
        fieldsBegan()
        recentFields.value.diverge { deliver($0, $1) }
    }

    private final func deliver(_ name: CountedBytes, _ value: CountedBytes) {
        name.withSpan { name in value.withSpan { value in fieldReceived(name: name, value: value) } }
    }

    @inline(__always)
    final func closed(_ streamID: Int32, _ code: UInt32) {
        guard let stream = context(of: streamID) else { return }
        // SAFETY: an address is forgotten.
        recentStreamID = 0
        unsafe recentContext = nil
        streamClosed(stream, HTTP2ErrorCode(rawValue: code))
    }

    @inline(__always)
    final func received(_ bytes: Span<UInt8>, on streamID: Int32) {
        uncreditedConnectionBytes += bytes.count
        guard let stream = context(of: streamID) else { return }
        dataReceived(stream, bytes)
    }

    /// Writes a DATA frame of a large body straight into the output, without the copy that nghttp2 would keep.
    ///
    /// - Returns: `false` when there is no room for it now.
    final func writeData(_ stream: StreamContext, frameHeader: UnsafePointer<UInt8>, bytes: Int) -> Bool {
        // SAFETY: `output` is set by `produce`, inside which nghttp2 calls this; the room is checked first.
        // Room is left for the frame that may follow this one, so that `produce` need not check again.
        let frameBytes = Self.frameHeaderBytes + bytes
        guard unsafe output.count - outputBytes >= frameBytes + Self.oneFrameBytesMax,
            let start = unsafe output.baseAddress
        else { return false }
        unsafe (start + outputBytes).copyMemory(from: frameHeader, byteCount: Self.frameHeaderBytes)
        let body = unsafe start + outputBytes + Self.frameHeaderBytes
        unsafe copyData(stream, into: UnsafeMutableRawBufferPointer(start: body, count: bytes))
        outputBytes += frameBytes
        return true
    }

    // MARK: Too much

    final var isCutOff: Bool { excess != nil }

    /// The peer does too much of something: GOAWAY is the next that it gets, and reading ends where it is.
    final func cutOff(_ excess: PeerExcess) {
        guard self.excess == nil else { return }
        self.excess = excess
        refuseNewStreams(.enhanceYourCalm, debugData: excess.debugData)
    }

    final func diagnosed(_ text: String) { lastDiagnosis = text }

    /// What nghttp2 found wrong with what came last, if that was a field on this stream: of most other faults it says
    /// nothing, and what it said before is about somebody else's call.
    final func diagnosis(of streamID: Int32) -> String? {
        let beginning = "Invalid HTTP header field was received: frame type: 1, stream: \(streamID), "
        return lastDiagnosis.hasPrefix(beginning) ? lastDiagnosis : nil
    }

    final func goAwaySent(_ code: HTTP2ErrorCode, _ debugData: String) {
        guard code != .noError else { return }
        let cause = debugData.isEmpty ? violation : debugData
        connectionError = cause.isEmpty ? "\(code)" : "\(code): \(cause)"
    }
}
