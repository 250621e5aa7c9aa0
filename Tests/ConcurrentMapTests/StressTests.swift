import Glibc
import Synchronization
import Testing

@testable import ConcurrentMap

/// Many threads at once, and what must hold whatever they do.
@Suite struct StressTests {
    /// Readers and writers on a few keys: every value that is read is intact and belongs to its key.
    private func stress<Key: Hashable & Sendable>(
        threads: Int,
        steps: Int,
        keys: Int,
        _ key: @escaping @Sendable (Int) -> Key
    ) {
        let tally = Tally()
        let wrong = Shared()
        do {
            let map = ConcurrentMap<Key, Counted>()
            onThreads(threads) { thread in
                var random = Random(seed: thread)
                for step in 0..<steps {
                    let number = random.below(keys)
                    let isRight = Self.step(map, key(number), number, &random, tally)
                    if !isRight { wrong.increment() }
                    if step % 1000 == 999, map.contains(where: { !$0.value.isIntact }) { wrong.increment() }
                }
            }
            #expect(map.count == map.snapshot().count)
            #expect(map.count <= keys)
        }
        #expect(wrong.now == 0)
        #expect(tally.madeCount > 0)
        #expect(tally.aliveCount == 0)
    }

    private static func step<Key>(
        _ map: ConcurrentMap<Key, Counted>,
        _ key: Key,
        _ number: Int,
        _ random: inout Random,
        _ tally: Tally
    ) -> Bool {
        let isRight = { (value: Counted) in value.isIntact && value.number == number }
        switch random.below(12) {
        case 0..<4: return map.withValue(forKey: key) { isRight(copy $0) } ?? true
        case 4: return map[key].map(isRight) ?? true
        case 5, 6: map[key] = Counted(number, tally)
        case 7: return map.removeValue(forKey: key).map(isRight) ?? true
        case 8: map.insert(Counted(number, tally), forKey: key)
        case 9: return map.updateValue(Counted(number, tally), forKey: key).map(isRight) ?? true
        case 10: map.updateOptionalValue(forKey: key) { $0 = $0 == nil ? Counted(number, tally) : nil }
        default: return map.updateValue(forKey: key) { $0 = Counted($0.number, tally) } != nil || true
        }
        return true
    }

    @Test func `few keys, more threads than cores`() {
        stress(threads: 6, steps: Effort.times(15_000), keys: 5) { $0 }
    }

    @Test func `many keys, many times more threads than cores`() {
        stress(threads: 48, steps: Effort.times(2000), keys: 3000) { $0 }
    }

    @Test func `keys that all collide`() {
        stress(threads: 4, steps: Effort.times(5000), keys: 40) { Colliding(number: $0) }
    }

    @Test func `strings`() {
        stress(threads: 4, steps: Effort.times(8000), keys: 200) {
            "a key that is too long to be stored in place: \($0)"
        }
    }

    @Test func `a value that is freed as soon as nobody reads it is not freed while somebody does`() {
        let tally = Tally()
        let map = ConcurrentMap<Int, Counted>()
        map[1] = Counted(0, tally)
        let wrong = Shared()
        let stop = Shared()
        let reader = startThread {
            while stop.now == 0 {
                // What takes the memory of a freed value is another value, and has another number.
                let isSame = map.withValue(forKey: 1) { value in
                    let number = value.number
                    for _ in 0..<50 where !value.isIntact || value.number != number { return false }
                    return true
                }
                if isSame != true { wrong.increment() }
            }
        }
        for number in 0..<Effort.times(100_000) {
            map[1] = Counted(number, tally)
            map.reclaim()
        }
        stop.increment()
        join(reader)
        #expect(wrong.now == 0)
        #expect(tally.aliveCount <= 2)
    }

    @Test func `updates of one key are lost by nobody`() {
        let map = ConcurrentMap<String, Int>()
        let threads = 6
        let steps = Effort.times(10_000)
        onThreads(threads) { thread in
            for _ in 0..<steps { map.updateValue(forKey: "a", default: 0) { $0 += 1 } }
        }
        #expect(map["a"] == threads * steps)
    }

    @Test func `of those who insert one key, one succeeds`() {
        let map = ConcurrentMap<Int, Int>()
        let threads = 4
        let keys = Effort.times(20_000)
        let inserted = Shared()
        let wrong = Shared()
        onThreads(threads) { thread in
            for key in 0..<keys {
                if map.insert(thread, forKey: key) { inserted.increment() }
                guard let owner = map[key], (0..<threads) ~= owner else {
                    wrong.increment()
                    continue
                }
            }
        }
        #expect(inserted.now == keys)
        #expect(wrong.now == 0)
        #expect(map.count == keys)
    }

    @Test func `growth hides no key from readers`() {
        let map = ConcurrentMap<Int, Int>()
        let keys = Effort.times(100_000)
        let added = Shared()
        let missing = Shared()
        onThreads(3) { thread in
            var random = Random(seed: thread)
            if thread == 0 {
                for key in 0..<keys {
                    map[key] = key
                    added.value.store(key + 1, ordering: .releasing)
                }
            } else {
                while true {
                    let count = added.value.load(ordering: .acquiring)
                    if count == keys { break }
                    guard count > 0 else { continue }
                    let key = random.below(count)
                    if map[key] != key { missing.increment() }
                }
            }
        }
        #expect(missing.now == 0)
        #expect(map.count == keys)
    }

    @Test func `a snapshot is of one moment`() {
        let map = ConcurrentMap<Int, Int>()
        let keys = 200
        for key in 0..<keys { map[key] = 0 }
        let stop = Shared()
        // Numbers are set in the order of the keys: at any moment the first keys have one number, the rest the one
        // before.
        let writer = startThread {
            var number = 0
            while stop.now == 0 {
                number += 1
                for key in 0..<keys { map[key] = number }
            }
        }
        var torn = 0
        for _ in 0..<Effort.times(2000) {
            let snapshot = map.snapshot()
            let numbers = (0..<keys).map { snapshot[$0] ?? -1 }
            let isOrdered = zip(numbers, numbers.dropFirst()).allSatisfy { $0 >= $1 }
            if !isOrdered || (numbers.first ?? 0) - (numbers.last ?? 0) > 1 || snapshot.count != keys { torn += 1 }
        }
        stop.increment()
        join(writer)
        #expect(torn == 0)
    }

    @Test func `removeAll is of one moment`() {
        let map = ConcurrentMap<Int, Int>()
        let stop = Shared()
        // Added in order: without a key, none that was added before it can be there.
        let writer = startThread {
            while stop.now == 0 {
                for key in 0..<100 { map[key] = key }
                map.removeAll()
            }
        }
        var torn = 0
        for _ in 0..<Effort.times(3000) {
            let keys = map.snapshot().keys.sorted()
            if keys != Array(0..<keys.count) { torn += 1 }
        }
        stop.increment()
        join(writer)
        #expect(torn == 0)
    }

    @Test func `an iteration under way sees what stays, once`() {
        let map = ConcurrentMap<Int, Int>()
        for key in 0..<500 { map[key] = key }
        let stop = Shared()
        let writer = startThread {
            while stop.now == 0 {
                for key in 1000..<3000 { map[key] = key }
                for key in 1000..<3000 { map[key] = nil }
            }
        }
        for _ in 0..<Effort.times(300) {
            var seen: [Int: Int] = [:]
            for (key, value) in map {
                #expect(key == value)
                seen[key, default: 0] += 1
            }
            #expect(seen.values.allSatisfy { $0 == 1 })
            #expect((0..<500).allSatisfy { seen[$0] == 1 })
        }
        stop.increment()
        join(writer)
    }
}
