import ApusBase
import Testing

@testable import ApusTransport

/// rule 23: every state × event of ``Keepalive``, in seconds.
@Suite struct KeepaliveTests {
    /// 10 s of silence, then 2 s for an answer.
    private func keepalive(withoutCalls: Bool = false) -> Keepalive {
        Keepalive(Keepalive.Times(time: .seconds(10), timeout: .seconds(2), withoutCalls: withoutCalls))
    }

    private func second(_ number: Double) -> MonotonicInstant {
        MonotonicInstant(nanoseconds: Int64(number * 1e9))
    }

    @Test func `rule 23: the time counts from the last byte`() {
        var keepalive = keepalive()
        #expect(keepalive.check(now: second(1), lastRead: second(1), hasCalls: true) == .wait(until: second(11)))
        #expect(keepalive.check(now: second(11), lastRead: second(9), hasCalls: true) == .wait(until: second(19)))
        #expect(keepalive.check(now: second(19), lastRead: second(9), hasCalls: true) == .ping(until: second(21)))
    }

    @Test(arguments: [11, 12, 12.999] as [Double])
    func `rule 23: any byte since the PING is an answer`(lastRead: Double) {
        var keepalive = keepalive()
        #expect(keepalive.check(now: second(11), lastRead: second(0), hasCalls: true) == .ping(until: second(13)))
        let action = keepalive.check(now: second(13), lastRead: second(lastRead), hasCalls: true)
        #expect(action == .wait(until: second(lastRead + 10)))
        // From there on it begins anew.
        let later = second(lastRead + 10)
        #expect(
            keepalive.check(now: later, lastRead: second(lastRead), hasCalls: true)
                == .ping(until: second(lastRead + 12))
        )
    }

    @Test func `rule 23: without a byte the peer is lost, and not before the timeout`() {
        var keepalive = keepalive()
        #expect(keepalive.check(now: second(10), lastRead: second(0), hasCalls: true) == .ping(until: second(12)))
        #expect(keepalive.check(now: second(11), lastRead: second(0), hasCalls: true) == .wait(until: second(12)))
        // The call that there was may have ended meanwhile: the PING is unanswered all the same.
        #expect(keepalive.check(now: second(12), lastRead: second(0), hasCalls: false) == .lost)
        // Until a byte turns up after all.
        #expect(
            keepalive.check(now: second(12), lastRead: second(12), hasCalls: true) == .wait(until: second(22))
        )
    }

    @Test func `rule 23: no PING without a call, and one at once when a call begins after long silence`() {
        var keepalive = keepalive()
        #expect(keepalive.callBegan(now: second(1), lastRead: second(0)) == nil)
        #expect(keepalive.check(now: second(10), lastRead: second(0), hasCalls: false) == .sleep)
        #expect(keepalive.callBegan(now: second(500), lastRead: second(0)) == .ping(until: second(502)))
        #expect(keepalive.callBegan(now: second(500), lastRead: second(0)) == nil)
        #expect(keepalive.check(now: second(502), lastRead: second(0), hasCalls: true) == .lost)
    }

    @Test func `rule 23: a peer that spoke meanwhile is not asked when a call begins`() {
        var keepalive = keepalive()
        #expect(keepalive.check(now: second(10), lastRead: second(0), hasCalls: false) == .sleep)
        #expect(keepalive.callBegan(now: second(500), lastRead: second(495)) == .wait(until: second(505)))
    }

    @Test func `rule 23: without calls when that is asked for`() {
        var keepalive = keepalive(withoutCalls: true)
        #expect(keepalive.check(now: second(10), lastRead: second(0), hasCalls: false) == .ping(until: second(12)))
        #expect(keepalive.check(now: second(12), lastRead: second(0), hasCalls: false) == .lost)
    }

    @Test func `times as long as can be do not overflow`() {
        var keepalive = Keepalive(
            Keepalive.Times(time: .seconds(Int64.max / 2), timeout: .seconds(Int64.max / 2), withoutCalls: true)
        )
        let action = keepalive.check(now: second(10), lastRead: second(0), hasCalls: true)
        #expect(action == .wait(until: .distantFuture))
    }
}
