/// The key-value pairs that travel with a call: request metadata, initial metadata and trailers.
///
/// Keys are case-insensitive and kept in lower case; a key may occur more than once, and the order of what was added is
/// kept. A key that ends in `-bin` holds bytes, any other holds text. Values are what the application means: base64 is
/// done on the wire (gRPC's PROTOCOL-HTTP2.md, "Custom-Metadata").
///
/// Adding never fails. What HTTP/2 cannot carry (``firstProblem``) ends the call that would send it with `INTERNAL` and
/// a message that names the key.
///
/// A value type, safe to use from any thread. It is one flat buffer: making, copying and sending it costs no
/// allocation per entry.
public struct Metadata: Hashable, Sendable {
    /// The entries one after another, each `[name count: 2][value count: 4][name][value]`, little-endian.
    ///
    /// Flat, so that a request's metadata is compared with the previous request's, and shared when equal, in one
    /// `memcmp`; and so that a thousand entries are one allocation.
    @usableFromInline
    package private(set) var packed: [UInt8]

    /// The longest name that ``packed`` holds.
    package static let nameBytesMax = Int(UInt16.max)

    /// The bytes in front of each entry's name.
    package static let entryHeaderBytes = 6

    public init() { packed = [] }

    /// Takes over a buffer in the form of ``packed``, which the caller guarantees to be well formed.
    package init(packed: [UInt8]) { self.packed = packed }

    /// Whether both share one buffer, which says that they are equal; that they do not says nothing.
    @inlinable
    package func isSameBuffer(as other: Metadata) -> Bool {
        // SAFETY: two addresses are compared; neither is followed.
        unsafe packed.withUnsafeBytes { mine in
            unsafe other.packed.withUnsafeBytes { unsafe mine.baseAddress == $0.baseAddress }
        }
    }

    /// Whether there is no entry.
    public var isEmpty: Bool { packed.isEmpty }

    /// The number of entries; counting takes time in proportion to it.
    public var count: Int { reduce(into: 0) { count, _ in count += 1 } }
}

// MARK: - Adding and removing

extension Metadata {
    /// Adds a text entry. Text given for a `-bin` key is stored as its UTF-8 bytes.
    public mutating func add(_ value: String, for key: String) {
        append(key: key.lowercased().utf8, value: value.utf8)
    }

    /// Adds an entry of bytes; `key` ends in `-bin`.
    public mutating func add(bytes value: [UInt8], for key: String) {
        append(key: key.lowercased().utf8, value: value)
    }

    /// Adds every entry of `other` after this one's.
    public mutating func add(contentsOf other: Metadata) {
        packed.append(contentsOf: other.packed)
    }

    /// Removes every entry of that key.
    public mutating func removeAll(for key: String) {
        let key = Array(key.lowercased().utf8)
        var kept = Metadata()
        for field in fields where !packed[field.name].elementsEqual(key) {
            kept.packed.append(contentsOf: packed[field.entry])
        }
        self = kept
    }

    /// The first value of a text key. Setting replaces all values of the key; setting `nil` removes them.
    public subscript(key: String) -> String? {
        get { values(for: key).first }
        set {
            removeAll(for: key)
            if let newValue { add(newValue, for: key) }
        }
    }

    private mutating func append(key: some Collection<UInt8>, value: some Collection<UInt8>) {
        // Longer than these is longer than any header list may be: cut, and refused by `firstProblem` when sent.
        let nameBytes = Swift.min(key.count, Self.nameBytesMax)
        let valueBytes = Swift.min(value.count, Int(UInt32.max))
        packed.reserveCapacity(packed.count + Self.entryHeaderBytes + nameBytes + valueBytes)
        packed.append(UInt8(truncatingIfNeeded: nameBytes))
        packed.append(UInt8(truncatingIfNeeded: nameBytes >> 8))
        for shift in [0, 8, 16, 24] { packed.append(UInt8(truncatingIfNeeded: valueBytes >> shift)) }
        packed.append(contentsOf: key.prefix(nameBytes))
        packed.append(contentsOf: value.prefix(valueBytes))
    }
}

// MARK: - Reading

extension Metadata {
    /// Every value of a text key, in order; a byte sequence that is not UTF-8 is repaired with U+FFFD.
    public func values(for key: String) -> [String] {
        rawValues(for: key).map { String(decoding: packed[$0], as: UTF8.self) }
    }

    /// Every value of a `-bin` key, in order.
    public func bytes(for key: String) -> [[UInt8]] {
        rawValues(for: key).map { Array(packed[$0]) }
    }

    private func rawValues(for key: String) -> [Range<Int>] {
        let key = Array(key.lowercased().utf8)
        return fields.filter { packed[$0.name].elementsEqual(key) }.map(\.value)
    }
}

