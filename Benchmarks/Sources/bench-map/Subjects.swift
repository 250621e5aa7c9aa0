import ConcurrentMap
import Glibc
import Synchronization

/// A map to be measured. `read` answers a number that depends on the value, so that it cannot be left out.
protocol Subject: AnyObject, Sendable {
    init(keys: UInt64)
    func read(_ key: UInt64) -> UInt64
    func write(_ key: UInt64, _ number: UInt64)
}

/// A value of a reference type.
final class Box: Sendable {
    let number: UInt64

    init(_ number: UInt64) { self.number = number }
}

final class ConcurrentNumbers: Subject {
    private let map = ConcurrentMap<UInt64, UInt64>()

    init(keys: UInt64) { for key in 0..<keys { map[key] = key } }
    func read(_ key: UInt64) -> UInt64 { map[key] ?? 0 }
    func write(_ key: UInt64, _ number: UInt64) { map[key] = number }
}

/// Unchecked, because a class that has subclasses cannot be checked; so for the others below.
class ConcurrentBoxes: @unchecked Sendable {
    fileprivate let map = ConcurrentMap<UInt64, Box>()

    required init(keys: UInt64) { for key in 0..<keys { map[key] = Box(key) } }
    final func write(_ key: UInt64, _ number: UInt64) { map[key] = Box(number) }
}

/// Unchecked as the class that it is one of.
final class ConcurrentBorrowed: ConcurrentBoxes, Subject, @unchecked Sendable {
    func read(_ key: UInt64) -> UInt64 { map.withValue(forKey: key) { $0.number } ?? 0 }
}

/// Unchecked as the class that it is one of.
final class ConcurrentCopied: ConcurrentBoxes, Subject, @unchecked Sendable {
    func read(_ key: UInt64) -> UInt64 { copied(map[key]) }
}

/// Keeps the compiler from turning a copy into a borrow.
@inline(never)
func copied(_ box: consuming Box?) -> UInt64 { box?.number ?? 0 }

final class MutexNumbers: Subject {
    private let map: Mutex<[UInt64: UInt64]>

    init(keys: UInt64) { map = Mutex(Dictionary(uniqueKeysWithValues: (0..<keys).map { ($0, $0) })) }
    func read(_ key: UInt64) -> UInt64 { map.withLock { $0[key] ?? 0 } }
    func write(_ key: UInt64, _ number: UInt64) { map.withLock { $0[key] = number } }
}

/// Unchecked as `ConcurrentBoxes`.
class MutexBoxes: @unchecked Sendable {
    fileprivate let map: Mutex<[UInt64: Box]>

    required init(keys: UInt64) { map = Mutex(Dictionary(uniqueKeysWithValues: (0..<keys).map { ($0, Box($0)) })) }
    final func write(_ key: UInt64, _ number: UInt64) {
        let box = Box(number)
        map.withLock { $0[key] = box }
    }
}

/// Unchecked as the class that it is one of.
final class MutexBorrowed: MutexBoxes, Subject, @unchecked Sendable {
    func read(_ key: UInt64) -> UInt64 { map.withLock { $0[key]?.number ?? 0 } }
}

/// Unchecked as the class that it is one of.
final class MutexCopied: MutexBoxes, Subject, @unchecked Sendable {
    func read(_ key: UInt64) -> UInt64 { copied(map.withLock { $0[key] }) }
}

/// A Dictionary under pthread's read-write lock, which the compiler does not know: hence unchecked.
class LockedDictionary<Value: Sendable>: @unchecked Sendable {
    private let lock = UnsafeMutablePointer<pthread_rwlock_t>.allocate(capacity: 1)
    private var map: [UInt64: Value] = [:]

    init(keys: UInt64, _ value: (UInt64) -> Value) {
        pthread_rwlock_init(lock, nil)
        for key in 0..<keys { map[key] = value(key) }
    }

    @inline(__always)
    final func reading<Result>(_ body: ([UInt64: Value]) -> Result) -> Result {
        pthread_rwlock_rdlock(lock)
        defer { pthread_rwlock_unlock(lock) }
        return body(map)
    }

    @inline(__always)
    final func set(_ key: UInt64, _ value: Value) {
        pthread_rwlock_wrlock(lock)
        defer { pthread_rwlock_unlock(lock) }
        map[key] = value
    }
}

/// Unchecked as the class that it is one of.
final class LockedNumbers: LockedDictionary<UInt64>, Subject, @unchecked Sendable {
    init(keys: UInt64) { super.init(keys: keys) { $0 } }
    func read(_ key: UInt64) -> UInt64 { reading { $0[key] ?? 0 } }
    func write(_ key: UInt64, _ number: UInt64) { set(key, number) }
}

/// Unchecked as the class that it is one of.
final class LockedBorrowed: LockedDictionary<Box>, Subject, @unchecked Sendable {
    init(keys: UInt64) { super.init(keys: keys) { Box($0) } }
    func read(_ key: UInt64) -> UInt64 { reading { $0[key]?.number ?? 0 } }
    func write(_ key: UInt64, _ number: UInt64) { set(key, Box(number)) }
}

/// Unchecked as the class that it is one of.
final class LockedCopied: LockedDictionary<Box>, Subject, @unchecked Sendable {
    init(keys: UInt64) { super.init(keys: keys) { Box($0) } }
    func read(_ key: UInt64) -> UInt64 { copied(reading { $0[key] }) }
    func write(_ key: UInt64, _ number: UInt64) { set(key, Box(number)) }
}

/// A Dictionary without any lock, the yardstick of a search. Unchecked: it is for one thread only.
final class PlainNumbers: Subject, @unchecked Sendable {
    private var map: [UInt64: UInt64]

    init(keys: UInt64) { map = Dictionary(uniqueKeysWithValues: (0..<keys).map { ($0, $0) }) }
    func read(_ key: UInt64) -> UInt64 { map[key] ?? 0 }
    func write(_ key: UInt64, _ number: UInt64) { map[key] = number }
}

/// Unchecked, for it has no lock: for one thread only.
final class PlainBorrowed: Subject, @unchecked Sendable {
    private var map: [UInt64: Box]

    init(keys: UInt64) { map = Dictionary(uniqueKeysWithValues: (0..<keys).map { ($0, Box($0)) }) }
    func read(_ key: UInt64) -> UInt64 { map[key]?.number ?? 0 }
    func write(_ key: UInt64, _ number: UInt64) { map[key] = Box(number) }
}

/// Unchecked, for it has no lock: for one thread only.
final class PlainCopied: Subject, @unchecked Sendable {
    private var map: [UInt64: Box]

    init(keys: UInt64) { map = Dictionary(uniqueKeysWithValues: (0..<keys).map { ($0, Box($0)) }) }
    func read(_ key: UInt64) -> UInt64 { copied(map[key]) }
    func write(_ key: UInt64, _ number: UInt64) { map[key] = Box(number) }
}
