import Synchronization
import Testing

@testable import ConcurrentMap

/// What each operation does, on one thread.
@Suite struct ConcurrentMapTests {
    @Test func `an empty map has nothing`() {
        let map = ConcurrentMap<String, Int>()
        #expect(map.isEmpty)
        #expect(map.count == 0)
        #expect(map["a"] == nil)
        #expect(map.withValue(forKey: "a") { $0 } == nil)
        #expect(!map.contains("a"))
        #expect(map.removeValue(forKey: "a") == nil)
        #expect(map.snapshot().isEmpty)
        #expect(Array(map).isEmpty)
        map.removeAll()
        map.reclaim()
    }

    @Test func `what is set is read in every way`() {
        let map = ConcurrentMap<String, Int>()
        map["a"] = 1
        #expect(map["a"] == 1)
        #expect(map.value(forKey: "a") == 1)
        #expect(map.withValue(forKey: "a") { $0 + 1 } == 2)
        #expect(map.contains("a"))
        #expect(map.count == 1)
        map["a"] = 2
        #expect(map["a"] == 2)
        #expect(map.count == 1)
        map["a"] = nil
        #expect(map["a"] == nil)
        #expect(map.isEmpty)
    }

    @Test func `updateValue answers what was there`() {
        let map = ConcurrentMap<Int, String>()
        #expect(map.updateValue("a", forKey: 1) == nil)
        #expect(map.updateValue("b", forKey: 1) == "a")
        #expect(map.removeValue(forKey: 1) == "b")
    }

    @Test func `insert adds only what is new`() {
        let map = ConcurrentMap<Int, String>()
        #expect(map.insert("a", forKey: 1))
        #expect(!map.insert("b", forKey: 1))
        #expect(map[1] == "a")
        #expect(map.value(forKey: 1) { "c" } == "a")
        #expect(map.value(forKey: 2) { "c" } == "c")
        #expect(map[2] == "c")
    }

    @Test func `a closure updates what is there`() {
        let map = ConcurrentMap<Int, [Int]>()
        func add(_ number: Int) -> (inout [Int]) -> [Int] {
            { list in
                list.append(number)
                return list
            }
        }
        #expect(map.updateValue(forKey: 1, add(1)) == nil)
        map[1] = []
        #expect(map.updateValue(forKey: 1, add(1)) == [1])
        #expect(map.updateValue(forKey: 2, default: [7], add(8)) == [7, 8])
        #expect(map.updateValue(forKey: 2, default: [7], add(9)) == [7, 8, 9])
        #expect(map[1] == [1])
        #expect(map[2] == [7, 8, 9])
    }

