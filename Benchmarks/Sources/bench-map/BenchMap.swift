internal import CPinning
import Glibc
import Synchronization

/// Measures one map under one load, and prints nanoseconds per read and per write of one thread, first those that
/// passed, then those that the thread was running: `9.12 61.40 9.10 61.35`, with `-` for what nobody did.
///
///     bench-map MAP FORM KEYS READERS WRITERS MILLISECONDS
///
/// MAP is concurrent, mutex, rwlock or plain; FORM u64, borrowed or copied; KEYS uniform or hot. Reader i is pinned to
/// core i, writers to the cores behind.
@main
enum BenchMap {
    static func main() {
        let arguments = CommandLine.arguments.dropFirst()
        guard arguments.count == 6, let load = Load(Array(arguments.dropFirst(2))),
            let subject = subject(Array(arguments.prefix(2)))
        else {
            print("usage: bench-map MAP FORM uniform|hot READERS WRITERS MILLISECONDS")
            exit(2)
        }
        run(subject, load)
    }

    private static func subject(_ words: [String]) -> (any Subject.Type)? {
        switch words {
        case ["concurrent", "u64"]: ConcurrentNumbers.self
        case ["concurrent", "borrowed"]: ConcurrentBorrowed.self
        case ["concurrent", "copied"]: ConcurrentCopied.self
        case ["mutex", "u64"]: MutexNumbers.self
        case ["mutex", "borrowed"]: MutexBorrowed.self
        case ["mutex", "copied"]: MutexCopied.self
        case ["rwlock", "u64"]: LockedNumbers.self
        case ["rwlock", "borrowed"]: LockedBorrowed.self
        case ["rwlock", "copied"]: LockedCopied.self
        case ["plain", "u64"]: PlainNumbers.self
        case ["plain", "borrowed"]: PlainBorrowed.self
        case ["plain", "copied"]: PlainCopied.self
        default: nil
        }
    }

    /// Opens the type, so that the loops below are specialised for it.
    private static func run(_ type: any Subject.Type, _ load: Load) {
        switch type {
        case let type as ConcurrentNumbers.Type: measure(type, load)
        case let type as ConcurrentBorrowed.Type: measure(type, load)
        case let type as ConcurrentCopied.Type: measure(type, load)
        case let type as MutexNumbers.Type: measure(type, load)
        case let type as MutexBorrowed.Type: measure(type, load)
        case let type as MutexCopied.Type: measure(type, load)
        case let type as LockedNumbers.Type: measure(type, load)
        case let type as LockedBorrowed.Type: measure(type, load)
        case let type as LockedCopied.Type: measure(type, load)
        case let type as PlainNumbers.Type: measure(type, load)
        case let type as PlainBorrowed.Type: measure(type, load)
        case let type as PlainCopied.Type: measure(type, load)
        default: exit(2)
        }
    }

    @inline(__always)
    private static func measure<Map: Subject>(_: Map.Type, _ load: Load) {
        let map = Map(keys: load.keyCount)
        let run = Run(map, load)
        var threads: [pthread_t] = []
        for index in 0..<load.readers + load.writers {
            threads.append(startThread(onCore: index) { index < load.readers ? run.read(index) : run.write(index) })
        }
        for thread in threads { pthread_join(thread, nil) }
        let (reads, writes, sum) = run.results.withLock { ($0.reads, $0.writes, $0.sum) }
        if sum == 1 { print("", terminator: "") }
        print(
            mean(reads.map(\.wall)),
            mean(writes.map(\.wall)),
            mean(reads.map(\.processor)),
            mean(writes.map(\.processor))
        )
    }

    private static func mean(_ times: [Double]) -> String {
        guard !times.isEmpty else { return "-" }
        let hundredths = Int(times.reduce(0, +) / Double(times.count) * 100)
        let fraction = "\(hundredths % 100)"
        return "\(hundredths / 100)." + (fraction.count == 1 ? "0" : "") + fraction
    }
}

