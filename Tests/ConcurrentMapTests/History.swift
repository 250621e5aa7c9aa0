/// What one thread did to a key, and when: between two instants of a clock that all threads share.
struct Event: Sendable, Hashable {
    enum Operation: Sendable, Hashable {
        case read
        case set(Int)
        case insert(Int)
        case remove
        case compareExchange(expected: Int?, desired: Int?)
        /// Adds 1 to what is there, or begins with a number.
        case increment(from: Int)
    }

    enum Answer: Sendable, Hashable {
        case value(Int?)
        case done(Bool)
        case exchange(Bool, Int?)
    }

    let operation: Operation
    let answer: Answer
    let began: Int
    let ended: Int

    /// The value after the operation, if it answers so on a value; nil if it would answer otherwise.
    func apply(to value: Int?) -> Int?? {
        switch (operation, answer) {
        case (.read, .value(let seen)): seen == value ? .some(value) : nil
        case (.set(let new), .value(let old)): old == value ? .some(new) : nil
        case (.insert(let new), .done(let inserted)): inserted == (value == nil) ? .some(value ?? new) : nil
        case (.remove, .value(let old)): old == value ? .some(nil) : nil
        case (.compareExchange(let expected, let desired), .exchange(let exchanged, let original)):
            original == value && exchanged == (value == expected) ? .some(exchanged ? desired : value) : nil
        case (.increment(let first), .value(let new)):
            new == value.map { $0 + 1 } ?? first ? .some(new) : nil
        default: nil
        }
    }
}

/// The values that a key may have after the events, given those that it may have had before: those of all orders in
/// which each event that ended before another began comes before it, and in which each answer is that of a single
/// variable (Wing and Gong's search, with a memory of what was tried). Empty if there is no such order.
func valuesAfter(_ events: [Event], from initial: Set<Int?>) -> Set<Int?> {
    precondition(events.count <= 63)
    struct State: Hashable {
        var done: UInt64
        var value: Int?
    }
    let all = (UInt64(1) << UInt64(events.count)) - 1
    var open = initial.map { State(done: 0, value: $0) }
    var seen = Set(open)
    while let state = open.popLast() {
        let pending = events.indices.filter { state.done & (1 << UInt64($0)) == 0 }
        let firstEnd = pending.map { events[$0].ended }.min() ?? 0
        for index in pending where events[index].began < firstEnd {
            guard let value = events[index].apply(to: state.value) else { continue }
            let next = State(done: state.done | (1 << UInt64(index)), value: value)
            if seen.insert(next).inserted { open.append(next) }
        }
    }
    return Set(seen.filter { $0.done == all }.map(\.value))
}
