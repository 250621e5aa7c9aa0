internal import ApusBase

/// The head of a request while its fields come in: what gRPC needs of it, without a String and mostly without a copy.
///
/// The calls of one client mostly differ in nothing but their messages, so path, authority and metadata are held
/// against those of the head before, and copied only where they differ. One per session, because the fields of two
/// heads never mix on a connection (RFC 9113 §6.2).
struct RequestHead {
    // MARK: Of this head

    /// The sum of name + value + 32 (RFC 9113 §6.5.2), and the number of fields.
    private(set) var listBytes = 0
    private(set) var fieldCount = 0
    private(set) var flags: Flags = []
    /// Nanoseconds that the client gives the call; `nil` when it does not say.
    private(set) var timeout: Int64?
    /// What the head says where it is not the usual; empty otherwise.
    private(set) var contentType: [UInt8] = []
    private(set) var encoding: [UInt8] = []
    /// How much of ``metadata`` this head has repeated so far.
    private var metadataMatched = 0
    /// This head's metadata from where it differed.
    private var newMetadata: [UInt8] = []

    // MARK: Of the last head that had one

    private(set) var path: [UInt8] = []
    /// Whether ``path`` changed since its method was looked up, be it by a head that was refused for something else.
    private(set) var pathIsNew = false
    private(set) var authority: [UInt8] = []
    private(set) var metadata = Metadata()

    struct Flags: OptionSet {
        let rawValue: UInt16
        static let isPost = Flags(rawValue: 1)
        static let acceptsTrailers = Flags(rawValue: 2)
        static let isGRPC = Flags(rawValue: 4)
        static let timeoutIsMalformed = Flags(rawValue: 8)
        static let hasUnsupportedEncoding = Flags(rawValue: 16)
        static let hasMalformedBinary = Flags(rawValue: 32)
        static let hasAuthority = Flags(rawValue: 256)
        static let metadataDiffers = Flags(rawValue: 512)

        /// What decides whether a head is accepted, and what of it an ordinary head has.
        static let decisive: Flags = [
            .isPost, .isGRPC, .timeoutIsMalformed, .hasUnsupportedEncoding, .hasMalformedBinary,
        ]
        static let usual: Flags = [.isPost, .isGRPC]
    }

    /// Begins a head.
    mutating func reset() {
        listBytes = 0
        fieldCount = 0
        timeout = nil
        metadataMatched = 0
        if !contentType.isEmpty { contentType = [] }
        if flags.contains(.hasUnsupportedEncoding) { encoding = [] }
        flags = []
    }

    /// Counts a field towards the limits.
    @inline(__always)
    mutating func count(name: Span<UInt8>, value: Span<UInt8>) {
        listBytes += name.count + value.count + 32
        fieldCount += 1
    }

    /// Takes a field in.
    mutating func add(name: Span<UInt8>, value: Span<UInt8>) {
        switch name.count {
        case 2 where name.elementsEqual("te"):
            if value.elementsEqual("trailers") { flags.insert(.acceptsTrailers) }
        case 4 where name.elementsEqual("host"):
            // gRFC A41: `:authority` wins; without it `host` takes its place.
            if !flags.contains(.hasAuthority) { setAuthority(value) }
        case 5 where name.elementsEqual(":path"): setPath(value)
        case 7 where name.elementsEqual(":method"):
            if value.elementsEqual("POST") { flags.insert(.isPost) }
        case 7 where name.elementsEqual(":scheme"): break
        case 10 where name.elementsEqual(":authority"):
            setAuthority(value)
            flags.insert(.hasAuthority)
        case 12 where name.elementsEqual("content-type"): setContentType(value)
        case 12 where name.elementsEqual("grpc-timeout"): setTimeout(value)
        case 13 where name.elementsEqual("grpc-encoding"):
            if !value.elementsEqual("identity") {
                encoding = [UInt8](copying: value)
                flags.insert(.hasUnsupportedEncoding)
            }
        case 14 where name.elementsEqual("content-length"): break
        default: addMetadata(name, value)
        }
    }

    /// Ends a head: ``metadata`` is this head's from here on.
    @inline(__always)
    mutating func end() {
        if flags.contains(.metadataDiffers) || metadataMatched != metadata.packed.count { takeNewMetadata() }
    }

    private mutating func takeNewMetadata() {
        if !flags.contains(.metadataDiffers) { newMetadata = Array(metadata.packed[..<metadataMatched]) }
        metadata = Metadata(packed: newMetadata)
        newMetadata = []
        metadataMatched = metadata.packed.count
        flags.remove(.metadataDiffers)
    }

    mutating func pathWasLookedUp() { pathIsNew = false }

    /// This head is the last one again, but for its deadline.
    mutating func changeTimeout(_ value: Span<UInt8>, oldValueBytes: Int) {
        listBytes += value.count - oldValueBytes
        setTimeout(value)
    }

