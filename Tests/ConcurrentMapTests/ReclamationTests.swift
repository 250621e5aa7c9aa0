import Glibc
import Synchronization
import Testing

@testable import ConcurrentMap

/// When what was taken out of a map is released, and that it always is.
@Suite struct ReclamationTests {
    /// Entries that may wait to be freed when nobody reads: what segments keep, and one less than makes a writer free
    /// the map's list.
    private static let waitingMax = MapCore.segmentCount * (Segment.retiredMax - 1) + MapCore.retiredMax - 1

    @Test func `every value is released when the map goes`() {
        let tally = Tally()
        do {
            let map = ConcurrentMap<Int, Counted>()
            for round in 0..<10 { for key in 0..<1000 { map[key] = Counted(round, tally) } }
            for key in 0..<500 { map[key] = nil }
            #expect(map.count == 500)
            #expect(tally.aliveCount >= 500)
            withExtendedLifetime(map) {}
        }
        #expect(tally.madeCount == 10_000)
        #expect(tally.aliveCount == 0)
    }

    @Test func `reclaim releases at once what nobody reads`() {
        let tally = Tally()
        let map = ConcurrentMap<Int, Counted>()
        for key in 0..<100 { map[key] = Counted(key, tally) }
        for key in 0..<100 { map[key] = Counted(key, tally) }
        map.reclaim()
        #expect(tally.aliveCount == 100)
        for key in 0..<90 { map.removeValue(forKey: key) }
        map.reclaim()
        #expect(tally.aliveCount == 10)
        map.removeAll()
        #expect(tally.aliveCount == 0)
    }

    @Test func `a write after a pause releases what was taken out before`() {
        let tally = Tally()
        let map = ConcurrentMap<Int, Counted>()
        for key in 0..<10 {
            map[key] = Counted(key, tally)
            // Longer than any tick of the kernel's clock.
            usleep(12_000)
            map[key] = nil
            #expect(tally.aliveCount == 0)
        }
    }

    @Test func `what waits to be freed is bounded, however many writers there are`() {
        let map = ConcurrentMap<Int, Int>()
        let threads = 8
        let most = Atomic(0)
        onThreads(threads) { thread in
            var random = Random(seed: thread)
            for step in 0..<Effort.times(20_000) {
                map[random.below(1000)] = step
                if step % 100 == 0 { _ = most.max(map.core.unreclaimedCount, ordering: .relaxed) }
            }
        }
        // Each thread may hold a hazard, each may be freeing a list, and one on its way there is in nobody's count.
        let bound = Self.waitingMax + threads * (Segment.retiredMax + 2 * HazardDomain.recordCount)
        #expect(most.load(ordering: .relaxed) > 0)
        #expect(most.load(ordering: .relaxed) <= bound)
    }

    @Test func `a reader that is parked keeps its own value alone`() {
        let tally = Tally()
        let map = ConcurrentMap<Int, Counted>()
        for key in 0..<100 { map[key] = Counted(key, tally) }
        let parked = Shared()
        let wake = Shared()
        let reader = startThread {
            let isIntact = map.withValue(forKey: 42) { value in
                parked.increment()
                wake.wait(for: 1)
                return value.isIntact && value.number == 42
            }
            if isIntact == true { parked.increment() }
        }
        parked.wait(for: 1)
        // Replaced many times, with growth, and removed.
        for round in 0..<50 { for key in 0..<2000 { map[key] = Counted(round, tally) } }
        for key in 100..<2000 { map[key] = nil }
        map[42] = nil
        map.reclaim()
        #expect(tally.madeCount == 100_100)
        #expect(tally.aliveCount == 99 + 1)
        wake.increment()
        join(reader)
        #expect(parked.now == 2)
        map.reclaim()
        #expect(tally.aliveCount == 99)
    }

    @Test func `a value may use the map while it is released`() {
        let tally = Tally()
        let map = ConcurrentMap<Int, Counted>()
        let count = 5000
        // Each removes the next: the first one's end is that of all.
        for key in 0..<count {
            map[key] = Counted(key, tally) { [unowned map] in
                map[key + 1] = nil
                map[-key] = nil
                _ = map.withValue(forKey: key + 2) { $0.isIntact }
            }
        }
        map[0] = nil
        for _ in 0..<count where tally.aliveCount > 0 { map.reclaim() }
        #expect(tally.aliveCount == 0)
        #expect(map.isEmpty)
    }

    @Test func `a value may use the map while an entry that lost a race is freed`() {
        let tally = Tally()
        let map = ConcurrentMap<Int, Counted>()
        let rounds = Effort.times(2000)
        for round in 0..<rounds {
            onThreads(2) { _ in
                let value = Counted(round, tally) { [unowned map] in _ = map[round] }
                map.insert(value, forKey: round)
            }
            #expect(map.count == 1)
            map.removeAll()
        }
        #expect(tally.aliveCount == 0)
    }

    @Test func `records of threads that ended are used again`() {
        let map = ConcurrentMap<Int, Int>()
        map[1] = 1
        func useOnThreads() { for _ in 0..<20 { onThreads(4) { _ in _ = map.withValue(forKey: 1) { $0 } } } }
        useOnThreads()
        let before = HazardDomain.recordCount
        useOnThreads()
        useOnThreads()
        // Other tests run at the same time, with threads of their own.
        #expect(HazardDomain.recordCount <= before + 70)
    }

    @Test func `a thread that ends within a read leaves no hazard behind`() {
        let map = ConcurrentMap<Int, Int>()
        map[1] = 1
        // As of a thread that is ended within `withValue`, which would leak what its frames own.
        join(startThread { _ = map.find(1) })
        map[1] = nil
        map.reclaim()
        #expect(map.core.unreclaimedCount == 0)
    }

    @Test func `a snapshot under way keeps what it has not copied yet`() {
        let tally = Tally()
        let map = ConcurrentMap<Int, Counted>()
        for key in 0..<1000 { map[key] = Counted(key, tally) }
        let held = map.core.holdAll()
        map.removeAll()
        map.reclaim()
        #expect(tally.aliveCount == 1000)
        let pairs = ConcurrentMap<Int, Counted>.pairs(of: held)
        #expect(pairs.count == 1000)
        #expect(pairs.allSatisfy { $0.value.isIntact && $0.key == $0.value.number })
        map.core.endHold()
        map.reclaim()
        #expect(tally.aliveCount == 1000)
        withExtendedLifetime(pairs) {}
    }
}
