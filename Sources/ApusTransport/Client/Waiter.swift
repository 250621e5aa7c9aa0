internal import CLinux

/// Who waits for something in a call: a task, or a thread that blocks. Woken exactly once.
enum Waiter: Sendable {
    case none
    case task(Suspension<Void>)
    case thread(ThreadParker)

    var isWaiting: Bool { if case .none = self { false } else { true } }

    @inline(__always)
    func wake() {
        switch self {
        case .none: break
        case .task(let suspension): suspension.resume()
        case .thread(let parker): parker.unpark()
        }
    }

    mutating func take() -> Waiter {
        let waiter = self
        self = .none
        return waiter
    }
}

/// Puts a thread to sleep until another wakes it. What the other did before is seen by the one that was woken.
///
/// Sendable, because the one word it consists of is changed atomically. One thread parks at a time.
@safe
final class ThreadParker: @unchecked Sendable {
    // SAFETY: allocated in `init` and freed in `deinit`; whoever parks or unparks holds this object.
    private let word: UnsafeMutablePointer<UInt32>

    init() {
        unsafe word = .allocate(capacity: 1)
        unsafe word.initialize(to: 0)
    }

    deinit { unsafe word.deallocate() }

    func park() { unsafe clinux_park(word) }

    func unpark() { unsafe clinux_unpark(word) }
}
