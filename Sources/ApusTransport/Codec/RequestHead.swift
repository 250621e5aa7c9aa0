internal import ApusBase

/// The head of a request while its fields come in: what gRPC needs of it, without a String for any field.
///
/// One per session, because the fields of two heads never mix on a connection (RFC 9113 §6.2).
struct RequestHead {
    /// The sum of name + value + 32 (RFC 9113 §6.5.2), and the number of fields.
    private(set) var listBytes = 0
    private(set) var fieldCount = 0
    private(set) var isPost = false
    private(set) var hasTrailersAccepted = false
    private(set) var contentType: [UInt8]?
    private(set) var contentTypeIsGRPC = false
    /// Nanoseconds that the client gives the call; `nil` when it does not say.
    private(set) var timeout: Int64?
    private(set) var timeoutIsMalformed = false
    /// The encoding of the request's messages, unless it is `identity`.
    private(set) var unsupportedEncoding: [UInt8]?
    /// A `-bin` value that is not base64.
    private(set) var hasMalformedBinary = false
    private(set) var path: [UInt8] = []
    private(set) var authority: [UInt8] = []
    private var authorityIsSet = false
    /// Custom metadata in the flat form of ``Metadata``.
    private(set) var metadata: [UInt8] = []

    mutating func reset() {
        listBytes = 0
        fieldCount = 0
        isPost = false
        hasTrailersAccepted = false
        contentType = nil
        contentTypeIsGRPC = false
        timeout = nil
        timeoutIsMalformed = false
        unsupportedEncoding = nil
        hasMalformedBinary = false
        path.removeAll(keepingCapacity: true)
        authority.removeAll(keepingCapacity: true)
        authorityIsSet = false
        metadata.removeAll(keepingCapacity: true)
    }

    /// Counts a field towards the limits.
    mutating func count(name: Span<UInt8>, value: Span<UInt8>) {
        listBytes += name.count + value.count + 32
        fieldCount += 1
    }

    /// Takes a field in.
    mutating func add(name: Span<UInt8>, value: Span<UInt8>) {
        switch name.count {
        case 2 where name.elementsEqual("te"):
            hasTrailersAccepted = value.elementsEqual("trailers")
        case 4 where name.elementsEqual("host"):
            // gRFC A41: `:authority` wins; without it `host` takes its place.
            if !authorityIsSet { Self.replace(&authority, with: value) }
        case 5 where name.elementsEqual(":path"):
            Self.replace(&path, with: value)
        case 7 where name.elementsEqual(":method"):
            isPost = value.elementsEqual("POST")
        case 7 where name.elementsEqual(":scheme"):
            break
        case 10 where name.elementsEqual(":authority"):
            Self.replace(&authority, with: value)
            authorityIsSet = true
        case 12 where name.elementsEqual("content-type"):
            addContentType(value)
        case 12 where name.elementsEqual("grpc-timeout"):
            timeout = GRPCTimeout.parse(value)
            timeoutIsMalformed = timeout == nil
        case 13 where name.elementsEqual("grpc-encoding"):
            if !value.elementsEqual("identity") { unsupportedEncoding = [UInt8](copying: value) }
        case 14 where name.elementsEqual("content-length"):
            break
        default:
            addMetadata(name, value)
        }
    }

    private mutating func addContentType(_ value: Span<UInt8>) {
        // The usual value first, so that it is not stored.
        if value.elementsEqual("application/grpc") {
            contentTypeIsGRPC = true
            return
        }
        contentType = [UInt8](copying: value)
        guard value.hasPrefix("application/grpc"), value.count > 16 else { return }
        let next = value[16]
        contentTypeIsGRPC = next == UInt8(ascii: "+") || next == UInt8(ascii: ";")
    }

    private mutating func addMetadata(_ name: Span<UInt8>, _ value: Span<UInt8>) {
        // The names that begin with `grpc-` are gRPC's own; a few are there for applications.
        if name.hasPrefix("grpc-") {
            let text = String(decoding: [UInt8](copying: name), as: UTF8.self)
            guard Metadata.settableReservedNames.contains(text) else { return }
        }
        if name.count >= 4, name[name.count - 4] == UInt8(ascii: "-"), name[name.count - 3] == UInt8(ascii: "b"),
            name[name.count - 2] == UInt8(ascii: "i"), name[name.count - 1] == UInt8(ascii: "n")
        {
            addBinary(name, value)
        } else {
            let (start, count) = Self.trimmed(value)
            appendEntry(name: name, valueBytes: count)
            metadata.append(copying: value, from: start, count: count)
        }
    }

    /// A `-bin` value may be several, joined by commas (PROTOCOL-HTTP2.md, "Custom-Metadata").
    private mutating func addBinary(_ name: Span<UInt8>, _ value: Span<UInt8>) {
        let text = [UInt8](copying: value)
        for part in text.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false) {
            let piece = Array(part)
            let (start, count) = Self.trimmed(piece.span)
            guard let decoded = Base64.decode(Array(piece[start..<(start + count)]).span) else {
                hasMalformedBinary = true
                return
            }
            appendEntry(name: name, valueBytes: decoded.count)
            metadata.append(contentsOf: decoded)
        }
    }

    private mutating func appendEntry(name: Span<UInt8>, valueBytes: Int) {
        metadata.append(UInt8(truncatingIfNeeded: name.count))
        metadata.append(UInt8(truncatingIfNeeded: name.count >> 8))
        metadata.append(UInt8(truncatingIfNeeded: valueBytes))
        metadata.append(UInt8(truncatingIfNeeded: valueBytes >> 8))
        metadata.append(UInt8(truncatingIfNeeded: valueBytes >> 16))
        metadata.append(UInt8(truncatingIfNeeded: valueBytes >> 24))
        metadata.append(copying: name)
    }

    /// The value without white space at its edges (RFC 9110 §5.5).
    private static func trimmed(_ value: Span<UInt8>) -> (start: Int, count: Int) {
        var start = 0
        var end = value.count
        while start < end, value[start] == 0x20 || value[start] == 0x09 { start += 1 }
        while end > start, value[end - 1] == 0x20 || value[end - 1] == 0x09 { end -= 1 }
        return (start, end - start)
    }

    private static func replace(_ array: inout [UInt8], with value: Span<UInt8>) {
        array.removeAll(keepingCapacity: true)
        array.append(copying: value)
    }
}
