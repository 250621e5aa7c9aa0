/// Base64 of `-bin` metadata (RFC 4648 §4), as gRPC wants it: accepted with and without padding, sent without.
package enum Base64 {
    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

    static func encode(_ bytes: some Collection<UInt8>) -> [UInt8] {
        var output: [UInt8] = []
        output.reserveCapacity((bytes.count * 4 + 2) / 3)
        var bits: UInt32 = 0
        var bitCount: UInt32 = 0
        for byte in bytes {
            bits = bits << 8 | UInt32(byte)
            bitCount += 8
            while bitCount >= 6 {
                bitCount -= 6
                output.append(alphabet[Int(bits >> bitCount & 63)])
            }
        }
        if bitCount > 0 { output.append(alphabet[Int(bits << (6 - bitCount) & 63)]) }
        return output
    }

    /// The bytes, or `nil` when the text is not base64. Bits left over at the end are ignored, as other stacks do.
    package static func decode(_ text: Span<UInt8>) -> [UInt8]? {
        var count = text.count
        var padding = 0
        while count > 0, padding < 2, text[count - 1] == UInt8(ascii: "=") {
            count -= 1
            padding += 1
        }
        if count % 4 == 1 || (padding > 0 && (count + padding) % 4 != 0) { return nil }
        var output: [UInt8] = []
        output.reserveCapacity(count * 3 / 4)
        var bits: UInt32 = 0
        var bitCount: UInt32 = 0
        for index in 0..<count {
            guard let value = value(of: text[index]) else { return nil }
            bits = bits << 6 | value
            bitCount += 6
            if bitCount >= 8 {
                bitCount -= 8
                output.append(UInt8(truncatingIfNeeded: bits >> bitCount))
            }
        }
        return output
    }

    private static func value(of character: UInt8) -> UInt32? {
        switch character {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(character - UInt8(ascii: "A"))
        case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(character - UInt8(ascii: "a")) + 26
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(character - UInt8(ascii: "0")) + 52
        case UInt8(ascii: "+"): 62
        case UInt8(ascii: "/"): 63
        default: nil
        }
    }
}
