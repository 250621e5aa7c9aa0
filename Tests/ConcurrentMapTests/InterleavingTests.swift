#if DEBUG
    import Glibc
    import Testing

    @testable import ConcurrentMap

    /// What a reader makes of writers that come between two of its instructions. The reader is stopped there, which
    /// debug builds can do; one at a time.
    @Suite(.serialized) struct InterleavingTests {
        /// Reads key 42 on a thread that stops before it announces the table (0) or the entry (1), has a writer do
        /// something meanwhile, and answers what the reader saw.
        private func read(
            _ map: ConcurrentMap<Int, Counted>,
            stoppingAfter count: Int,
            write: () -> Void
        ) -> (isIntact: Bool, number: Int)? {
            let number = Shared(-1)
            let intact = Shared()
            let reader = startThread {
                HazardDomain.stopAfter(count)
                map.withValue(forKey: 42) { value in
                    intact.value.store(value.isIntact ? 1 : 0, ordering: .relaxed)
                    number.value.store(value.number, ordering: .relaxed)
                }
            }
            while !HazardDomain.hasStopped { sched_yield() }
            write()
            map.reclaim()
            // As the allocator would do sooner or later: the memory of what was freed is used for something else.
            let others = (0..<10_000).map { Counted($0, Tally()) }
            HazardDomain.goOn()
            join(reader)
            withExtendedLifetime(others) {}
            return number.now < 0 ? nil : (intact.now == 1, number.now)
        }

        private func filledMap(_ tally: Tally) -> ConcurrentMap<Int, Counted> {
            let map = ConcurrentMap<Int, Counted>()
            for key in 0..<100 { map[key] = Counted(1, tally) }
            return map
        }

        @Test(arguments: [0, 1]) func `a value that was replaced and released is not read`(count: Int) {
            let tally = Tally()
            let map = filledMap(tally)
            let seen = read(map, stoppingAfter: count) { map[42] = Counted(2, tally) }
            #expect(tally.aliveCount == 100)
            #expect(seen?.isIntact == true)
            #expect(seen?.number == 2)
        }

        @Test(arguments: [0, 1]) func `a value that was replaced in a larger table is not read`(count: Int) {
            let tally = Tally()
            let map = filledMap(tally)
            let seen = read(map, stoppingAfter: count) {
                for key in 100..<2000 { map[key] = Counted(1, tally) }
                map[42] = Counted(2, tally)
            }
            #expect(tally.aliveCount == 2000)
            #expect(seen?.isIntact == true)
            #expect(seen?.number == 2)
        }

        @Test(arguments: [0, 1]) func `a value that was removed is not read`(count: Int) {
            let tally = Tally()
            let map = filledMap(tally)
            let seen = read(map, stoppingAfter: count) { map.removeAll() }
            #expect(tally.aliveCount == 0)
            #expect(seen == nil)
        }

        @Test func `an insertion of a key that another thread has just added does not add it twice`() {
            let map = ConcurrentMap<Int, Int>()
            let wasInserted = Shared(-1)
            let writer = startThread {
                // Before the table is announced: the version has been read.
                HazardDomain.stopAfter(1)
                map[1] = 0
                wasInserted.value.store(map.insert(1, forKey: 42) ? 1 : 0, ordering: .relaxed)
            }
            while !HazardDomain.hasStopped { sched_yield() }
            map[42] = 2
            HazardDomain.goOn()
            join(writer)
            #expect(wasInserted.now == 0)
            #expect(map[42] == 2)
            map[42] = nil
            #expect(map[42] == nil)
        }
    }
#endif
