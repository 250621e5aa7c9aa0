/// Writes header blocks as real clients do: a field that repeats goes out as an index into the table (RFC 7541).
package struct IndexingEncoder {
    private static let tableBytesMax = 4096
    private static let staticEntries = 61

    /// The newest entry first.
    private var table: [Fields.Field] = []

    package init() {}

    package mutating func frame(_ stream: UInt32, _ fields: Fields, endStream: Bool = false) -> Frame {
        let flags = Frame.endHeadersFlag | (endStream ? Frame.endStreamFlag : 0)
        return Frame(type: Frame.headers, flags: flags, stream: stream, payload: block(fields))
    }

    package mutating func block(_ fields: Fields) -> [UInt8] {
        var block: [UInt8] = []
        for field in fields.list {
            if let index = table.firstIndex(of: field) {
                block += Fields.integer(Self.staticEntries + 1 + index, prefixBits: 7, first: 0x80)
            } else {
                block += [0x40] + Fields.integer(field.name.count, prefixBits: 7, first: 0) + field.name
                block += Fields.integer(field.value.count, prefixBits: 7, first: 0) + field.value
                insert(field)
            }
        }
        return block
    }

    private mutating func insert(_ field: Fields.Field) {
        func size(_ field: Fields.Field) -> Int { field.name.count + field.value.count + 32 }
        table.insert(field, at: 0)
        while table.reduce(0, { $0 + size($1) }) > Self.tableBytesMax { table.removeLast() }
    }
}
