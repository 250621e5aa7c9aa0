import Glibc
import Synchronization

/// Runs a body on threads of their own, which begin together, and waits for all. pthreads, because the thread sanitizer
/// sees those begin and end.
func onThreads(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) {
    let waiting = Shared(count)
    let threads = (0..<count).map { index in
        startThread {
            waiting.value.subtract(1, ordering: .acquiringAndReleasing)
            while waiting.value.load(ordering: .acquiring) > 0 { sched_yield() }
            body(index)
        }
    }
    for thread in threads { join(thread) }
}

/// A number that several threads use.
final class Shared: Sendable {
    let value: Atomic<Int>

    init(_ value: Int = 0) { self.value = Atomic(value) }

    var now: Int { value.load(ordering: .sequentiallyConsistent) }

    /// Waits until it is at least a number.
    func wait(for least: Int) {
        while now < least { usleep(100) }
    }

    @discardableResult
    func increment() -> Int { value.add(1, ordering: .sequentiallyConsistent).newValue }
}

private final class Body {
    let run: @Sendable () -> Void

    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
}

/// A thread that was started; to be joined.
struct TestThread: @unchecked Sendable {
    // A pthread_t may be used from any thread.
    fileprivate let thread: pthread_t
}

func startThread(_ run: @escaping @Sendable () -> Void) -> TestThread {
    var thread = pthread_t()
    // SAFETY: the context is a retained object, which the thread takes over.
    let result = unsafe pthread_create(
        &thread,
        nil,
        { context in
            if let context = unsafe context { unsafe Unmanaged<Body>.fromOpaque(context).takeRetainedValue().run() }
            return nil
        },
        Unmanaged.passRetained(Body(run)).toOpaque()
    )
    precondition(result == 0, "no thread could be started")
    return TestThread(thread: thread)
}

func join(_ thread: TestThread) {
    pthread_join(thread.thread, nil)
}

/// Numbers that look random and are the same for the same seed (Marsaglia's xorshift).
struct Random: RandomNumberGenerator {
    private var state: UInt64

    init(seed: Int) {
        state = 0x9E37_79B9_7F4A_7C15 &* (UInt64(bitPattern: Int64(seed)) &+ 1)
        if state == 0 { state = 1 }
        for _ in 0..<8 { _ = next() }
    }

    mutating func next() -> UInt64 {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return state
    }

    mutating func below(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &self) }
}

/// How much the tests do: more where `APUS_LONG_TESTS` is set, as `scripts/test --full` does, less under a sanitizer.
enum Effort {
    // SAFETY: nobody changes the environment of the tests.
    static let isLong: Bool = unsafe getenv("APUS_LONG_TESTS") != nil
    static let isSanitized: Bool = unsafe getenv("APUS_SANITIZER") != nil

    static func times(_ count: Int) -> Int { count * (isLong ? 20 : 1) / (isSanitized ? 4 : 1) }
}

/// fork(2), which Swift hides; the caller knows what a child may do.
func forkProcess() -> pid_t {
    // SAFETY: the symbol is that of a function without arguments.
    guard let symbol = unsafe dlsym(nil, "fork") else { return -1 }
    return unsafe unsafeBitCast(symbol, to: (@convention(c) () -> pid_t).self)()
}

/// Waits for a process to end; its exit status.
func exitStatus(of process: pid_t) -> CInt {
    var status: CInt = 0
    // SAFETY: the status lives through the call.
    _ = unsafe waitpid(process, &status, 0)
    return (status >> 8) & 0xFF
}
