package import ApusBase
internal import Glibc

/// A host that could not be looked up: which, and why.
package struct NameResolutionError: Error, Hashable, Sendable, CustomStringConvertible {
    package let host: String
    /// In words, as getaddrinfo or the kernel puts it.
    package let cause: String
    /// Whether a later attempt may do better: no name server answered, or it was cancelled.
    package let isTransient: Bool

    package var description: String { "look up host \"\(host)\": \(cause)" }
}

/// Looks up the addresses of hosts.
package enum NameResolver {
    /// The addresses of a host, in the order in which getaddrinfo gives them (RFC 6724), which is the order to try
    /// them in.
    ///
    /// A host in numbers is answered at once. Anything else runs getaddrinfo, which blocks, on a thread of its own:
    /// never on a loop nor on the cooperative pool. A cancelled task gets its error at once; the look-up it gave up
    /// ends by itself.
    package static func resolve(host: String, port: UInt16) async throws(NameResolutionError) -> [SocketAddress] {
        if let address = numericAddress(host: host, port: port) { return [address] }
        if host.isEmpty || host.utf8.contains(0) {
            throw NameResolutionError(host: host, cause: "not a host name", isTransient: false)
        }
        let request = Request(host: host, port: port)
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                request.wait(continuation)
                LookupThreads.submit(request)
            }
        } onCancel: {
            request.finish(
                .failure(NameResolutionError(host: host, cause: "the task was cancelled", isTransient: true))
            )
        }
        return try result.get()
    }

    /// The address that a host in numbers is; nil if it is a name.
    package static func numericAddress(host: String, port: UInt16) -> SocketAddress? {
        for address in [SocketAddress.ipv4(host: host, port: port), .ipv6(host: host, port: port)] {
            // Through the raw form, for one spelling of each address.
            if let raw = try? RawSocketAddress(address) { return raw.address }
        }
        return nil
    }

    typealias Outcome = Result<[SocketAddress], NameResolutionError>

    /// One look-up, finished once, by its thread or by a cancellation.
    fileprivate final class Request: Sendable {
        let host: String
        let port: UInt16
        private let state = Lock(State.started)

        private enum State {
            case started
            case waiting(CheckedContinuation<Outcome, Never>)
            case finished(Outcome)
        }

        init(host: String, port: UInt16) {
            self.host = host
            self.port = port
        }

        var isFinished: Bool {
            state.withLock { state in
                if case .finished = state { true } else { false }
            }
        }

        func wait(_ continuation: CheckedContinuation<Outcome, Never>) {
            let early: Outcome? = state.withLock { state in
                if case .finished(let outcome) = state { return outcome }
                state = .waiting(continuation)
                return nil
            }
            if let early { continuation.resume(returning: early) }
        }

        func finish(_ outcome: Outcome) {
            let continuation: CheckedContinuation<Outcome, Never>? = state.withLock { state in
                defer { if case .finished = state {} else { state = .finished(outcome) } }
                if case .waiting(let continuation) = state { return continuation }
                return nil
            }
            continuation?.resume(returning: outcome)
        }
    }

    /// Runs getaddrinfo. Blocks.
    fileprivate static func lookUp(host: String, port: UInt16) -> Outcome {
        // SAFETY: getaddrinfo's list is read while it lives, which is until freeaddrinfo at the end of the scope.
        var hints = unsafe addrinfo()
        unsafe hints.ai_family = AF_UNSPEC
        unsafe hints.ai_socktype = CInt(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        let code = unsafe getaddrinfo(host, nil, &hints, &list)
        let systemErrno = errno
        if code != 0 { return .failure(failure(host: host, code: code, systemErrno: systemErrno)) }
        defer { unsafe freeaddrinfo(list) }

        var addresses: [SocketAddress] = []
        var entry = unsafe list
        while let current = unsafe entry {
            unsafe entry = current.pointee.ai_next
            guard let pointer = unsafe current.pointee.ai_addr,
                let raw = unsafe RawSocketAddress(copying: pointer, length: current.pointee.ai_addrlen)
            else { continue }
            switch raw.address {
            case .ipv4(let host, _): addresses.append(.ipv4(host: host, port: port))
            case .ipv6(let host, _): addresses.append(.ipv6(host: host, port: port))
            case .unix, .unixAbstract, .unnamed: continue
            }
        }
        if addresses.isEmpty {
            return .failure(NameResolutionError(host: host, cause: "it has no address", isTransient: false))
        }
        return .success(addresses)
    }

    private static func failure(host: String, code: CInt, systemErrno: CInt) -> NameResolutionError {
        if code == EAI_SYSTEM {
            let cause = SystemError(errno: systemErrno, operation: "getaddrinfo").description
            return NameResolutionError(host: host, cause: cause, isTransient: true)
        }
        // SAFETY: gai_strerror answers a constant string.
        let cause = unsafe gai_strerror(code).map { unsafe String(cString: $0) } ?? "error \(code)"
        let isTransient = code == EAI_AGAIN || code == EAI_MEMORY
        return NameResolutionError(host: host, cause: cause, isTransient: isTransient)
    }
}

/// The threads that run getaddrinfo: started as needed, gone when there is nothing left to look up.
private enum LookupThreads {
    /// A name server that does not answer holds a thread for tens of seconds: more look-ups than this wait.
    private static let threadsMax = 16

    private struct State {
        var threadCount = 0
        /// Each is that of a suspended caller, which is what bounds them.
        var waiting: [NameResolver.Request] = []
    }

    private static let state = Lock(State())

    static func submit(_ request: NameResolver.Request) {
        let startsThread = state.withLock { state in
            state.waiting.append(request)
            if state.threadCount >= threadsMax { return false }
            state.threadCount += 1
            return true
        }
        guard startsThread else { return }
        do {
            _ = try LoopThread(name: "apus-resolve", isDetached: true) { run() }
        } catch {
            fail(error)
        }
    }

    private static func run() {
        while let request = next() {
            if request.isFinished { continue }
            request.finish(NameResolver.lookUp(host: request.host, port: request.port))
        }
    }

    /// The next request; nil, and one thread fewer, if there is none.
    private static func next() -> NameResolver.Request? {
        state.withLock { state in
            if !state.waiting.isEmpty { return state.waiting.removeFirst() }
            state.threadCount -= 1
            return nil
        }
    }

    /// No thread could be started. If others run they take what waits; else nobody will.
    private static func fail(_ error: SystemError) {
        let abandoned = state.withLock { state in
            state.threadCount -= 1
            if state.threadCount > 0 { return [NameResolver.Request]() }
            defer { state.waiting = [] }
            return state.waiting
        }
        for request in abandoned {
            let cause = error.description
            request.finish(.failure(NameResolutionError(host: request.host, cause: cause, isTransient: true)))
        }
    }
}
