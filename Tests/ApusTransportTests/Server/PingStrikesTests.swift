import ApusBase
import Testing

@testable import ApusTransport

/// How often a client may send PINGs (rule 24).
@Suite struct PingStrikesTests {
    private let minute: Int64 = 60_000_000_000

    /// How many of the PINGs are let pass that come so many minutes apart; a hundred at the most.
    private func passes(
        every minutes: Int64,
        _ limits: PingLimits = PingLimits(),
        hasCalls: Bool,
        sending: Bool = false
    ) -> Int {
        var strikes = PingStrikes(limits)
        var frames: UInt32 = 0
        for count in 0..<100 {
            let now = MonotonicInstant(nanoseconds: Int64(count) * minutes * minute)
            if sending { frames &+= 1 }
            guard strikes.pingReceived(now: now, hasCalls: hasCalls, callFramesSent: frames) else { return count }
        }
        return 100
    }

    @Test func `rule 24: with a call every five minutes is allowed, and sooner is a strike`() {
        #expect(passes(every: 5, hasCalls: true) == 100)
        // The first is no strike, the next two are, and the one after them is too many.
        #expect(passes(every: 4, hasCalls: true) == 3)
        #expect(passes(every: 0, hasCalls: true) == 3)
    }

    @Test func `rule 24: without a call it is two hours, unless that is permitted`() {
        #expect(passes(every: 119, hasCalls: false) == 3)
        #expect(passes(every: 120, hasCalls: false) == 100)
        var limits = PingLimits()
        limits.permitsWithoutCalls = true
        #expect(passes(every: 5, limits, hasCalls: false) == 100)
        #expect(passes(every: 4, limits, hasCalls: false) == 3)
    }

    @Test func `rule 24: HEADERS or DATA sent in between forgive all strikes`() {
        #expect(passes(every: 0, hasCalls: true, sending: true) == 100)
        var strikes = PingStrikes(PingLimits())
        let now = MonotonicInstant(nanoseconds: 0)
        func ping(_ frames: UInt32) -> Bool { strikes.pingReceived(now: now, hasCalls: true, callFramesSent: frames) }
        #expect([ping(0), ping(0), ping(0)] == [true, true, true])
        #expect([ping(7), ping(7), ping(7), ping(7)] == [true, true, true, false])
    }

    @Test func `the interval and the number of strikes are what was configured`() {
        var limits = PingLimits()
        limits.minInterval = .zero
        #expect(passes(every: 0, limits, hasCalls: true) == 100)
        #expect(passes(every: 0, limits, hasCalls: false) == 3)
        limits.minInterval = .seconds(60 * 60)
        limits.maxStrikes = 0
        #expect(passes(every: 59, limits, hasCalls: true) == 1)
        limits.minInterval = .seconds(60 * 60 * 3)
        #expect(passes(every: 170, limits, hasCalls: false) == 1)
    }
}
