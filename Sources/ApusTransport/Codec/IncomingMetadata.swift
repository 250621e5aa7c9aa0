internal import ApusBase

/// The metadata of a block of header fields while they come in, held against that of the block before: the calls of one
/// client mostly bring the same, which is then neither copied nor made anew.
struct IncomingMetadata {
    /// Of the last block that ended.
    private(set) var metadata = Metadata()
    /// How much of ``metadata`` the block under way has repeated so far.
    private var matched = 0
    /// The metadata of the block under way, from where it differed.
    private var new: [UInt8] = []
    private var differs = false

    /// Begins a block.
    mutating func begin() {
        matched = 0
        differs = false
    }

    /// Ends a block: ``metadata`` is this block's from here on.
    @inline(__always)
    mutating func end() {
        if differs || matched != metadata.packed.count { takeNew() }
    }

    private mutating func takeNew() {
        if !differs { new = Array(metadata.packed[..<matched]) }
        metadata = Metadata(packed: new)
        new = []
        matched = metadata.packed.count
        differs = false
    }

    /// Takes a field in that is none of those that gRPC or HTTP/2 give a meaning; its value without white space at the
    /// edges.
    ///
    /// - Returns: `false` for a `-bin` value that is not base64.
    mutating func add(name: Span<UInt8>, value: Span<UInt8>) -> Bool {
        // The names that begin with `grpc-` are gRPC's own; a few are there for applications.
        if name.hasPrefix("grpc-"), !Self.isForApplications(name) { return true }
        if name.hasSuffix("-bin") { return addBinary(name, value) }
        addEntry(name, value)
        return true
    }

    private static func isForApplications(_ name: Span<UInt8>) -> Bool {
        Metadata.settableReservedNames.contains(String(decoding: [UInt8](copying: name), as: UTF8.self))
    }

    /// How many values a `-bin` field has beyond the first.
    static func furtherValues(in value: Span<UInt8>) -> Int {
        var commas = 0
        for index in 0..<value.count where value[index] == UInt8(ascii: ",") { commas += 1 }
        return commas
    }

    /// A `-bin` value may be several, joined by commas (PROTOCOL-HTTP2.md, "Custom-Metadata").
    private mutating func addBinary(_ name: Span<UInt8>, _ value: Span<UInt8>) -> Bool {
        var start = 0
        while start <= value.count {
            var end = start
            while end < value.count, value[end] != UInt8(ascii: ",") { end += 1 }
            guard let decoded = Base64.decode(value.extracting(value.trimmed(start..<end))) else { return false }
            addEntry(name, decoded.span)
            start = end + 1
        }
        return true
    }

    private mutating func addEntry(_ name: Span<UInt8>, _ value: Span<UInt8>) {
        // What the flat form cannot hold, no application can mean: it is not shown.
        guard name.count <= Metadata.nameBytesMax else { return }
        if !differs {
            if metadata.hasEntry(at: matched, name: name, value: value) {
                matched += Metadata.entryHeaderBytes + name.count + value.count
                return
            }
            differs = true
            new = Array(metadata.packed[..<matched])
        }
        new.append(UInt8(truncatingIfNeeded: name.count))
        new.append(UInt8(truncatingIfNeeded: name.count >> 8))
        for shift in stride(from: 0, to: 32, by: 8) { new.append(UInt8(truncatingIfNeeded: value.count >> shift)) }
        new.append(copying: name)
        new.append(copying: value)
    }
}

extension Metadata {
    /// Whether the entry at a place in ``packed`` has that name and value.
    fileprivate func hasEntry(at position: Int, name: Span<UInt8>, value: Span<UInt8>) -> Bool {
        // SAFETY: the spans are valid for the call; lengths are checked against what is there before anything is
        // compared.
        unsafe packed.withUnsafeBytes { packed in
            let header = Self.entryHeaderBytes
            guard position + header + name.count + value.count <= packed.count else { return false }
            let nameBytes = unsafe packed.loadUnaligned(fromByteOffset: position, as: UInt16.self)
            let valueBytes = unsafe packed.loadUnaligned(fromByteOffset: position + 2, as: UInt32.self)
            guard UInt16(littleEndian: nameBytes) == name.count, UInt32(littleEndian: valueBytes) == value.count else {
                return false
            }
            let nameStart = position + header
            return unsafe name.elementsEqual(packed, from: nameStart, offset: 0, count: name.count)
                && value.elementsEqual(packed, from: nameStart + name.count, offset: 0, count: value.count)
        }
    }
}
