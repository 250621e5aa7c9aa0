internal import ApusBase
internal import CNghttp2

/// A list of header fields about to be sent, built without a String and, once warm, without an allocation.
///
/// Static names and values are sent from where the program holds them. Others are copied into one arena and from there
/// by nghttp2, so the list may be reused as soon as it was submitted.
struct HeaderFields {
    private struct Field {
        let name: Part
        let value: Part
        var isIndexed = true
    }

    private enum Part {
        case literal(StaticString)
        case arena(Range<Int>)
    }

    private var fields: [Field] = []
    private var arena: [UInt8] = []

    /// RFC 9113 §6.5.2: name + value + 32 for each field.
    private(set) var listBytes = 0

    var isEmpty: Bool { fields.isEmpty }

    mutating func removeAll() {
        fields.removeAll(keepingCapacity: true)
        arena.removeAll(keepingCapacity: true)
        listBytes = 0
    }

    mutating func add(_ name: StaticString, _ value: StaticString) {
        listBytes += name.utf8CodeUnitCount + value.utf8CodeUnitCount + 32
        fields.append(Field(name: .literal(name), value: .literal(value)))
    }

    mutating func add(_ name: StaticString, _ value: some Collection<UInt8>) {
        listBytes += name.utf8CodeUnitCount + value.count + 32
        fields.append(Field(name: .literal(name), value: .arena(store(value))))
    }

    /// Adds every entry, `-bin` values in base64 without padding (PROTOCOL-HTTP2.md, "Custom-Metadata").
    mutating func add(_ metadata: Metadata) {
        for field in metadata.fields {
            let name = metadata.packed[field.name]
            let value = metadata.packed[field.value]
            let isBinary = name.suffix(4).elementsEqual("-bin".utf8)
            let stored = isBinary ? store(Base64.encode(value)) : store(value)
            listBytes += name.count + stored.count + 32
            fields.append(Field(name: .arena(store(name)), value: .arena(stored)))
        }
    }

    private mutating func store(_ bytes: some Collection<UInt8>) -> Range<Int> {
        let start = arena.count
        arena.append(contentsOf: bytes)
        return start..<arena.count
    }

    /// Adds a field whose value changes from call to call, and is of no use in the peer's table (RFC 7541 §6.2.3).
    ///
    /// - Parameter write: appends the value to the list's own memory.
    mutating func addUnindexed(_ name: StaticString, _ write: (inout [UInt8]) -> Void) {
        let start = arena.count
        write(&arena)
        listBytes += name.utf8CodeUnitCount + arena.count - start + 32
        fields.append(Field(name: .literal(name), value: .arena(start..<arena.count), isIndexed: false))
    }

    /// Calls `body` with the fields as nghttp2 wants them, behind those of `template`; they are valid during the call
    /// alone.
    func withNameValues<Result>(
        after template: RequestTemplate? = nil,
        _ body: (UnsafePointer<nghttp2_nv>, Int) -> Result
    ) -> Result {
        // SAFETY: `arena` is held by `self` and not changed during the call; StaticStrings are never freed; the
        // temporary array is initialised whole before `body` sees it and nghttp2_nv is trivial, so nothing is
        // deinitialised. The template is alive, since the caller holds it.
        let fixedCount = template?.count ?? 0
        let count = fixedCount + fields.count
        return unsafe arena.withUnsafeBufferPointer { arena in
            unsafe withUnsafeTemporaryAllocation(of: nghttp2_nv.self, capacity: max(count, 1)) { list in
                if let template {
                    for index in 0..<fixedCount { unsafe list.initializeElement(at: index, to: template.start[index]) }
                }
                for (index, field) in fields.enumerated() {
                    let (name, nameBytes, nameIsStatic) = unsafe Self.locate(field.name, in: arena)
                    let (value, valueBytes, valueIsStatic) = unsafe Self.locate(field.value, in: arena)
                    var flags = NGHTTP2_NV_FLAG_NONE.rawValue
                    if nameIsStatic { flags |= NGHTTP2_NV_FLAG_NO_COPY_NAME.rawValue }
                    if valueIsStatic { flags |= NGHTTP2_NV_FLAG_NO_COPY_VALUE.rawValue }
                    if !field.isIndexed { flags |= NGHTTP2_NV_FLAG_NO_INDEX.rawValue }
                    unsafe list.initializeElement(
                        at: fixedCount + index,
                        to: nghttp2_nv(
                            name: name,
                            value: value,
                            namelen: nameBytes,
                            valuelen: valueBytes,
                            flags: UInt8(truncatingIfNeeded: flags)
                        )
                    )
                }
                guard let start = list.baseAddress else {
                    preconditionFailure("a capacity of at least 1 has an address")
                }
                return unsafe body(UnsafePointer(start), count)
            }
        }
    }

    private static func locate(
        _ part: Part,
        in arena: UnsafeBufferPointer<UInt8>
    ) -> (UnsafeMutablePointer<UInt8>?, Int, Bool) {
        // SAFETY: nghttp2 declares the bytes mutable and never writes them; the caller keeps `arena` alive.
        switch part {
        case .literal(let text):
            return unsafe (UnsafeMutablePointer(mutating: text.utf8Start), text.utf8CodeUnitCount, true)
        case .arena(let range):
            let start = unsafe arena.baseAddress.map { unsafe UnsafeMutablePointer(mutating: $0 + range.lowerBound) }
            return unsafe (start, range.count, false)
        }
    }
}
