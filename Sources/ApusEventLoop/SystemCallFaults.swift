#if DEBUG
    internal import ApusBase
    internal import Synchronization

    /// Has the system calls of one loop fail, as a test wants them to. There in debug builds alone, so that a release
    /// build pays nothing for it.
    ///
    /// It takes effect for what the loop's thread calls, from `init` to `lift()` or its own end, and counts all of it.
    /// Thread-safe.
    package final class SystemCallFaults: Sendable {
        package enum Fault: Hashable, Sendable {
            /// The call is not made, and answers this errno.
            case fail(CInt)
            /// A read or a send moves at most so many bytes.
            case atMost(bytes: Int)
        }

        private struct Plan {
            var fault: Fault
            /// How often it is still to happen.
            var times: Int
        }

        private struct State {
            var plans: [SystemCalls.Name: Plan] = [:]
            var counts: [SystemCalls.Name: Int] = [:]
        }

        private static let installed = Lock<[ObjectIdentifier: SystemCallFaults]>([:])
        /// Whether there is any, so that a debug build without faults only looks here.
        private static let isArmed = Atomic<Bool>(false)

        private let state = Lock(State())
        private let loop: ObjectIdentifier

        package init(on loop: EventLoop) {
            self.loop = ObjectIdentifier(loop)
            Self.installed.withLock { $0[self.loop] = self }
            Self.isArmed.store(true, ordering: .releasing)
        }

        /// Ends all faults, and the counting.
        package func lift() {
            Self.installed.withLock { installed in
                installed[loop] = nil
                if installed.isEmpty { Self.isArmed.store(false, ordering: .relaxed) }
            }
        }

        /// From here on the call fails, so many times.
        package func inject(_ fault: Fault, into name: SystemCalls.Name, times: Int = .max) {
            state.withLock { $0.plans[name] = Plan(fault: fault, times: times) }
        }

        /// The call works again.
        package func end(_ name: SystemCalls.Name) { state.withLock { $0.plans[name] = nil } }

        /// How often the loop has made the call, or was about to.
        package func count(of name: SystemCalls.Name) -> Int { state.withLock { $0.counts[name] ?? 0 } }

        // MARK: For the funnel

        /// The errno that the call is to answer.
        @inline(__always)
        static func error(for name: SystemCalls.Name) -> CInt? {
            guard isArmed.load(ordering: .acquiring), case .fail(let error) = next(name) else { return nil }
            return error
        }

        /// The bytes that the call is to move at most; asked before ``error(for:)``, and not counted.
        @inline(__always)
        static func limit(_ count: Int, _ name: SystemCalls.Name) -> Int {
            guard isArmed.load(ordering: .acquiring), let faults = current,
                case .atMost(let bytes)? = faults.state.withLock({ $0.plans[name]?.fault })
            else { return count }
            return min(count, bytes)
        }

        private static var current: SystemCallFaults? {
            guard let loop = EventLoop.current else { return nil }
            return installed.withLock { $0[ObjectIdentifier(loop)] }
        }

        private static func next(_ name: SystemCalls.Name) -> Fault? {
            current?.state.withLock { state in
                state.counts[name, default: 0] += 1
                guard let plan = state.plans[name] else { return nil }
                state.plans[name] = plan.times > 1 ? Plan(fault: plan.fault, times: plan.times - 1) : nil
                return plan.fault
            }
        }
    }
#endif
