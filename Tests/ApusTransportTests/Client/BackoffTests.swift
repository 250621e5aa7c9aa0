import ApusBase
import Testing

@testable import ApusTransport

/// `rule 28`: the delays between attempts to connect.
@Suite struct BackoffTests {
    private func make(jitter: Double = 0) -> Backoff {
        var backoff = Backoff()
        backoff.jitter = jitter
        return backoff
    }

    private func seconds(_ duration: Duration) -> Double { duration / .seconds(1) }

    @Test func `the delays are those of gRPC: one second, 1.6 times as long each time, two minutes at the most`() {
        var backoff = make()
        var expected = 1.0
        for attempt in 0..<200 {
            let delay = seconds(backoff.next())
            #expect(abs(delay - expected) < 1e-6 * expected, "attempt \(attempt)")
            expected = min(expected * 1.6, 120)
        }
        #expect(seconds(backoff.next()) == 120)
    }

    @Test func `each delay is off by at most a fifth, in both directions`() {
        var shares: [Double] = []
        for _ in 0..<500 {
            var exact = make()
            var backoff = Backoff()
            for _ in 0..<13 { shares.append(seconds(backoff.next()) / seconds(exact.next())) }
        }
        #expect(shares.allSatisfy { $0 >= 0.8 - 1e-9 && $0 <= 1.2 + 1e-9 })
        #expect(shares.contains { $0 < 0.9 })
        #expect(shares.contains { $0 > 1.1 })
    }

    @Test func `a connection sets it back to its beginning`() {
        var backoff = make()
        for _ in 0..<10 { _ = backoff.next() }
        backoff.reset()
        #expect(seconds(backoff.next()) == 1)
        #expect(abs(seconds(backoff.next()) - 1.6) < 1e-9)
    }

    @Test func `a first delay above the largest is the largest`() {
        var backoff = make()
        backoff.initialDelay = .seconds(9)
        backoff.maxDelay = .milliseconds(10)
        #expect(seconds(backoff.next()) == 0.01)
        #expect(seconds(backoff.next()) == 0.01)
    }

    @Test func `delays of the extremes neither trap nor turn negative`() {
        for (initial, max) in [
            (Duration.nanoseconds(1), Duration.nanoseconds(1)), (.seconds(Int64.max), .seconds(Int64.max)),
        ] {
            var backoff = Backoff()
            backoff.initialDelay = initial
            backoff.maxDelay = max
            // A little less than what a Duration holds, jitter included.
            if max > .seconds(1) { backoff.maxDelay = .seconds(Int64.max / 4) }
            for _ in 0..<100 { #expect(backoff.next() >= .zero) }
        }
    }
}
