import TestSupport
import Testing

@testable import ApusBase

@Suite struct MonotonicInstantTests {
    private static let edges: [Int64] = [.min, .min + 1, -1_000_000_000, -1, 0, 1, 1_000_000_000, .max - 1, .max]

    /// The sum in a wider type, clamped.
    private func clamped(_ value: Int128) -> Int64 { Int64(clamping: value) }

    @Test(arguments: edges, edges)
    func `sums and differences are exact, or clamped to what fits`(left: Int64, right: Int64) {
        let instant = MonotonicInstant(nanoseconds: left)
        let other = MonotonicInstant(nanoseconds: right)
        #expect(instant.advanced(byNanoseconds: right).nanoseconds == clamped(Int128(left) + Int128(right)))
        #expect(instant.nanoseconds(since: other) == clamped(Int128(left) - Int128(right)))
        #expect((instant < other) == (left < right))
    }

    @Test func `random sums and differences are exact, or clamped`() {
        var random = RandomSource(seed: 3)
        for _ in 0..<10_000 {
            let left = Int64(truncatingIfNeeded: random.next())
            let right = Int64(truncatingIfNeeded: random.next())
            let instant = MonotonicInstant(nanoseconds: left)
            #expect(instant.advanced(byNanoseconds: right).nanoseconds == clamped(Int128(left) + Int128(right)))
            let other = MonotonicInstant(nanoseconds: right)
            #expect(instant.nanoseconds(since: other) == clamped(Int128(left) - Int128(right)))
        }
    }

    @Test func `a duration is counted in nanoseconds, towards zero, and clamped`() {
        #expect(Duration.seconds(3).saturatingNanoseconds == 3_000_000_000)
        #expect(Duration.milliseconds(-1500).saturatingNanoseconds == -1_500_000_000)
        #expect(Duration(secondsComponent: 0, attosecondsComponent: 999_999_999).saturatingNanoseconds == 0)
        #expect(Duration.seconds(9_223_372_036).saturatingNanoseconds == 9_223_372_036_000_000_000)
        #expect(Duration.nanoseconds(Int64.max).saturatingNanoseconds == .max)
        #expect((Duration.nanoseconds(Int64.max) + .nanoseconds(1)).saturatingNanoseconds == .max)
        #expect(Duration.nanoseconds(Int64.min).saturatingNanoseconds == .min)
        #expect((Duration.nanoseconds(Int64.min) - .nanoseconds(1)).saturatingNanoseconds == .min)
        #expect(Duration.seconds(Int64.max).saturatingNanoseconds == .max)
        #expect(Duration.seconds(Int64.min).saturatingNanoseconds == .min)
    }

    @Test func `nothing is later than the distant future`() {
        #expect(MonotonicInstant.distantFuture.advanced(by: .seconds(1)) == .distantFuture)
        #expect(MonotonicInstant(nanoseconds: 5).advanced(by: .seconds(Int64.max)) == .distantFuture)
    }
}
