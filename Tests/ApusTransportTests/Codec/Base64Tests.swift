import TestSupport
import Testing

@testable import ApusTransport

@Suite struct Base64Tests {
    /// RFC 4648 §10, with padding.
    private static let vectors = [
        ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ]

    private func decode(_ text: String) -> [UInt8]? { Base64.decode(Array(text.utf8).span) }

    @Test(arguments: vectors)
    func `the vectors of RFC 4648 are encoded without padding, and decoded with and without`(
        plain: String,
        encoded: String
    ) {
        let bare = encoded.filter { $0 != "=" }
        #expect(String(decoding: Base64.encode(Array(plain.utf8)), as: UTF8.self) == bare)
        #expect(decode(encoded) == Array(plain.utf8))
        #expect(decode(bare) == Array(plain.utf8))
    }

    @Test func `bytes of every length and value come back`() {
        var random = RandomSource(seed: 4)
        for length in 0...260 {
            let bytes = random.bytes(length)
            let encoded = Base64.encode(bytes)
            #expect(encoded.count == (length * 4 + 2) / 3)
            #expect(Base64.decode(encoded.span) == bytes)
            let padding = [UInt8](repeating: UInt8(ascii: "="), count: (4 - encoded.count % 4) % 4)
            #expect(Base64.decode((encoded + padding).span) == bytes)
        }
        let all = Array(UInt8.min...UInt8.max)
        #expect(Base64.decode(Base64.encode(all).span) == all)
    }

    @Test func `each character of the alphabet stands for its six bits`() {
        let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
        for (value, character) in alphabet.enumerated() {
            #expect(Base64.decode([character, UInt8(ascii: "A")].span) == [UInt8(value << 2)])
        }
        for character in UInt8.min...UInt8.max where !alphabet.contains(character) {
            #expect(Base64.decode([0x41, character, 0x41].span) == nil, "character \(character)")
        }
    }

    @Test(arguments: [
        "A", "AAAAA", "=", "==", "===", "====", "A=", "A==", "A===", "AA=", "AA===", "AAA==", "AAAA=", "AAAA==", "AA=A",
        "A=AA", "=AAA", "AA==AA==", "AA ==", " AAAA", "AA\n", "AAA-", "AAA_", "AA%3D", "é",
    ])
    func `what is not base64 is refused`(text: String) {
        #expect(decode(text) == nil)
    }

    @Test func `bits left over at the end are ignored`() {
        #expect(decode("Zh") == Array("f".utf8))
        #expect(decode("Zh==") == Array("f".utf8))
        #expect(decode("Zm9=") == Array("fo".utf8))
    }

    @Test func `random text never traps, and what is accepted has the length it should`() {
        var random = RandomSource(seed: 5)
        let usual = Array("AZaz09+/=,".utf8)
        for _ in 0..<20_000 {
            let text = (0..<Int.random(in: 0...12, using: &random)).map { _ in
                Int.random(in: 0...20, using: &random) == 0 ? 0 : usual[Int.random(in: 0..<10, using: &random)]
            }
            guard let bytes = Base64.decode(text.span) else { continue }
            let characters = text.filter { $0 != UInt8(ascii: "=") }.count
            #expect(bytes.count == characters * 3 / 4)
        }
    }
}
