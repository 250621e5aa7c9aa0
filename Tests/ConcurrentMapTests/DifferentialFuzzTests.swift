import Testing

@testable import ConcurrentMap

/// Long sequences of random operations, each compared with what a Dictionary does.
@Suite struct DifferentialFuzzTests {
    /// One map beside one Dictionary.
    private struct Pair<Key: Hashable & Sendable, Value: Equatable & Sendable> {
        let map = ConcurrentMap<Key, Value>()
        var model: [Key: Value] = [:]

        /// Performs an operation on both; false if they differ.
        mutating func step(_ random: inout Random, _ key: Key, _ value: Value) -> Bool {
            switch random.below(16) {
            case 0..<3: return map[key] == model[key]
            case 3: return (map.withValue(forKey: key) { copy $0 }) == model[key]
            case 4: return map.contains(key) == (model[key] != nil)
            case 5...7:
                map[key] = value
                model[key] = value
                return true
            case 8: return map.updateValue(value, forKey: key) == model.updateValue(value, forKey: key)
            case 9:
                let isNew = model[key] == nil
                if isNew { model[key] = value }
                return map.insert(value, forKey: key) == isNew
            case 10, 11: return map.removeValue(forKey: key) == model.removeValue(forKey: key)
            case 12:
                let old = model[key]
                model[key] = old == nil ? value : random.below(2) == 0 ? nil : value
                let new = model[key]
                let seen = map.updateOptionalValue(forKey: key) { present in
                    defer { present = new }
                    return present
                }
                return seen == old
            case 13:
                let old = model[key]
                let expected = random.below(2) == 0 ? old : value
                if old == expected { model[key] = value }
                let result = map.compareExchange(forKey: key, expected: expected, desired: value)
                return result == (old == expected, old)
            case 14:
                let new = value
                let isThere = model[key] != nil
                if isThere { model[key] = new }
                return (map.updateValue(forKey: key) { $0 = new } != nil) == isThere
            default:
                return rarely(&random)
            }
        }

        private mutating func rarely(_ random: inout Random) -> Bool {
            switch random.below(400) {
            case 0:
                map.removeAll()
                model.removeAll()
                return map.isEmpty
            case 1: map.reclaim()
            case 2: return map.snapshot() == model
            case 3: return Dictionary(map.map { ($0.key, $0.value) }) { first, _ in first } == model
            default: break
            }
            return map.count == model.count
        }

        var isSame: Bool { map.snapshot() == model && map.count == model.count }
    }

    private func fuzz<Key: Hashable & Sendable, Value: Equatable & Sendable>(
        seed: Int,
        steps: Int,
        keys: Int,
        _ key: (Int) -> Key,
        _ value: (Int) -> Value
    ) -> String? {
        var random = Random(seed: seed)
        var pair = Pair<Key, Value>()
        for step in 0..<steps {
            let key = key(random.below(keys))
            guard pair.step(&random, key, value(random.below(1000))) else { return "seed \(seed), step \(step)" }
        }
        return pair.isSame ? nil : "seed \(seed), at the end"
    }

    @Test(arguments: [1, 10, 300, 20_000]) func `numbers under numbers`(keys: Int) {
        for seed in 0..<4 {
            #expect(fuzz(seed: seed, steps: Effort.times(20_000), keys: keys, { $0 }, { $0 }) == nil)
        }
    }

    @Test(arguments: [10, 1000]) func `strings under strings`(keys: Int) {
        for seed in 0..<2 {
            let difference = fuzz(
                seed: seed,
                steps: Effort.times(20_000),
                keys: keys,
                { "a key that is too long to be stored in place: \($0)" },
                { "\($0)" }
            )
            #expect(difference == nil)
        }
    }

    @Test func `objects under objects, all of which are released`() {
        let tally = Tally()
        for seed in 0..<2 {
            let difference = fuzz(
                seed: seed,
                steps: Effort.times(20_000),
                keys: 100,
                { KeyObject($0, tally) },
                { Counted($0, tally) }
            )
            #expect(difference == nil)
        }
        #expect(tally.madeCount > 10_000)
        #expect(tally.aliveCount == 0)
    }

    @Test func `keys that all collide`() {
        for seed in 0..<2 {
            #expect(fuzz(seed: seed, steps: Effort.times(10_000), keys: 100, { Colliding(number: $0) }, { $0 }) == nil)
        }
    }

    private struct Nothing: Hashable, Sendable {}

    @Test func `keys and values of no size`() {
        #expect(fuzz(seed: 1, steps: 1000, keys: 2, { _ in Nothing() }, { _ in Nothing() }) == nil)
    }
}
