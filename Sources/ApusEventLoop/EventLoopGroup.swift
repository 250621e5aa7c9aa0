public import ApusBase
internal import CLinux
internal import Glibc
public import Logging
internal import Synchronization

/// A set of event loops: threads on which servers and channels live.
///
/// Thread-safe. What is given no group of its own shares one for the process. A group that is dropped stops its
/// threads.
public final class EventLoopGroup: Sendable {
    /// The process' own: a thread for each processor this process may run on, started when first used. It lives as
    /// long as the process, and `shutdown` leaves it alone.
    public static let shared = EventLoopGroup(sharedWithLogger: Logger(label: "apus"))

    package let loops: [EventLoop]
    private let isShared: Bool
    private let nextIndex = Atomic<UInt>(0)

    /// Starts a group of its own.
    ///
    /// - Parameters:
    ///   - threads: how many loops, each with its thread; at least 1.
    ///   - logger: told when something holds a loop up.
    /// - Throws: EINVAL for fewer than one thread; else what kept the kernel from giving a thread or a descriptor.
    public convenience init(threads: Int, logger: Logger = Logger(label: "apus")) throws(SystemError) {
        guard threads >= 1 else {
            let operation = "start an event loop group of \(threads) threads: it needs at least 1"
            throw SystemError(errno: EINVAL, operation: operation)
        }
        try self.init(threads: threads, clock: MonotonicClock(), configuration: .init(), logger: logger)
    }

    /// Starts a group of its own whose loops read the given clock.
    package init(
        threads: Int,
        clock: any LoopClock,
        configuration: EventLoop.Configuration = .init(),
        logger: Logger
    ) throws(SystemError) {
        var loops: [EventLoop] = []
        for index in 0..<max(threads, 1) {
            do {
                let name = Self.name(index)
                loops.append(try EventLoop(name: name, clock: clock, configuration: configuration, logger: logger))
            } catch {
                for loop in loops { loop.stop() }
                throw error
            }
        }
        self.loops = loops
        isShared = false
    }

    /// The shared group has nobody to throw to: it makes do with the threads it gets, and with none, its one loop
    /// refuses all work and says why.
    private init(sharedWithLogger logger: Logger) {
        var loops: [EventLoop] = []
        for index in 0..<Int(clinux_processor_count()) {
            do {
                loops.append(try EventLoop(name: Self.name(index), logger: logger))
            } catch {
                logger.critical("cannot start a thread of the shared event loops", metadata: ["error": "\(error)"])
                if loops.isEmpty {
                    loops = [EventLoop(name: Self.name(index), unstartable: error, logger: logger)]
                }
                break
            }
        }
        self.loops = loops
        isShared = true
    }

    deinit {
        for loop in loops { loop.stop() }
    }

    private static func name(_ index: Int) -> String { "apus-loop-\(index)" }

    /// The loop with the fewest connections; among equals, each in turn.
    package func leastLoaded() -> EventLoop {
        var best = next()
        var fewest = best.connectionCount.load(ordering: .relaxed)
        for loop in loops {
            let count = loop.connectionCount.load(ordering: .relaxed)
            if count < fewest { (best, fewest) = (loop, count) }
        }
        return best
    }

    /// Each loop in turn.
    package func next() -> EventLoop {
        let index = nextIndex.add(1, ordering: .relaxed).oldValue
        return loops[Int(index % UInt(loops.count))]
    }

    /// Stops the threads of a group of its own and waits until they have ended: they finish what is queued. Blocks.
    /// On a thread of the group it only stops them. Harmless when repeated; does nothing to the shared group.
    public func shutdown() {
        if isShared { return }
        for loop in loops { loop.stop() }
        if loops.contains(where: \.isCurrent) { return }
        for loop in loops { loop.join() }
    }
}