    @Test func `a closure adds, changes, removes, or leaves things as they are`() {
        let map = ConcurrentMap<Int, Int>()
        map.updateOptionalValue(forKey: 1) { #expect($0 == nil) }
        #expect(map.isEmpty)
        map.updateOptionalValue(forKey: 1) { $0 = 1 }
        #expect(map[1] == 1)
        let old = map.updateOptionalValue(forKey: 1) { value in
            defer { value = 2 }
            return value
        }
        #expect(old == 1)
        #expect(map[1] == 2)
        map.updateOptionalValue(forKey: 1) { $0 = nil }
        #expect(map[1] == nil)
        #expect(map.isEmpty)
    }

    private struct Refusal: Error, Equatable {}

    @Test func `a closure that throws changes nothing, and its error comes out`() {
        let map = ConcurrentMap<Int, Int>()
        map[1] = 1
        #expect(throws: Refusal.self) {
            try map.updateValue(forKey: 1) { value throws(Refusal) in
                value = 2
                throw Refusal()
            }
        }
        #expect(throws: Refusal.self) {
            try map.updateValue(forKey: 2, default: 3) { _ throws(Refusal) in throw Refusal() }
        }
        #expect(throws: Refusal.self) { try map.withValue(forKey: 1) { _ throws(Refusal) in throw Refusal() } }
        #expect(throws: Refusal.self) {
            try map.removeValue(forKey: 1) { _ throws(Refusal) -> Bool in throw Refusal() }
        }
        #expect(throws: Refusal.self) { try map.value(forKey: 2) { () throws(Refusal) -> Int in throw Refusal() } }
        #expect(map.snapshot() == [1: 1])
        #expect(HazardRecord.current.depth == 0)
    }

    @Test func `a value is removed on a condition`() {
        let map = ConcurrentMap<Int, Int>()
        map[1] = 5
        #expect(map.removeValue(forKey: 1) { $0 > 5 } == nil)
        #expect(map[1] == 5)
        #expect(map.removeValue(forKey: 1) { $0 == 5 } == 5)
        #expect(map[1] == nil)
    }

    @Test func `compareExchange changes what is as expected`() {
        let map = ConcurrentMap<String, Int>()
        #expect(map.compareExchange(forKey: "a", expected: 1, desired: 2) == (false, nil))
        #expect(map.compareExchange(forKey: "a", expected: nil, desired: 1) == (true, nil))
        #expect(map.compareExchange(forKey: "a", expected: nil, desired: 2) == (false, 1))
        #expect(map.compareExchange(forKey: "a", expected: 1, desired: 3) == (true, 1))
        #expect(map["a"] == 3)
        #expect(map.compareExchange(forKey: "a", expected: 3, desired: nil) == (true, 3))
        #expect(map.compareExchange(forKey: "a", expected: nil, desired: nil) == (true, nil))
        #expect(map.isEmpty)
    }

    @Test func `a map grows, shrinks and is emptied`() {
        let map = ConcurrentMap<Int, Int>()
        for key in 0..<20_000 { map[key] = -key }
        #expect(map.count == 20_000)
        #expect((0..<20_000).allSatisfy { map[$0] == -$0 })
        #expect(map[20_000] == nil)
        for key in 10..<20_000 { map[key] = nil }
        #expect(map.count == 10)
        for key in 100_000..<100_100 { map[key] = key }
        #expect(map.count == 110)
        #expect((0..<10).allSatisfy { map[$0] == -$0 })
        map.removeAll()
        #expect(map.isEmpty)
        #expect(map[1] == nil)
        map[1] = 1
        #expect(map.snapshot() == [1: 1])
    }

    @Test func `room that was asked for is not exceeded by growing`() {
        let map = ConcurrentMap<Int, Int>(minimumCapacity: 10_000)
        let before = (0..<MapCore.segmentCount).map { map.core.table(of: $0) }
        for key in 0..<10_000 { map[key] = key }
        let replaced = zip(before, (0..<MapCore.segmentCount).map { map.core.table(of: $0) }).filter { $0 != $1 }
        #expect(replaced.count <= 2)
    }

    @Test func `slots of keys that come and go do not pile up`() {
        let map = ConcurrentMap<Int, Int>()
        for key in 0..<200_000 {
            map[key] = key
            map[key - 100] = nil
        }
        #expect(map.count == 100)
        let slots = (0..<MapCore.segmentCount).reduce(0) { $0 + map.core.table(of: $1).slotCount }
        #expect(slots <= 64 * 32)
        #expect((199_900..<200_000).allSatisfy { map[$0] == $0 })
    }

    @Test func `snapshot and iteration give each pair once`() {
        let map = ConcurrentMap<Int, String>()
        for key in 0..<1000 { map[key] = "\(key)" }
        let expected = Dictionary(uniqueKeysWithValues: (0..<1000).map { ($0, "\($0)") })
        #expect(map.snapshot() == expected)
        let pairs = Array(map)
        #expect(pairs.count == 1000)
        #expect(Dictionary(pairs.map { ($0.key, $0.value) }) { first, _ in first } == expected)
        #expect(map.map(\.key).max() == 999)
    }

    @Test func `reads nest as deep as a program likes`() {
        let map = ConcurrentMap<Int, Int>()
        for key in 0..<1000 { map[key] = key + 1 }
        map[999] = nil
        func follow(_ key: Int) -> Int { map.withValue(forKey: key) { follow($0) } ?? key }
        #expect(follow(0) == 999)
        #expect(follow(0) == 999)
        #expect(HazardRecord.current.depth == 0)
    }
}
