import Glibc
import Synchronization
import Testing

@testable import ConcurrentMap

/// Code of the map's user that the map calls, and that calls the map.
@Suite struct ReentrancyTests {
    /// A key that uses a map while it is hashed and compared.
    private struct Nosy: Hashable, Sendable {
        let number: Int
        let map: ConcurrentMap<Int, Int>

        static func == (left: Nosy, right: Nosy) -> Bool {
            left.map.updateValue(forKey: left.number, default: 0) { $0 += 1 }
            return left.map.withValue(forKey: right.number) { _ in left.number == right.number } ?? false
        }

        func hash(into hasher: inout Hasher) {
            map[number] = 0
            // All collide, so that they are compared.
            hasher.combine(0)
        }
    }

    @Test func `a key may use another map, and this one, while it is hashed and compared`() {
        let other = ConcurrentMap<Int, Int>()
        let map = ConcurrentMap<Nosy, Int>()
        onThreads(3) { thread in
            for step in 0..<Effort.times(2000) {
                let key = Nosy(number: step % 10, map: other)
                switch step % 3 {
                case 0: map[key] = step
                case 1: _ = map.withValue(forKey: key) { $0 }
                default: map.removeValue(forKey: key)
                }
            }
        }
        #expect(map.snapshot().count == map.count)
        #expect(HazardRecord.current.depth == 0)
    }

    /// A map whose keys search and change it when they are compared, once within each call.
    private final class Curious: Sendable {
        let map = ConcurrentMap<Key, Int>()
        private let isSearching = Atomic(false)

        struct Key: Hashable, Sendable {
            let number: Int
            unowned let owner: Curious

            static func == (left: Key, right: Key) -> Bool {
                left.owner.search(left, right)
                return left.number == right.number
            }

            func hash(into hasher: inout Hasher) { hasher.combine(0) }
        }

        func key(_ number: Int) -> Key { Key(number: number, owner: self) }

        private func search(_ left: Key, _ right: Key) {
            guard !isSearching.exchange(true, ordering: .relaxed) else { return }
            map[key(left.number % 10 + 100)] = 0
            map[key(right.number % 10 + 200)] = nil
            _ = map.withValue(forKey: right) { $0 }
            isSearching.store(false, ordering: .relaxed)
        }
    }

    @Test func `a comparison may search and change the map that it is part of`() {
        let curious = Curious()
        let map = curious.map
        for number in 0..<20 {
            map[curious.key(number)] = number
            #expect(map.contains(curious.key(number)))
        }
        #expect((0..<20).allSatisfy { map[curious.key($0)] == $0 })
        for number in 0..<20 { #expect(map.removeValue(forKey: curious.key(number)) == number) }
        #expect(HazardRecord.current.depth == 0)
    }

    @Test func `an update may change other keys, which does not make it run again`() {
        let map = ConcurrentMap<Int, Int>()
        map[0] = 0
        var runs = 0
        map.updateValue(forKey: 0) { value in
            runs += 1
            for key in 1..<1000 { map[key] = key }
            for key in 1..<500 { map[key] = nil }
            value = map.count
        }
        // A key that is absent, while others are added beside it.
        map.updateOptionalValue(forKey: -1) { value in
            runs += 1
            for key in 1000..<2000 { map[key] = key }
            value = 1
        }
        #expect(runs == 2)
        #expect(map[0] == 501)
        #expect(map[-1] == 1)
    }

    @Test func `a reader may write to the key that it reads, and sees what was there`() {
        let map = ConcurrentMap<String, [Int]>()
        map["a"] = [1, 2, 3]
        let seen = map.withValue(forKey: "a") { value in
            map["a"] = [4]
            map["a"] = nil
            map.removeAll()
            map.reclaim()
            return copy value
        }
        #expect(seen == [1, 2, 3])
        #expect(map["a"] == nil)
    }

    @Test func `an update that writes to its own key now and then comes to an end`() {
        let map = ConcurrentMap<Int, Int>()
        map[0] = 0
        var runs = 0
        map.updateValue(forKey: 0) { value in
            runs += 1
            if runs < 10 { map[0] = 100 + runs }
            value += 1
        }
        #expect(runs == 10)
        #expect(map[0] == 110)
    }

    @Test func `an update that always writes to its own key ends the process, with a reason`() async {
        let direct = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            // Instead of going on for ever.
            alarm(60)
            let map = ConcurrentMap<Int, Int>()
            map[0] = 0
            map.updateValue(forKey: 0) { _ in map[0] = 1 }
        }
        let nested = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            alarm(60)
            let map = ConcurrentMap<Int, Int>()
            map[0] = 0
            map.updateValue(forKey: 0) { _ in map.updateValue(forKey: 0) { $0 += 1 } }
        }
        for result in [direct, nested] {
            let text = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
            #expect(text.contains("writes to the key that it updates"))
        }
    }

    @Test func `tasks may read before and after they suspend, on whatever thread`() async {
        let map = ConcurrentMap<Int, Int>()
        for key in 0..<100 { map[key] = key }
        let sum = await withTaskGroup(of: Int.self) { group in
            for task in 0..<50 {
                group.addTask {
                    var sum = 0
                    for step in 0..<200 {
                        sum += map.withValue(forKey: (task + step) % 100) { $0 } ?? 0
                        await Task.yield()
                        sum += map[(task + step) % 100] ?? 0
                        map[task + 1000] = sum
                    }
                    return sum
                }
            }
            return await group.reduce(0, +)
        }
        #expect(sum == 50 * 2 * 2 * 4950)
        #expect(map.count == 150)
    }
}
