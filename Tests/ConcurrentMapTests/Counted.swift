import Synchronization

/// Counts the objects that exist.
final class Tally: Sendable {
    private let alive = Atomic(0)
    private let made = Atomic(0)

    var aliveCount: Int { alive.load(ordering: .sequentiallyConsistent) }
    var madeCount: Int { made.load(ordering: .sequentiallyConsistent) }

    fileprivate func begin() {
        alive.add(1, ordering: .relaxed)
        made.add(1, ordering: .relaxed)
    }

    fileprivate func end() { alive.subtract(1, ordering: .sequentiallyConsistent) }
}

/// A value that is counted, and that can tell whether it was released while somebody still reads it.
final class Counted: Sendable, Equatable {
    let number: Int
    private let tally: Tally
    private let mark = Atomic(Counted.intact)
    private let atDeinit: (@Sendable () -> Void)?

    private static let intact: UInt64 = 0x600D_600D_600D_600D

    init(_ number: Int, _ tally: Tally, atDeinit: (@Sendable () -> Void)? = nil) {
        self.number = number
        self.tally = tally
        self.atDeinit = atDeinit
        tally.begin()
    }

    deinit {
        mark.store(0xDEAD, ordering: .relaxed)
        tally.end()
        atDeinit?()
    }

    var isIntact: Bool { mark.load(ordering: .relaxed) == Self.intact }

    static func == (left: Counted, right: Counted) -> Bool { left.number == right.number }
}

/// A key all of whose hashes are the same.
struct Colliding: Hashable, Sendable {
    let number: Int

    func hash(into hasher: inout Hasher) { hasher.combine(0) }
}

/// A key of a reference type, compared by its number.
final class KeyObject: Hashable, Sendable {
    let number: Int
    private let counted: Counted

    init(_ number: Int, _ tally: Tally) {
        self.number = number
        counted = Counted(number, tally)
    }

    static func == (left: KeyObject, right: KeyObject) -> Bool {
        precondition(left.counted.isIntact && right.counted.isIntact, "a key was compared after its release")
        return left.number == right.number
    }

    func hash(into hasher: inout Hasher) { hasher.combine(number) }
}
