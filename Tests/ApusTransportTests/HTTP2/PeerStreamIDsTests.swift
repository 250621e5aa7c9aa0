import Testing

@testable import ApusTransport

/// RFC 9113 §5.1, §5.1.1: which frames of a client may still come, by the ids of its streams.
@Suite struct PeerStreamIDsTests {
    /// Of ids with HEADERS one after another, none of which stays open, those that are used up.
    private func skipped(_ ids: [Int32]) -> [Int32] {
        var known = PeerStreamIDs()
        return ids.filter { !known.isNext($0) && known.isSkipped($0) }
    }

    @Test func `ids in order are fine, and so are further HEADERS on any of them`() {
        #expect(skipped([1, 3, 5, 3, 1, 5, 7, 5]) == [])
    }

    @Test func `an id that was skipped is used up`() {
        #expect(skipped([1, 5, 3]) == [3])
        #expect(skipped([5, 1, 3, 5, 7]) == [1, 3])
        #expect(skipped([1, 9, 11, 21, 3, 5, 7, 9, 11, 13, 19, 21, 23]) == [3, 5, 7, 13, 19])
    }

    @Test func `the highest id there is can be used and leaves a gap below it`() {
        #expect(skipped([1, Int32.max, 1, Int32.max, Int32.max - 2]) == [Int32.max - 2])
    }

    @Test func `ids that no client may use disturb nothing`() {
        #expect(skipped([2, -1, Int32.min, 3, 2]) == [])
    }

    @Test func `of a client that leaves many gaps the last ones are known`() {
        let opened = (0..<100).map { Int32(1 + 4 * $0) }
        #expect(skipped(opened + [395, 3]) == [395])
        #expect(skipped(opened + opened) == [])
    }

    @Test func `the last four streams that the client has ended are known, and no others`() {
        var known = PeerStreamIDs()
        for id in stride(from: 1 as Int32, to: 101, by: 2) {
            let isNext = known.isNext(id)
            #expect(isNext)
            #expect(!known.hasEnded(id))
            if id != 97 { known.end(id) }
        }
        #expect((1...99).filter { known.hasEnded($0) } == [91, 93, 95, 99])
    }
}
