/// Header fields in order.
package struct Fields: Hashable, Sendable, ExpressibleByDictionaryLiteral {
    package struct Field: Hashable, Sendable {
        package var name: [UInt8]
        package var value: [UInt8]
    }

    package var list: [Field] = []

    package init() {}

    package init(dictionaryLiteral elements: (String, String)...) {
        for (name, value) in elements { add(name, value) }
    }

    package mutating func add(_ name: String, _ value: String) {
        list.append(Field(name: Array(name.utf8), value: Array(value.utf8)))
    }

    package mutating func add(_ name: String, bytes value: [UInt8]) {
        list.append(Field(name: Array(name.utf8), value: value))
    }

    package static func + (left: Fields, right: Fields) -> Fields {
        var both = left
        both.list += right.list
        return both
    }

    /// The first value of a name.
    package subscript(name: String) -> String? { values(name).first }

    package func values(_ name: String) -> [String] {
        list.filter { $0.name.elementsEqual(name.utf8) }.map { String(decoding: $0.value, as: UTF8.self) }
    }

    package var names: [String] { list.map { String(decoding: $0.name, as: UTF8.self) } }

    /// The head of a gRPC request.
    package static func request(_ path: String, _ more: Fields = [:]) -> Fields {
        let usual: Fields = [
            ":method": "POST", ":scheme": "http", ":path": path, ":authority": "test", "te": "trailers",
            "content-type": "application/grpc",
        ]
        return usual + more
    }

    /// The fields as literals without indexing and without Huffman coding.
    package var block: [UInt8] {
        var block: [UInt8] = []
        for field in list {
            block.append(0)
            block += Self.integer(field.name.count, prefixBits: 7, first: 0) + field.name
            block += Self.integer(field.value.count, prefixBits: 7, first: 0) + field.value
        }
        return block
    }

    /// An integer that begins in the low bits of a byte (RFC 7541 §5.1).
    static func integer(_ value: Int, prefixBits: Int, first: UInt8) -> [UInt8] {
        let limit = (1 << prefixBits) - 1
        guard value >= limit else { return [first | UInt8(value)] }
        var bytes = [first | UInt8(limit)]
        var rest = value - limit
        while rest >= 128 {
            bytes.append(UInt8(rest & 127) | 128)
            rest >>= 7
        }
        return bytes + [UInt8(rest)]
    }
}
