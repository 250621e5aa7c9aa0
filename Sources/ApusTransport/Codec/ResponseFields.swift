internal import ApusBase

/// A block of a response's header fields while they come in, its head or its trailers: what gRPC needs of it.
///
/// One for each kind of block and session. A block that repeats the last of its kind is not looked at again, so all of
/// this stays as the last one left it.
struct ResponseFields {
    /// The sum of name + value + 32 (RFC 9113 §6.5.2), and the number of fields.
    private(set) var listBytes = 0
    private(set) var fieldCount = 0
    /// `:status`; 0 where there is none.
    private(set) var httpStatus = 0
    /// Whether the content type is gRPC's, and what it is when it is not.
    private(set) var contentTypeIsGRPC = false
    private(set) var contentType: [UInt8] = []
    private(set) var status = Status.missing
    /// `grpc-message`, percent-encoded.
    private(set) var message: [UInt8] = []
    /// `grpc-encoding` when it is not `identity`.
    private(set) var encoding: [UInt8] = []
    private(set) var hasMalformedBinary = false
    /// More bytes or fields than are accepted: what came after the limit was reached is not in here.
    private(set) var isOverLimit = false
    private var incoming = IncomingMetadata()

    /// `grpc-status`.
    enum Status: Equatable {
        case missing, malformed
        case code(Int)
    }

    /// Of the last block that ended.
    var metadata: Metadata { incoming.metadata }

    /// Begins a block that is not the last one again.
    mutating func reset() {
        listBytes = 0
        fieldCount = 0
        httpStatus = 0
        contentTypeIsGRPC = false
        contentType = []
        status = .missing
        message = []
        encoding = []
        hasMalformedBinary = false
        isOverLimit = false
        incoming.begin()
    }

    /// Whether the block can be accepted.
    var isSound: Bool { !isOverLimit && !hasMalformedBinary }

    /// Takes a field in, unless a limit is reached.
    mutating func add(name: Span<UInt8>, value: Span<UInt8>, _ settings: HTTP2Settings) {
        let further = name.hasSuffix("-bin") ? IncomingMetadata.furtherValues(in: value) : 0
        listBytes += name.count + value.count + 32 + further * (name.count + 32)
        fieldCount += 1 + further
        if listBytes > settings.maxHeaderListBytes || fieldCount > settings.maxHeaderFields { isOverLimit = true }
        if isOverLimit { return }
        // White space at the edges is no part of a value (RFC 9110 §5.5); but it may be of a message.
        if value.hasSpaceAtEdge, !name.elementsEqual("grpc-message") {
            take(name: name, value: value.extracting(value.trimmed(0..<value.count)))
        } else {
            take(name: name, value: value)
        }
    }

    private mutating func take(name: Span<UInt8>, value: Span<UInt8>) {
        switch name.count {
        case 7 where name.elementsEqual(":status"): httpStatus = Self.number(value, digitsMax: 3) ?? 0
        case 11 where name.elementsEqual("grpc-status"):
            status = Self.number(value, digitsMax: 9).map { .code($0) } ?? .malformed
        case 12 where name.elementsEqual("content-type"): setContentType(value)
        case 12 where name.elementsEqual("grpc-message"): message = [UInt8](copying: value)
        case 13 where name.elementsEqual("grpc-encoding"):
            if !value.elementsEqual("identity") { encoding = [UInt8](copying: value) }
        case 14 where name.elementsEqual("content-length"): break
        default:
            if !incoming.add(name: name, value: value) { hasMalformedBinary = true }
        }
    }

    /// Ends a block: ``metadata`` is this block's from here on.
    mutating func end() { incoming.end() }

    private mutating func setContentType(_ value: Span<UInt8>) {
        contentTypeIsGRPC = value.hasPrefix("application/grpc") && !value.hasPrefix("application/grpc-web")
        contentType = contentTypeIsGRPC ? [] : [UInt8](copying: value)
    }

    private static func number(_ text: Span<UInt8>, digitsMax: Int) -> Int? {
        guard text.count > 0, text.count <= digitsMax else { return nil }
        var value = 0
        for index in 0..<text.count {
            let byte = text[index]
            guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { return nil }
            value = value * 10 + Int(byte - UInt8(ascii: "0"))
        }
        return value
    }
}