    private mutating func setTimeout(_ value: Span<UInt8>) {
        timeout = GRPCTimeout.parse(value)
        if timeout == nil { flags.insert(.timeoutIsMalformed) } else { flags.remove(.timeoutIsMalformed) }
    }

    @inline(__always)
    private mutating func setPath(_ value: Span<UInt8>) {
        if value.elementsEqual(path) { return }
        path = [UInt8](copying: value)
        pathIsNew = true
    }

    @inline(__always)
    private mutating func setAuthority(_ value: Span<UInt8>) {
        if !value.elementsEqual(authority) { authority = [UInt8](copying: value) }
    }

    private mutating func setContentType(_ value: Span<UInt8>) {
        // The usual value first, so that it is not stored.
        if value.elementsEqual("application/grpc") {
            flags.insert(.isGRPC)
            return
        }
        contentType = [UInt8](copying: value)
        guard value.hasPrefix("application/grpc"), value.count > 16 else { return }
        let next = value[16]
        if next == UInt8(ascii: "+") || next == UInt8(ascii: ";") { flags.insert(.isGRPC) }
    }
}

// MARK: - Metadata

extension RequestHead {
    private mutating func addMetadata(_ name: Span<UInt8>, _ value: Span<UInt8>) {
        // The names that begin with `grpc-` are gRPC's own; a few are there for applications.
        if name.hasPrefix("grpc-"), !Self.isForApplications(name) { return }
        if name.hasSuffix("-bin") {
            addBinary(name, value)
        } else {
            let (start, count) = Self.trimmed(value)
            addEntry(name, value, from: start, count: count)
        }
    }

    private static func isForApplications(_ name: Span<UInt8>) -> Bool {
        Metadata.settableReservedNames.contains(String(decoding: [UInt8](copying: name), as: UTF8.self))
    }

    /// A `-bin` value may be several, joined by commas (PROTOCOL-HTTP2.md, "Custom-Metadata").
    private mutating func addBinary(_ name: Span<UInt8>, _ value: Span<UInt8>) {
        let text = [UInt8](copying: value)
        for part in text.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false) {
            let piece = Array(part)
            let (start, count) = Self.trimmed(piece.span)
            let trimmed = Array(piece[start..<(start + count)])
            guard let decoded = Base64.decode(trimmed.span) else {
                flags.insert(.hasMalformedBinary)
                return
            }
            addEntry(name, decoded.span, from: 0, count: decoded.count)
        }
    }

    private mutating func addEntry(_ name: Span<UInt8>, _ value: Span<UInt8>, from start: Int, count: Int) {
        // What the flat form cannot hold, no application can mean: it is not shown.
        guard name.count <= Metadata.nameBytesMax else { return }
        if !flags.contains(.metadataDiffers) {
            if metadata.hasEntry(at: metadataMatched, name: name, value: value, from: start, count: count) {
                metadataMatched += Metadata.entryHeaderBytes + name.count + count
                return
            }
            flags.insert(.metadataDiffers)
            newMetadata = Array(metadata.packed[..<metadataMatched])
        }
        newMetadata.append(UInt8(truncatingIfNeeded: name.count))
        newMetadata.append(UInt8(truncatingIfNeeded: name.count >> 8))
        for shift in stride(from: 0, to: 32, by: 8) { newMetadata.append(UInt8(truncatingIfNeeded: count >> shift)) }
        newMetadata.append(copying: name)
        newMetadata.append(copying: value, from: start, count: count)
    }

    /// The value without white space at its edges (RFC 9110 §5.5).
    @inline(__always)
    private static func trimmed(_ value: Span<UInt8>) -> (start: Int, count: Int) {
        var start = 0
        var end = value.count
        while start < end, value[start] == 0x20 || value[start] == 0x09 { start += 1 }
        while end > start, value[end - 1] == 0x20 || value[end - 1] == 0x09 { end -= 1 }
        return (start, end - start)
    }
}

extension Metadata {
    /// Whether the entry at a place in ``packed`` has that name and value.
    fileprivate func hasEntry(
        at position: Int,
        name: Span<UInt8>,
        value: Span<UInt8>,
        from start: Int,
        count: Int
    ) -> Bool {
        // SAFETY: the spans are valid for the call; lengths are checked against what is there before anything is
        // compared.
        unsafe packed.withUnsafeBytes { packed in
            let header = Self.entryHeaderBytes
            guard position + header + name.count + count <= packed.count else { return false }
            let nameBytes = unsafe packed.loadUnaligned(fromByteOffset: position, as: UInt16.self)
            let valueBytes = unsafe packed.loadUnaligned(fromByteOffset: position + 2, as: UInt32.self)
            guard UInt16(littleEndian: nameBytes) == name.count, UInt32(littleEndian: valueBytes) == count else {
                return false
            }
            let nameStart = position + header
            return unsafe name.elementsEqual(packed, from: nameStart, offset: 0, count: name.count)
                && value.elementsEqual(packed, from: nameStart + name.count, offset: start, count: count)
        }
    }
}
