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
    /// What it says of the encodings of messages.
    private(set) var encodings = CallEncodings()

    // MARK: Of the last head that had one

    private(set) var path: [UInt8] = []
    /// Whether ``path`` changed since its method was looked up, be it by a head that was refused for something else.
    private(set) var pathIsNew = false
    private(set) var authority: [UInt8] = []
    private var incoming = IncomingMetadata()

    /// Those that the server has.
    private let known: MessageEncodings

    init(_ known: MessageEncodings) { self.known = known }

    var metadata: Metadata { incoming.metadata }

    struct Flags: OptionSet {
        let rawValue: UInt16
        static let isPost = Flags(rawValue: 1)
        static let acceptsTrailers = Flags(rawValue: 2)
        static let isGRPC = Flags(rawValue: 4)
        static let timeoutIsMalformed = Flags(rawValue: 8)
        static let hasUnsupportedEncoding = Flags(rawValue: 16)
        static let hasMalformedBinary = Flags(rawValue: 32)
        static let hasAuthority = Flags(rawValue: 256)

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
        incoming.begin()
        if !contentType.isEmpty { contentType = [] }
        if flags.contains(.hasUnsupportedEncoding) { encoding = [] }
        encodings = CallEncodings()
        flags = []
    }

    /// Counts a field towards the limits.
    @inline(__always)
    mutating func count(name: Span<UInt8>, value: Span<UInt8>) {
        listBytes += name.count + value.count + 32
        fieldCount += 1
        if name.hasSuffix("-bin") { countFurtherValues(name, value) }
    }

    /// Several values in one field count as the fields that they are short for: each gets a copy of the name.
    @inline(never)
    private mutating func countFurtherValues(_ name: Span<UInt8>, _ value: Span<UInt8>) {
        let further = IncomingMetadata.furtherValues(in: value)
        listBytes += further * (name.count + 32)
        fieldCount += further
    }

    /// Takes a field in; white space at the edges is no part of its value (RFC 9110 §5.5).
    mutating func add(name: Span<UInt8>, value: Span<UInt8>) {
        // A pseudo-header field with white space is not one without.
        if !value.hasSpaceAtEdge || name.hasPrefix(":") { return take(name: name, value: value) }
        take(name: name, value: value.extracting(value.trimmed(0..<value.count)))
    }

    private mutating func take(name: Span<UInt8>, value: Span<UInt8>) {
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
            if !value.elementsEqual("identity") { setEncoding(value) }
        case 14 where name.elementsEqual("content-length"): break
        case 20 where name.elementsEqual("grpc-accept-encoding"): addAccepted(value)
        default:
            if !incoming.add(name: name, value: value) { flags.insert(.hasMalformedBinary) }
        }
    }

    /// Ends a head: ``metadata`` is this head's from here on.
    @inline(__always)
    mutating func end() { incoming.end() }

    mutating func pathWasLookedUp() { pathIsNew = false }

    /// This head is the last one again, but for its deadline.
    mutating func changeTimeout(_ value: Span<UInt8>, oldValueBytes: Int) {
        listBytes += value.count - oldValueBytes
        setTimeout(value.hasSpaceAtEdge ? value.extracting(value.trimmed(0..<value.count)) : value)
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

    private mutating func setEncoding(_ value: Span<UInt8>) {
        if let index = known.index(named: value) {
            encodings.request = index
        } else {
            encoding = [UInt8](copying: value)
            flags.insert(.hasUnsupportedEncoding)
        }
    }

    private mutating func addAccepted(_ value: Span<UInt8>) {
        encodings.accepted |= known.accepted(in: value)
        if encodings.accepts(known.byDefault) { encodings.response = known.byDefault }
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
