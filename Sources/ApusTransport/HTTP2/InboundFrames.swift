/// Looks through what a client sends, frame header by frame header, for frames that the client may not send there and
/// that nghttp2 ignores without a word, where RFC 9113 wants the connection to end. It ignores DATA and HEADERS on any
/// stream that it does not know, because they can be under way on one that we have reset, and all PRIORITY since we
/// said NO_RFC7540_PRIORITIES.
///
/// It sees bytes before nghttp2 does, so that those behind such a frame are not read at all. And it knows whether a
/// block of header fields is under way, which nghttp2 does not tell of one that it only skips.
struct InboundFrames {
    /// Why the connection has to end.
    struct Stray: Equatable {
        var what: String
        var code: HTTP2ErrorCode
    }

    private static let headerBytes = 9
    private static let data: UInt32 = 0
    private static let headers: UInt32 = 1
    private static let priority: UInt32 = 2
    private static let reset: UInt32 = 3
    private static let continuation: UInt32 = 9
    private static let endStream: UInt8 = 1
    private static let endHeaders: UInt8 = 4

    private var ids = PeerStreamIDs()
    /// Bytes until the next frame begins. The first one comes behind the preface.
    private var bytesLeft: Int
    /// The beginning of a frame header, of which the rest has not come.
    private var partialHeader: [UInt8] = []
    /// Type and flags of the last frame that began, as they stand on the wire; of a kind that does not matter before.
    private var last: UInt16 = 0
    /// How many frames of header fields there were that begin a block.
    private(set) var blocksBegun: UInt32 = 0
    /// What is wrong with the frame that was found.
    private(set) var stray: Stray?

    init(prefaceBytes: Int = 24) { bytesLeft = prefaceBytes }

    /// Whether a block of header fields has begun and is not whole (RFC 9113 §4.3).
    @inline(__always)
    var isInBlock: Bool {
        let kind = UInt32(last >> 8)
        guard kind == Self.headers || kind == Self.continuation else { return false }
        return bytesLeft > 0 || UInt8(truncatingIfNeeded: last) & Self.endHeaders == 0
    }

    /// Looks through the next bytes, up to the first frame that should not be; ``stray`` says what is wrong with it.
    ///
    /// - Returns: where that frame begins; negative when it began in the bytes before these. Nothing that follows it
    ///   can be looked through.
    @inline(__always)
    mutating func findStray(in bytes: UnsafeRawBufferPointer) -> Int? {
        // SAFETY: `bytes` is the caller's for the length of this call; that nine are there is looked at before they are
        // read.
        if !partialHeader.isEmpty { return unsafe completePartialHeader(bytes) }
        var position = bytesLeft
        var lastBegan = -1
        while bytes.count &- position >= Self.headerBytes {
            let lengthAndType = unsafe UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: position, as: UInt32.self))
            let kind = lengthAndType & 0xFF
            if kind <= Self.reset, unsafe isStray(bytes, at: position, kind: kind) { return position }
            lastBegan = position
            position &+= Self.headerBytes &+ Int(lengthAndType >> 8)
        }
        if lastBegan >= 0 {
            last = unsafe UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: lastBegan &+ 3, as: UInt16.self))
        }
        bytesLeft = max(position &- bytes.count, 0)
        if position < bytes.count { unsafe keepPartialHeader(bytes, from: position) }
        return nil
    }

    @inline(never)
    private mutating func keepPartialHeader(_ bytes: UnsafeRawBufferPointer, from position: Int) {
        // SAFETY: as above; the bytes are copied.
        unsafe partialHeader.append(contentsOf: bytes[position...])
    }

    /// A frame header that came in two reads, or in more.
    @inline(never)
    private mutating func completePartialHeader(_ bytes: UnsafeRawBufferPointer) -> Int? {
        // SAFETY: as above; the array is not changed while it is looked at.
        let held = partialHeader.count
        let missing = Self.headerBytes - held
        var header = partialHeader
        unsafe header.append(contentsOf: bytes.prefix(missing))
        partialHeader = []
        guard bytes.count >= missing else {
            partialHeader = header
            return nil
        }
        bytesLeft = 0
        if unsafe header.withUnsafeBytes({ unsafe findStray(in: $0) }) != nil { return -held }
        return unsafe findStray(in: UnsafeRawBufferPointer(rebasing: bytes[missing...])).map { $0 + missing }
    }

    /// A frame of the kinds that matter.
    @inline(__always)
    private mutating func isStray(_ bytes: UnsafeRawBufferPointer, at position: Int, kind: UInt32) -> Bool {
        // SAFETY: as above.
        let word = unsafe UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: position &+ 5, as: UInt32.self))
        let id = Int32(truncatingIfNeeded: word & 0x7FFF_FFFF)
        switch kind {
        case Self.data:
            if ids.hasEnded(id) { return foundOnEnded("DATA", id) }
        case Self.headers:
            blocksBegun &+= 1
            if !ids.isNext(id), headersAreStray(id) { return true }
        case Self.priority: return unsafe priorityIsStray(id, bytes, at: position)
        default:
            ids.end(id)
            return false
        }
        if unsafe bytes[position &+ 4] & Self.endStream != 0 { ids.end(id) }
        return false
    }

    @inline(never)
    private mutating func headersAreStray(_ id: Int32) -> Bool {
        if ids.hasEnded(id) { return foundOnEnded("HEADERS", id) }
        guard ids.isSkipped(id) else { return false }
        return found("HEADERS on stream \(id), which a later stream has closed", .protocolError)
    }

    /// RFC 9113 §6.3; that no stream depends on itself is RFC 7540's, and clients of both exist.
    @inline(never)
    private mutating func priorityIsStray(_ id: Int32, _ bytes: UnsafeRawBufferPointer, at position: Int) -> Bool {
        // SAFETY: as above. A length other than five is nghttp2's to complain of.
        guard unsafe UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: position, as: UInt32.self)) >> 8 == 5 else {
            return false
        }
        if id == 0 { return found("PRIORITY on stream 0", .protocolError) }
        let payload = position + Self.headerBytes
        guard bytes.count - payload >= 4 else { return false }
        let word = unsafe UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: payload, as: UInt32.self))
        guard Int32(truncatingIfNeeded: word & 0x7FFF_FFFF) == id else { return false }
        return found("PRIORITY that makes stream \(id) depend on itself", .protocolError)
    }

    @inline(never)
    private mutating func foundOnEnded(_ kind: String, _ id: Int32) -> Bool {
        found("\(kind) on stream \(id), which the peer has ended", .streamClosed)
    }

    private mutating func found(_ what: String, _ code: HTTP2ErrorCode) -> Bool {
        stray = Stray(what: what, code: code)
        return true
    }
}