extension Metadata: Sequence {
    /// What an entry holds.
    public enum EntryValue: Hashable, Sendable {
        /// The value of an ordinary key.
        case text(String)
        /// The value of a key that ends in `-bin`.
        case bytes([UInt8])
    }

    public struct Iterator: IteratorProtocol {
        private let metadata: Metadata
        private var fields: Fields

        fileprivate init(_ metadata: Metadata) {
            self.metadata = metadata
            self.fields = metadata.fields
        }

        public mutating func next() -> (key: String, value: EntryValue)? {
            guard let field = fields.next() else { return nil }
            let key = String(decoding: metadata.packed[field.name], as: UTF8.self)
            let bytes = metadata.packed[field.value]
            return (key, key.hasSuffix("-bin") ? .bytes(Array(bytes)) : .text(String(decoding: bytes, as: UTF8.self)))
        }
    }

    public func makeIterator() -> Iterator { Iterator(self) }
}

extension Metadata: ExpressibleByDictionaryLiteral {
    /// Text entries, in the order written.
    public init(dictionaryLiteral elements: (String, String)...) {
        self.init()
        for (key, value) in elements { add(value, for: key) }
    }
}

extension Metadata: CustomStringConvertible {
    /// `[key: value, …]`, bytes in hexadecimal.
    public var description: String {
        let entries = map { key, value in
            switch value {
            case .text(let text): "\(key): \(text)"
            case .bytes(let bytes):
                "\(key): 0x" + bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
            }
        }
        return "[" + entries.joined(separator: ", ") + "]"
    }
}

// MARK: - The flat form

extension Metadata {
    /// Where an entry and its two parts lie in ``packed``.
    package struct Field {
        package let entry: Range<Int>
        package let name: Range<Int>
        package let value: Range<Int>
    }

    /// The entries' places, in order.
    package struct Fields: Sequence, IteratorProtocol {
        private let packed: [UInt8]
        private var position = 0

        fileprivate init(_ packed: [UInt8]) { self.packed = packed }

        package mutating func next() -> Field? {
            let header = Metadata.entryHeaderBytes
            guard position + header <= packed.count else { return nil }
            let nameBytes = Int(packed[position]) | Int(packed[position + 1]) << 8
            var valueBytes = 0
            for index in 0..<4 { valueBytes |= Int(packed[position + 2 + index]) << (8 * index) }
            let name = position + header
            let value = name + nameBytes
            defer { position = value + valueBytes }
            return Field(
                entry: position..<(value + valueBytes),
                name: name..<value,
                value: value..<(value + valueBytes)
            )
        }
    }

    package var fields: Fields { Fields(packed) }

    /// Why this cannot be sent, or `nil` when it can.
    ///
    /// A name consists of `0-9 a-z _ - .` and is not reserved (`grpc-…`, other than the few that applications may set);
    /// a text value has no control character but tab (RFC 9113 §8.2.1).
    public var firstProblem: String? {
        for field in fields {
            let name = packed[field.name]
            if let problem = Self.problem(ofName: name) {
                return "metadata key \"\(String(decoding: name, as: UTF8.self))\" \(problem)"
            }
            if name.suffix(4).elementsEqual("-bin".utf8) { continue }
            if packed[field.value].contains(where: { ($0 < 0x20 && $0 != 0x09) || $0 == 0x7F }) {
                return "the value of metadata key \"\(String(decoding: name, as: UTF8.self))\" has a control character"
            }
        }
        return nil
    }

    private static func problem(ofName name: ArraySlice<UInt8>) -> String? {
        if name.isEmpty { return "is empty" }
        // One that fills what there is may have been cut.
        if name.count >= nameBytesMax { return "is too long" }
        let legal = name.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
            case UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: "."): true
            default: false
            }
        }
        if !legal { return "has a character other than 0-9 a-z _ - ." }
        if name.starts(with: "grpc-".utf8), !settableReservedNames.contains(String(decoding: name, as: UTF8.self)) {
            return "is reserved for gRPC"
        }
        return forbiddenNames.contains(String(decoding: name, as: UTF8.self)) ? "is reserved for HTTP/2" : nil
    }

    /// The names with `grpc-` that applications may set and see.
    package static let settableReservedNames: Set<String> = [
        "grpc-previous-rpc-attempts", "grpc-retry-pushback-ms", "grpc-status-details-bin", "grpc-trace-bin",
        "grpc-tags-bin",
    ]

    /// What HTTP/2 forbids (RFC 9113 §8.2.2) or the stack itself sets.
    private static let forbiddenNames: Set<String> = [
        "connection", "content-length", "content-type", "host", "keep-alive", "proxy-connection", "te",
        "transfer-encoding", "upgrade",
    ]
}
