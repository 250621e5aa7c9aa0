import Glibc
import Synchronization
import Testing

@testable import ConcurrentMap

/// Where the kernel, or a sandbox, has no membarrier, and where a process has forked. In processes of their own, since
/// it is for all maps of a process.
@Suite struct FenceTests {
    private static func workTogether() -> Bool {
        let tally = Tally()
        let wrong = Shared()
        do {
            let map = ConcurrentMap<Int, Counted>()
            onThreads(4) { thread in
                var random = Random(seed: thread)
                for step in 0..<5000 {
                    let key = random.below(10)
                    if thread % 2 == 0 {
                        if map.withValue(forKey: key, { !$0.isIntact || $0.number != key }) == true {
                            wrong.increment()
                        }
                    } else if step % 3 == 0 {
                        map[key] = nil
                    } else {
                        map[key] = Counted(key, tally)
                    }
                }
            }
            map.reclaim()
            if map.core.unreclaimedCount != 0 { wrong.increment() }
        }
        return wrong.now == 0 && tally.madeCount > 1000 && tally.aliveCount == 0
    }

    @Test func `fences take the place of membarrier`() async {
        await #expect(processExitsWith: .exitCode(77)) {
            // The record of this thread was made before, those of others come after.
            ConcurrentMap<Int, Int>()[1] = 1
            HazardDomain.useFences()
            if Self.workTogether() { exit(77) }
        }
    }

    @Test func `a child that was forked reads and writes, and frees what it takes out`() async {
        await #expect(processExitsWith: .exitCode(77)) {
            let map = ConcurrentMap<Int, Int>()
            for key in 0..<100 { map[key] = key }
            let child = forkProcess()
            if child == 0 {
                for key in 0..<100 { map[key] = key + 1 }
                map.reclaim()
                let isRight = (0..<100).allSatisfy { map[$0] == $0 + 1 } && map.core.unreclaimedCount == 0
                _exit(isRight ? 77 : 1)
            }
            exit(exitStatus(of: child))
        }
    }
}
