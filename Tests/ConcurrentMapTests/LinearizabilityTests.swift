import Glibc
import Synchronization
import Testing

@testable import ConcurrentMap

/// Histories of one key, recorded while threads work on it, each checked for an order that explains it.
@Suite struct LinearizabilityTests {
    /// A key that gives the processor away now and then while it is compared: in the middle of a search.
    private struct YieldingKey: Hashable, Sendable {
        let number: Int
        let hash: Int

        static let turn = Atomic(0)

        static func == (left: YieldingKey, right: YieldingKey) -> Bool {
            if turn.add(1, ordering: .relaxed).newValue % 7 == 0 { sched_yield() }
            return left.number == right.number
        }

        func hash(into hasher: inout Hasher) { hasher.combine(hash) }
    }

    /// What one thread did, by rounds; for others to read when the thread has ended.
    private final class Log: @unchecked Sendable {
        // Used by its thread alone, and then by the one that joined it.
        var rounds: [[Event]] = []

        func record(_ operation: Event.Operation, _ clock: Shared, _ perform: () -> Event.Answer) {
            let began = clock.increment()
            let answer = perform()
            let ended = clock.increment()
            rounds[rounds.count - 1].append(Event(operation: operation, answer: answer, began: began, ended: ended))
        }
    }

    private static func operation(_ random: inout Random) -> Event.Operation {
        switch random.below(10) {
        case 0..<3: .read
        case 3, 4: .set(random.below(3))
        case 5: .insert(random.below(3))
        case 6, 7: .remove
        case 8: .compareExchange(expected: random.below(3), desired: random.below(2) == 0 ? nil : random.below(3))
        default: .increment(from: 0)
        }
    }

    private static func perform<Key>(
        _ operation: Event.Operation,
        _ key: Key,
        _ map: ConcurrentMap<Key, Int>
    ) -> Event.Answer {
        switch operation {
        case .read: .value(map[key])
        case .set(let value): .value(map.updateValue(value, forKey: key))
        case .insert(let value): .done(map.insert(value, forKey: key))
        case .remove: .value(map.removeValue(forKey: key))
        case .compareExchange(let expected, let desired):
            exchange(map.compareExchange(forKey: key, expected: expected, desired: desired))
        case .increment(let first):
            .value(
                map.updateOptionalValue(forKey: key) { value in
                    value = value.map { $0 + 1 } ?? first
                    return value
                }
            )
        }
    }

    private static func exchange(_ result: (exchanged: Bool, original: Int?)) -> Event.Answer {
        .exchange(result.exchanged, result.original)
    }

    /// A history that no order explains, if there was one in so many rounds. `disturb` runs on one more thread.
    private func violation<Key>(
        rounds: Int,
        threads: Int,
        operations: Int,
        key: Key,
        map: ConcurrentMap<Key, Int>,
        disturb: @escaping @Sendable (ConcurrentMap<Key, Int>) -> Void
    ) -> [Event]? {
        let logs = (0..<threads).map { _ in Log() }
        let clock = Shared()
        let arrived = Shared()
        let stop = Shared()
        let disturber = startThread { while stop.now == 0 { disturb(map) } }
        onThreads(threads) { thread in
            var random = Random(seed: thread)
            for round in 0..<rounds {
                // All are in the same round.
                arrived.increment()
                while arrived.now < (round + 1) * threads { sched_yield() }
                logs[thread].rounds.append([])
                for _ in 0..<operations {
                    let operation = Self.operation(&random)
                    logs[thread].record(operation, clock) { Self.perform(operation, key, map) }
                    if random.below(4) == 0 { sched_yield() }
                }
            }
        }
        stop.increment()
        join(disturber)
        var values: Set<Int?> = [nil]
        for round in 0..<rounds {
            let events = logs.flatMap { $0.rounds[round] }
            values = valuesAfter(events, from: values)
            if values.isEmpty { return events }
        }
        return values.contains(map[key]) ? nil : []
    }

    @Test func `a key alone`() {
        let map = ConcurrentMap<Int, Int>()
        let events = violation(rounds: Effort.times(600), threads: 3, operations: 5, key: 7, map: map) { _ in
            sched_yield()
        }
        #expect(events == nil)
    }

    @Test func `a key whose table is replaced all the time`() {
        let map = ConcurrentMap<Int, Int>()
        let events = violation(rounds: Effort.times(400), threads: 3, operations: 5, key: 7, map: map) { map in
            for key in 1000..<3000 { map[key] = key }
            for key in 1000..<3000 { map[key] = nil }
        }
        #expect(events == nil)
    }

    @Test func `a key among others with its hash, which come and go`() {
        let map = ConcurrentMap<YieldingKey, Int>()
        let key = YieldingKey(number: 0, hash: 0)
        let events = violation(rounds: Effort.times(400), threads: 3, operations: 5, key: key, map: map) { map in
            for number in 1..<20 { map[YieldingKey(number: number, hash: 0)] = number }
            for number in 1..<20 { map[YieldingKey(number: number, hash: 0)] = nil }
        }
        #expect(events == nil)
    }

    @Test func `a history that no order explains is found out`() {
        // A read that began after a write had ended, and saw what was there before.
        let write = Event(operation: .set(1), answer: .value(nil), began: 1, ended: 2)
        let late = Event(operation: .read, answer: .value(nil), began: 3, ended: 4)
        let during = Event(operation: .read, answer: .value(nil), began: 1, ended: 4)
        #expect(valuesAfter([write, late], from: [nil]).isEmpty)
        #expect(valuesAfter([write, during], from: [nil]) == [1])
        // Two removals that both say that they removed the same value.
        let remove = Event(operation: .remove, answer: .value(1), began: 1, ended: 5)
        #expect(valuesAfter([remove, remove], from: [1]).isEmpty)
        // An update that was lost.
        let increment = Event(operation: .increment(from: 0), answer: .value(1), began: 1, ended: 5)
        #expect(valuesAfter([increment, increment], from: [0]).isEmpty)
        #expect(valuesAfter([increment], from: [0, nil, 3]) == [1])
    }
}
