import TestSupport
import Testing

@testable import ApusTransport

/// `rule 5`.
@Suite struct GRPCTimeoutTests {
    private func parse(_ text: String) -> Int64? { GRPCTimeout.parse(Array(text.utf8).span) }
    private func encode(_ nanoseconds: Int64) -> String {
        var bytes: [UInt8] = []
        GRPCTimeout.encode(nanoseconds: nanoseconds, to: &bytes)
        return String(decoding: bytes, as: UTF8.self)
    }

    @Test(arguments: [
        ("1n", 1), ("1u", 1_000), ("1m", 1_000_000), ("1S", 1_000_000_000), ("1M", 60_000_000_000),
        ("1H", 3_600_000_000_000), ("0n", 0), ("0H", 0), ("00000001S", 1_000_000_000), ("99999999n", 99_999_999),
        ("99999999m", 99_999_999_000_000), ("99999999S", 99_999_999_000_000_000),
        ("99999999M", 5_999_999_940_000_000_000),
    ])
    func `a number and a unit are a time`(text: String, nanoseconds: Int64) {
        #expect(parse(text) == nanoseconds)
    }

    @Test(arguments: ["99999999H", "2562048H"])
    func `what is longer than 64 bits hold is clamped`(text: String) {
        #expect(parse(text) == .max)
    }

    @Test func `the longest time that fits is exact`() {
        let exact: Int64 = 2_562_047 * 3_600_000_000_000
        #expect(parse("2562047H") == exact)
    }

    @Test(arguments: [
        "", "1", "S", "n", "1s", "1h", "1N", "1U", "1x", "-1S", "+1S", " 1S", "1S ", "1 S", "1.5S", "1e3S", "0x1S",
        "100000000S", "000000001S", "123456789", "1SS", "1Sm", "٣S", "1µ", "\01S",
    ])
    func `anything else is malformed`(text: String) {
        #expect(parse(text) == nil)
    }

    @Test func `bytes at random are a time only if they are digits and a unit`() {
        var random = RandomSource(seed: 9)
        let usual = Array("0019numSMH -x".utf8)
        for _ in 0..<30_000 {
            let text = (0..<Int.random(in: 0...11, using: &random)).map { _ in
                usual[Int.random(in: 0..<usual.count, using: &random)]
            }
            let isTime =
                (2...9).contains(text.count) && "numSMH".utf8.contains(text.last ?? 0)
                && text.dropLast().allSatisfy { (0x30...0x39).contains($0) }
            #expect((GRPCTimeout.parse(text.span) != nil) == isTime)
        }
    }

    @Test(arguments: [
        (0, "0n"), (-5, "0n"), (1, "1n"), (99_999_999, "99999999n"), (100_000_000, "100000u"),
        (100_000_001, "100001u"), (99_999_999_000, "99999999u"), (99_999_999_001, "100000m"),
        (100_000_000_000_000, "100000S"), (Int64.max, "2562048H"),
    ])
    func `a time is sent in the finest unit that fits, rounded up`(nanoseconds: Int64, text: String) {
        #expect(encode(nanoseconds) == text)
    }

    @Test func `what is sent is never shorter than what was asked for, and longer by less than a unit`() throws {
        var random = RandomSource(seed: 10)
        for _ in 0..<20_000 {
            let asked = Int64(truncatingIfNeeded: random.next() >> UInt64.random(in: 1...63, using: &random))
            let text = encode(asked)
            #expect(text.utf8.count <= 9)
            let read = try #require(parse(text))
            #expect(read >= asked)
            // Eight digits are precise to one in ten million.
            #expect(read == .max || Double(read - asked) <= max(Double(asked), 1) / 1_600)
        }
    }
}
