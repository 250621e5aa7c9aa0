import ApusBase
import Testing

@testable import ApusTransport

@Suite struct TokenBucketTests {
    private func instant(_ seconds: Double) -> MonotonicInstant {
        MonotonicInstant(nanoseconds: Int64(seconds * 1_000_000_000))
    }

    /// How many can be taken at once.
    private func drain(_ bucket: inout TokenBucket, at seconds: Double) -> Int {
        var count = 0
        while count < 1_000_000, bucket.take(now: instant(seconds)) { count += 1 }
        return count
    }

    @Test func `five seconds' worth comes at once, and no more`() {
        var bucket = TokenBucket(perSecond: 100, now: instant(0))
        #expect(drain(&bucket, at: 0) == 500)
    }

    @Test func `an empty bucket fills at its rate`() {
        var bucket = TokenBucket(perSecond: 100, now: instant(0))
        _ = drain(&bucket, at: 0)
        #expect(drain(&bucket, at: 1) == 100)
        #expect(drain(&bucket, at: 1) == 0)
        #expect(drain(&bucket, at: 1.5) == 50)
        // However long nobody asked, what may come at once is the same.
        #expect(drain(&bucket, at: 1000) == 500)
    }

    @Test func `time that is not enough for one is not lost`() {
        var bucket = TokenBucket(perSecond: 10, now: instant(0))
        _ = drain(&bucket, at: 0)
        var count = 0
        // A hundred looks in a second, of which each alone is worth a tenth.
        for step in 1...100 { count += drain(&bucket, at: Double(step) / 100) }
        #expect(count == 10)
    }

    @Test func `who keeps to the rate is never refused`() {
        var bucket = TokenBucket(perSecond: 1000, now: instant(0))
        for step in 0..<100_000 {
            let isGranted = bucket.take(now: instant(Double(step) / 1000))
            #expect(isGranted)
        }
    }

    @Test func `what is earned is added, up to what may come at once`() {
        var bucket = TokenBucket(perSecond: 1, now: instant(0))
        _ = drain(&bucket, at: 0)
        bucket.add(3)
        #expect(drain(&bucket, at: 0) == 3)
        bucket.add(100)
        #expect(drain(&bucket, at: 0) == 5)
    }

    @Test func `without a rate it is never empty, and the largest rate is counted right`() {
        var endless = TokenBucket(perSecond: nil, now: instant(0))
        #expect(drain(&endless, at: 0) == 1_000_000)
        var fast = TokenBucket(perSecond: .max, now: instant(0))
        #expect(drain(&fast, at: 1e9) == 1_000_000)
    }

    @Test func `a clock that goes back gives nothing and breaks nothing`() {
        var bucket = TokenBucket(perSecond: 10, now: instant(100))
        _ = drain(&bucket, at: 100)
        #expect(drain(&bucket, at: 1) == 0)
        #expect(drain(&bucket, at: 101) == 10)
    }
}
