/// The encoding of `grpc-message` (PROTOCOL-HTTP2.md, "Responses"): UTF-8, and of that all but 0x20–0x24 and 0x26–0x7E
/// as `%XX` in upper-case hexadecimal.
enum PercentEncoding {
    private static let digits = Array("0123456789ABCDEF".utf8)

    static func encode(_ text: String) -> [UInt8] {
        var output: [UInt8] = []
        output.reserveCapacity(text.utf8.count)
        for byte in text.utf8 {
            if (0x20...0x7E).contains(byte) && byte != UInt8(ascii: "%") {
                output.append(byte)
            } else {
                output.append(UInt8(ascii: "%"))
                output.append(digits[Int(byte >> 4)])
                output.append(digits[Int(byte & 15)])
            }
        }
        return output
    }

    /// Never fails: what is not a valid escape stays as it is, what is not UTF-8 becomes U+FFFD.
    static func decode(_ bytes: Span<UInt8>) -> String {
        var output: [UInt8] = []
        output.reserveCapacity(bytes.count)
        var index = 0
        while index < bytes.count {
            if bytes[index] == UInt8(ascii: "%"), index + 2 < bytes.count,
                let high = value(of: bytes[index + 1]), let low = value(of: bytes[index + 2])
            {
                output.append(high << 4 | low)
                index += 3
            } else {
                output.append(bytes[index])
                index += 1
            }
        }
        return String(decoding: output, as: UTF8.self)
    }

    /// The longest prefix of at most `bytesMax` bytes that cuts no escape, and inside no character's escapes.
    static func truncate(_ encoded: [UInt8], to bytesMax: Int) -> ArraySlice<UInt8> {
        guard encoded.count > bytesMax else { return encoded[...] }
        var end = max(bytesMax, 0)
        // An escape is three bytes: step out of one that the cut would split.
        while end > 0, encoded[max(0, end - 2)..<end].contains(UInt8(ascii: "%")) { end -= 1 }
        // A continuation byte (0x80–0xBF) at the cut means its character began before it.
        while end >= 3, end + 2 < encoded.count, encoded[end] == UInt8(ascii: "%"),
            let high = value(of: encoded[end + 1]), (0x8...0xB).contains(high)
        {
            end -= 3
        }
        return encoded[..<end]
    }

    private static func value(of digit: UInt8) -> UInt8? {
        switch digit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
        case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
        case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
        default: nil
        }
    }
}
