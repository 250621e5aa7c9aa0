/// Reads choices out of a fuzzer's bytes. Where they end, every further choice is 0.
struct FuzzInput {
    private let bytes: [UInt8]
    private var position = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    var isAtEnd: Bool { position >= bytes.count }

    mutating func byte() -> UInt8 {
        guard position < bytes.count else { return 0 }
        defer { position += 1 }
        return bytes[position]
    }

    mutating func number16() -> UInt16 { UInt16(byte()) << 8 | UInt16(byte()) }
    mutating func number32() -> UInt32 { UInt32(number16()) << 16 | UInt32(number16()) }
    mutating func number64() -> UInt64 { UInt64(number32()) << 32 | UInt64(number32()) }

    /// A number below a limit of at most 256.
    mutating func number(below limit: Int) -> Int { Int(byte()) % max(limit, 1) }

    mutating func flag() -> Bool { byte() & 1 == 1 }

    mutating func choose<Element>(_ elements: [Element]) -> Element { elements[number(below: elements.count)] }

    /// As many bytes as are asked for, or are there.
    mutating func bytes(_ count: Int) -> [UInt8] {
        let end = min(position + max(count, 0), bytes.count)
        defer { position = end }
        return Array(bytes[min(position, end)..<end])
    }

    /// A length in one byte, and as many bytes.
    mutating func shortBytes() -> [UInt8] { bytes(Int(byte())) }

    mutating func rest() -> [UInt8] { bytes(bytes.count) }
}

/// Cuts bytes into pieces whose sizes a seed decides: mostly small ones, now and then a large one, never an empty one.
func pieces(of bytes: [UInt8], seed: UInt8) -> [ArraySlice<UInt8>] {
    // With the lowest seed every byte comes alone, which is the hardest for a parser.
    var state = UInt32(seed) &* 2_654_435_761
    var result: [ArraySlice<UInt8>] = []
    var rest = bytes[...]
    while !rest.isEmpty {
        state = state &* 1_664_525 &+ 1_013_904_223
        let small = Int(state >> 16 & 15)
        let size = seed == 0 ? 1 : state >> 28 == 0 ? 64 + small * 64 : 1 + small
        result.append(rest.prefix(size))
        rest = rest.dropFirst(size)
    }
    return result
}
