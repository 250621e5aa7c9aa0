import TestSupport
import Testing

@testable import ApusTransport

@Suite struct PercentEncodingTests {
    private func encode(_ text: String) -> String { String(decoding: PercentEncoding.encode(text), as: UTF8.self) }
    private func decode(_ text: String) -> String { PercentEncoding.decode(Array(text.utf8).span) }

    @Test func `each byte below 0x80 is sent as it is, or as an escape in upper case`() {
        for byte in UInt8(0)..<0x80 {
            let isPlain = (0x20...0x24).contains(byte) || (0x26...0x7E).contains(byte)
            let digits = String(byte, radix: 16, uppercase: true)
            let escape = "%" + (byte < 16 ? "0" : "") + digits
            let text = String(UnicodeScalar(byte))
            #expect(encode(text) == (isPlain ? text : escape))
        }
    }

    @Test func `other characters are sent as the escapes of their UTF-8`() {
        #expect(encode("é") == "%C3%A9")
        #expect(encode("☃") == "%E2%98%83")
        #expect(encode("🦉") == "%F0%9F%A6%89")
        #expect(encode("100 %\r\n") == "100 %25%0D%0A")
    }

    @Test func `random text comes back, and what is sent is printable`() {
        var random = RandomSource(seed: 6)
        for _ in 0..<3000 {
            let text = random.text(upTo: 40)
            let encoded = PercentEncoding.encode(text)
            #expect(encoded.allSatisfy { (0x20...0x7E).contains($0) })
            #expect(Array(PercentEncoding.decode(encoded.span).unicodeScalars) == Array(text.unicodeScalars))
        }
    }

    @Test(arguments: [
        ("%", "%"), ("%4", "%4"), ("%4g", "%4g"), ("%g4", "%g4"), ("%%41", "%A"), ("%41", "A"), ("%c3%a9", "é"),
        ("%C3", "\u{FFFD}"), ("a%FFb", "a\u{FFFD}b"), ("%+1", "%+1"), ("%00", "\0"), ("100%", "100%"), ("%2", "%2"),
        ("%25%32%35", "%25"), ("", ""),
    ])
    func `decoding never fails`(encoded: String, text: String) {
        #expect(decode(encoded) == text)
    }

    @Test func `decoding random bytes never traps`() {
        var random = RandomSource(seed: 7)
        let usual = Array("%09AFafGz ".utf8)
        for _ in 0..<20_000 {
            let bytes = (0..<Int.random(in: 0...10, using: &random)).map { _ in
                Int.random(in: 0...5, using: &random) == 0
                    ? UInt8(truncatingIfNeeded: random.next()) : usual[Int.random(in: 0..<10, using: &random)]
            }
            _ = PercentEncoding.decode(bytes.span)
        }
    }

    @Test func `truncating cuts no escape and no character, and as little as that allows`() {
        var random = RandomSource(seed: 8)
        for _ in 0..<400 {
            let text = random.text(upTo: 12)
            let encoded = PercentEncoding.encode(text)
            // Where a cut is allowed: between scalars.
            var cuts = [0]
            for scalar in text.unicodeScalars {
                cuts.append((cuts.last ?? 0) + PercentEncoding.encode(String(scalar)).count)
            }
            for limit in -2...(encoded.count + 2) {
                let cut = PercentEncoding.truncate(encoded, to: limit)
                #expect(cut.startIndex == 0)
                #expect(cut.elementsEqual(encoded.prefix(cut.count)))
                #expect(cut.count == cuts.last { $0 <= max(limit, 0) }, "\(text) to \(limit)")
            }
        }
    }
}