struct Load: Sendable {
    let isHot: Bool
    let readers: Int
    let writers: Int
    let milliseconds: Int

    let keyCount: UInt64 = 10_000

    init?(_ words: [String]) {
        guard let readers = Int(words[1]), let writers = Int(words[2]), let milliseconds = Int(words[3]),
            ["uniform", "hot"].contains(words[0])
        else { return nil }
        self.isHot = words[0] == "hot"
        self.readers = readers
        self.writers = writers
        self.milliseconds = milliseconds
    }
}

/// One measurement: its threads' loops and what they found. Threads begin together and end by the clock, without being
/// told, so that it also works where they have the cores for themselves.
final class Run<Map: Subject>: Sendable {
    private let map: Map
    private let load: Load
    private let waiting: Atomic<Int>
    let results = Mutex((reads: [Time](), writes: [Time](), sum: UInt64(0)))

    init(_ map: Map, _ load: Load) {
        self.map = map
        self.load = load
        waiting = Atomic(load.readers + load.writers)
    }

    func read(_ index: Int) {
        var sum: UInt64 = 0
        let time = timePerCall(index) { key, _ in sum &+= map.read(key) }
        results.withLock {
            $0.reads.append(time)
            $0.sum &+= sum
        }
    }

    func write(_ index: Int) {
        let time = timePerCall(index) { key, count in map.write(key, count) }
        results.withLock { $0.writes.append(time) }
    }

    /// Calls with keys as the load wants them until it is over.
    @inline(__always)
    private func timePerCall(_ index: Int, _ call: (UInt64, UInt64) -> Void) -> Time {
        var random = 0x9E37_79B9_7F4A_7C15 &* UInt64(index + 1)
        var count: UInt64 = 0
        waiting.subtract(1, ordering: .sequentiallyConsistent)
        while waiting.load(ordering: .sequentiallyConsistent) > 0 {}
        let start = Time.now()
        let end = start.wall + Double(load.milliseconds) * 1e6
        while Time.now().wall < end {
            for _ in 0..<1000 {
                // Marsaglia's xorshift; the same in each of the programs.
                random ^= random << 13
                random ^= random >> 7
                random ^= random << 17
                let key = load.isHot ? 42 : random.multipliedFullWidth(by: load.keyCount).high
                count &+= 1
                call(key, count)
            }
        }
        return Time.now().since(start, over: Double(count))
    }
}

/// Nanoseconds that passed, and that a thread was running.
struct Time: Sendable {
    let wall: Double
    let processor: Double

    static func now() -> Time {
        Time(wall: nanoseconds(CLOCK_MONOTONIC), processor: nanoseconds(CLOCK_THREAD_CPUTIME_ID))
    }

    func since(_ start: Time, over count: Double) -> Time {
        Time(wall: (wall - start.wall) / count, processor: (processor - start.processor) / count)
    }

    private static func nanoseconds(_ clock: clockid_t) -> Double {
        var time = timespec()
        clock_gettime(clock, &time)
        return Double(time.tv_sec) * 1e9 + Double(time.tv_nsec)
    }
}

private final class Body {
    let core: Int
    let run: () -> Void

    init(_ core: Int, _ run: @escaping () -> Void) {
        self.core = core
        self.run = run
    }
}

private func startThread(onCore core: Int, _ run: @escaping @Sendable () -> Void) -> pthread_t {
    var thread = pthread_t()
    pthread_create(
        &thread,
        nil,
        { context in
            guard let context else { return nil }
            let body = Unmanaged<Body>.fromOpaque(context).takeRetainedValue()
            // A core that is not there: the thread runs where the kernel likes.
            _ = cpinning_pin(Int32(body.core))
            body.run()
            return nil
        },
        Unmanaged.passRetained(Body(core, run)).toOpaque()
    )
    return thread
}
