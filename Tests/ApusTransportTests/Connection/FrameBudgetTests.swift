import ApusBase
import Testing

@testable import ApusTransport

/// What a peer may send of frames that carry nothing.
@Suite struct FrameBudgetTests {
    private let start = MonotonicInstant(nanoseconds: 1_000_000_000)

    /// How many pass at once.
    private func passing(_ budget: inout FrameBudget, sent: UInt32, of count: Int) -> Int {
        var passed = 0
        while passed < count, budget.take(now: start, sent: sent) { passed += 1 }
        return passed
    }

    @Test func `five seconds' worth comes at once`() {
        var budget = FrameBudget(perSecond: 10, now: start)
        #expect(passing(&budget, sent: 0, of: 1000) == 50)
    }

    @Test func `each frame that was sent allows for four more, however many come at once`() {
        var budget = FrameBudget(perSecond: 10, now: start)
        #expect(passing(&budget, sent: 1000, of: 100_000) == 50 + 4000)
        #expect(passing(&budget, sent: 1000, of: 100_000) == 0)
        #expect(passing(&budget, sent: 1001, of: 100_000) == 4)
    }

    @Test func `what was sent long ago earns nothing, and a count that wraps round does`() {
        var budget = FrameBudget(perSecond: 10, now: start)
        #expect(passing(&budget, sent: .max, of: 1_000_000) == 50 + 4 * 65_536)
        #expect(passing(&budget, sent: 9, of: 1_000_000) == 40)
    }

    @Test func `without a rate there is no end`() {
        var budget = FrameBudget(perSecond: nil, now: start)
        #expect(passing(&budget, sent: 0, of: 1_000_000) == 1_000_000)
    }
}
