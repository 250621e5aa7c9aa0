import ApusBase
import Testing

@testable import ApusTransport

@Suite struct YoungStreamsTests {
    private func milliseconds(_ count: Int64) -> MonotonicInstant { MonotonicInstant(nanoseconds: count * 1_000_000) }

    @Test(arguments: [1, 7, 30, 49, 50, 51, 99, 100, 333] as [Int64])
    func `a stream is young for 50 ms at the least and for 100 at the most, however often is looked`(step: Int64) {
        var streams = YoungStreams()
        var begun: [Int64] = []
        for turn in 0..<1000 {
            let now = turn * Int(step)
            let instant = milliseconds(Int64(now))
            if streams.isDue(instant) { streams.note(lastStreamID: Int32(begun.count * 2 - 1), now: instant) }
            for (index, time) in begun.enumerated().suffix(200) {
                let age = Int64(now) - time
                let isYoung = streams.isYoung(Int32(index * 2 + 1))
                // Of those that began in the read before a pause nothing was noted until after it.
                if age < 50 { #expect(isYoung) }
                if age > 100 + step { #expect(!isYoung) }
            }
            begun.append(Int64(now))
        }
    }
}
