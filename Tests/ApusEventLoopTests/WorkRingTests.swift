import Testing

@testable import ApusEventLoop

struct WorkRingTests {
    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func `a ring gives back what was put in, in order`(seed: UInt64) {
        var random = SplitMix(state: seed)
        let seen = Confined<[Int]>([])
        var ring = WorkRing()
        var other = WorkRing()
        var next = 0
        for _ in 0..<200 {
            for _ in 0..<Int.random(in: 0..<60, using: &random) {
                let value = next
                next += 1
                other.append(.body { seen.value.append(value) })
            }
            ring.takeAll(from: &other)
            #expect(other.count == 0)
            for _ in 0..<Int.random(in: 0..<60, using: &random) {
                if case .body(let body) = ring.popFirst() { body() }
            }
            ring.releaseExcess()
        }
        while case .body(let body) = ring.popFirst() { body() }
        #expect(seen.value == Array(0..<next))
        #expect(ring.count == 0)
    }

    @Test func `a ring lets go of what is left in it, and of the memory of a burst`() {
        let object = Confined(0)
        var ring = WorkRing()
        for _ in 0..<20_000 { ring.append(.body { object.value += 1 }) }
        while case .body(let body) = ring.popFirst() { body() }
        ring.releaseExcess()
        #expect(object.value == 20_000)

        weak var weakObject: Confined<Int>?
        do {
            let object = Confined(0)
            weakObject = object
            var ring = WorkRing()
            for _ in 0..<100 { ring.append(.body { object.value += 1 }) }
            _ = ring.popFirst()
        }
        #expect(weakObject == nil)
    }
}
