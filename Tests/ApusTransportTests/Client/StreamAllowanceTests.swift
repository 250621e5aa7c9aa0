import Testing

@testable import ApusTransport

@Suite struct StreamAllowanceTests {
    @Test func `without refusals it is what the server allows, as it changes`() {
        var allowance = StreamAllowance(limit: 100)
        for limit in [100, 0, 1, 250] {
            allowance.setLimit(limit)
            for _ in 0..<300 { allowance.ended() }
            #expect(allowance.limit == limit)
            #expect(allowance.current == limit)
            #expect(!allowance.isReduced)
        }
    }

    @Test func `a refusal at the limit takes it down to what is open, and one far from it changes nothing`() {
        for (limit, open, current) in [
            (100, 99, 99), (100, 100, 100), (100, 98, 100), (100, 0, 100), (2, 1, 1), (1, 0, 1), (0, 0, 0),
        ] {
            var allowance = StreamAllowance(limit: limit)
            allowance.refused(open: open)
            #expect(allowance.current == current, "\(limit), \(open) open")
            #expect(allowance.isReduced == (current < limit))
        }
    }

    @Test func `refusals in a row never take it below one, and never above the limit`() {
        var allowance = StreamAllowance(limit: 5)
        for open in [4, 3, 2, 1, 0, 0, 0] {
            allowance.refused(open: open)
            #expect(allowance.current == max(open, 1))
        }
        for _ in 0..<10 { allowance.grow() }
        #expect(allowance.current == 5)
        #expect(!allowance.isReduced)
    }

    @Test func `it grows by one with each round of streams that end`() {
        var allowance = StreamAllowance(limit: 4)
        for open in [3, 2] { allowance.refused(open: open) }
        #expect(allowance.current == 2)
        var seen: [Int] = []
        for _ in 0..<6 {
            allowance.ended()
            seen.append(allowance.current)
        }
        #expect(seen == [2, 3, 3, 3, 4, 4])
    }

    @Test func `a new limit begins anew, the same one does not`() {
        var allowance = StreamAllowance(limit: 10)
        allowance.refused(open: 9)
        allowance.setLimit(10)
        #expect(allowance.current == 9)
        allowance.setLimit(11)
        #expect(allowance.current == 11)
    }
}
