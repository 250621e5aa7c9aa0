internal import Foundation
internal import TestSupport

@testable import ApusTransport

extension FuzzTarget {
    /// `rule 5`: a timeout is read as the specification says, and what we write is never shorter than what was meant.
    static let timeout = FuzzTarget(
        name: "timeout",
        seeds: { ["1n", "99999999H", "0S", "123456789m", "5u", "2M", "1", "n", "1 S", "+1S"].map { Array($0.utf8) } },
        run: { bytes in
            try holdEqual(GRPCTimeout.parse(bytes.span), expectedTimeout(bytes), "\(bytes)")
            var input = FuzzInput(bytes)
            let nanoseconds = Int64(bitPattern: input.number64()) >> Int64(input.number(below: 64))
            var encoded: [UInt8] = []
            GRPCTimeout.encode(nanoseconds: nanoseconds, to: &encoded)
            guard let decoded = expectedTimeout(encoded) else {
                throw PropertyFailure("\(nanoseconds) ns is sent as \(encoded)")
            }
            let wanted = max(nanoseconds, 0)
            // Rounded up, by less than the unit; only of more than eight digits of hours is something lost.
            let unit = timeoutUnits[encoded[encoded.count - 1]] ?? 0
            let largest = UInt128(99_999_999) * UInt128(unit)
            try hold(decoded >= wanted || UInt128(wanted) > largest, "\(wanted) ns became \(decoded)")
            try hold(UInt128(decoded) < UInt128(wanted) + UInt128(unit), "\(wanted) ns became \(decoded)")
            try hold(unit == 1 || UInt128(wanted) > 99_999_999 * UInt128(unit / 1000), "\(wanted) as \(encoded)")
        }
    )

    /// `rule 10`: base64 as Foundation reads it, with and without padding; what is written is read again.
    static let base64 = FuzzTarget(
        name: "base64",
        seeds: { ["", "QQ", "QQ==", "QUI=", "QUJD", "QUJD=", "Q===", "====", "Q-_+/w"].map { Array($0.utf8) } },
        run: { bytes in
            try holdEqual(Base64.decode(bytes.span), expectedBase64(bytes), "\(bytes)")
            let encoded = Base64.encode(bytes)
            try hold(encoded.allSatisfy { $0 != UInt8(ascii: "=") }, "padding is sent")
            try holdEqual(Base64.decode(encoded.span), bytes, "\(encoded)")
        }
    )

    /// `rule 19`: what is written is read again; reading never fails; cutting cuts no character.
    static let percent = FuzzTarget(
        name: "percent",
        seeds: { ["ok", "%", "%4", "%41", "%zz", "caf%C3%A9", "%F0%9F%98%80x", "é😀%\u{0}\t"].map { Array($0.utf8) } },
        run: { bytes in
            try holdEqual(PercentEncoding.decode(bytes.span), expectedPercentDecoding(bytes), "\(bytes)")
            let text = String(decoding: bytes, as: UTF8.self)
            let encoded = PercentEncoding.encode(text)
            try hold(encoded.allSatisfy { (0x20...0x7E).contains($0) }, "\(encoded)")
            try holdEqual(PercentEncoding.decode(encoded.span), text, "\(encoded)")
            let limit = Int(bytes.first ?? 0) % 64
            let cut = PercentEncoding.truncate(encoded, to: limit)
            try hold(cut.count <= limit && encoded.starts(with: cut), "\(cut) of \(encoded)")
            let cutText = PercentEncoding.decode(Array(cut).span)
            try hold(text.unicodeScalars.starts(with: cutText.unicodeScalars), "\(cut) of \(encoded)")
            // Nothing more would have fitted: the next character takes at most twelve bytes.
            try hold(cut.count == encoded.count || cut.count > limit - 12, "\(cut.count) of \(limit) bytes")
        }
    )
}

private let timeoutUnits: [UInt8: Int64] = [
    UInt8(ascii: "n"): 1, UInt8(ascii: "u"): 1_000, UInt8(ascii: "m"): 1_000_000, UInt8(ascii: "S"): 1_000_000_000,
    UInt8(ascii: "M"): 60_000_000_000, UInt8(ascii: "H"): 3_600_000_000_000,
]

/// PROTOCOL-HTTP2.md: a positive integer of at most eight digits, and a unit.
func expectedTimeout(_ bytes: [UInt8]) -> Int64? {
    guard let last = bytes.last, let unit = timeoutUnits[last] else { return nil }
    let digits = bytes.dropLast()
    guard (1...8).contains(digits.count), digits.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
    guard let value = UInt128(String(decoding: digits, as: UTF8.self)) else { return nil }
    return Int64(clamping: value * UInt128(unit))
}

/// Base64 as Foundation reads it once the padding that may be missing is there.
func expectedBase64(_ bytes: [UInt8]) -> [UInt8]? {
    guard bytes.allSatisfy({ $0 < 0x80 && $0 > 0x20 }) else { return nil }
    let text = String(decoding: bytes, as: UTF8.self)
    let bare = text.prefix { $0 != "=" }
    let padding = (4 - bare.count % 4) % 4
    guard bare.count % 4 != 1, text.count == bare.count || text == bare + String(repeating: "=", count: padding) else {
        return nil
    }
    return Data(base64Encoded: bare + String(repeating: "=", count: padding)).map { [UInt8]($0) }
}

private func expectedPercentDecoding(_ bytes: [UInt8]) -> String {
    var decoded: [UInt8] = []
    var rest = bytes[...]
    while let first = rest.first {
        let digits = String(decoding: rest.dropFirst().prefix(2), as: UTF8.self)
        let isEscape = first == UInt8(ascii: "%") && digits.utf8.count == 2 && digits.allSatisfy(\.isHexDigit)
        if isEscape, digits.allSatisfy(\.isASCII), let byte = UInt8(digits, radix: 16) {
            decoded.append(byte)
            rest = rest.dropFirst(3)
        } else {
            decoded.append(first)
            rest = rest.dropFirst()
        }
    }
    return String(decoding: decoded, as: UTF8.self)
}
