package import ApusBase
internal import Glibc
internal import Synchronization

/// A bound socket on which connections arrive. Non-blocking; register `descriptor` with a loop to be told of them.
///
/// Thread-safe. It is closed when it is dropped, at the latest.
package final class ListeningSocket: Sendable {
    /// What became of an attempt to take a connection.
    package enum AcceptResult: Sendable {
        /// A connected socket: non-blocking, close-on-exec, TCP_NODELAY where it is TCP. The receiver owns it.
        case connection(CInt, RawSocketAddress)
        case wouldBlock
        /// Connections wait and cannot be taken: the process or the system has no more descriptors or memory. The
        /// socket stays readable, so that a loop would spin on it: pause.
        case failed(SystemError)
    }

    package let descriptor: CInt
    /// Where this socket is; the port is the real one if 0 was asked for.
    package let localAddress: SocketAddress
    private let isInternet: Bool
    /// The file of a unix socket: the path can come to be another's.
    private let file: (path: String, identity: SystemCalls.FileIdentity)?
    private let isClosed = Atomic<Bool>(false)

    /// Errors of one connection that the peer gave up, or of its network, which accept(2) says to skip on Linux.
    private static let transientErrors: Set<CInt> = [
        ECONNABORTED, EPROTO, ENETDOWN, ENOPROTOOPT, EHOSTDOWN, ENONET, EHOSTUNREACH, EOPNOTSUPP, ENETUNREACH,
    ]
    /// How many of those one call skips: the loop must come back to its other work.
    private static let skippedPerAcceptMax = 64

    private init(descriptor: CInt, bound: SocketAddress) throws(SystemError) {
        let local = try SystemCalls.localAddress(of: descriptor)
        self.descriptor = descriptor
        localAddress = local.address
        isInternet = local.isInternet
        if case .unix(let path) = bound, let identity = SystemCalls.socketFileIdentity(atPath: path) {
            file = (path, identity)
        } else {
            file = nil
        }
    }

    deinit { close() }

    /// Binds and listens.
    ///
    /// `::` takes IPv4 as well. The file of a unix socket that nobody listens on any more is replaced; one that
    /// somebody does, and a file that is no socket, give EADDRINUSE.
    ///
    /// - Throws: the error, whose text names the call and the address.
    package static func bind(
        _ address: SocketAddress,
        backlog: Int32 = 4096,
        reusePort: Bool = false
    ) throws(SystemError) -> ListeningSocket {
        let raw = try RawSocketAddress(address)
        let descriptor = try SystemCalls.streamSocket(for: raw)
        do {
            try setOptions(of: descriptor, for: address, reusePort: reusePort)
            try bindReplacingStaleFile(descriptor, raw, address)
            try SystemCalls.listen(descriptor, backlog: backlog)
            return try ListeningSocket(descriptor: descriptor, bound: address)
        } catch {
            SystemCalls.close(descriptor)
            throw error
        }
    }

    private static func setOptions(
        of descriptor: CInt,
        for address: SocketAddress,
        reusePort: Bool
    ) throws(SystemError) {
        switch address {
        case .ipv4, .ipv6:
            try SystemCalls.setOption(.reuseAddress, to: 1, on: descriptor)
            if reusePort { try SystemCalls.setOption(.reusePort, to: 1, on: descriptor) }
        case .unix, .unixAbstract, .unnamed: break
        }
        if case .ipv6 = address {
            // Both families on the wildcard, whatever net.ipv6.bindv6only says; moot for any other address.
            try SystemCalls.setOption(.ipv6Only, to: 0, on: descriptor)
        }
    }

    private static func bindReplacingStaleFile(
        _ descriptor: CInt,
        _ raw: RawSocketAddress,
        _ address: SocketAddress
    ) throws(SystemError) {
        do {
            try SystemCalls.bind(descriptor, raw)
        } catch {
            guard error.errnoValue == EADDRINUSE, case .unix(let path) = address, isStale(path, raw) else {
                throw error
            }
            try SystemCalls.unlink(path)
            try SystemCalls.bind(descriptor, raw)
        }
    }

    /// Whether a path names a socket that nobody listens on, as a process leaves it that was killed.
    private static func isStale(_ path: String, _ raw: RawSocketAddress) -> Bool {
        guard let before = SystemCalls.socketFileIdentity(atPath: path),
            let probe = try? SystemCalls.streamSocket(for: raw)
        else { return false }
        defer { SystemCalls.close(probe) }
        guard case .failed(let error) = SystemCalls.connect(probe, to: raw) else { return false }
        // Another process may be doing the same: what it has bound meanwhile is not the file that was found stale.
        return error.errnoValue == ECONNREFUSED && SystemCalls.socketFileIdentity(atPath: path) == before
    }

    /// Takes the next connection, if there is one.
    package func accept() -> AcceptResult {
        var peer = RawSocketAddress()
        for _ in 0..<Self.skippedPerAcceptMax {
            let result = SystemCalls.accept(descriptor, peer: &peer)
            if result >= 0 {
                let connection = CInt(truncatingIfNeeded: result)
                // It fails only if the peer is gone already, which the first read will tell.
                if isInternet { try? SystemCalls.setOption(.noDelay, to: 1, on: connection) }
                return .connection(connection, peer)
            }
            if result == -Int(EAGAIN) { return .wouldBlock }
            let error = SystemCalls.failure(.accept, negatedErrno: result, localAddress.description)
            if !Self.transientErrors.contains(error.errnoValue) { return .failed(error) }
        }
        return .wouldBlock
    }

    /// Stops to listen: connections that wait are reset. The file of a unix socket goes, if it is still this socket's.
    /// Deregister the descriptor first. Harmless when repeated.
    package func close() {
        if isClosed.exchange(true, ordering: .acquiringAndReleasing) { return }
        // The file first: once the descriptor is closed, a new process may take a file for stale and replace it.
        if let file, SystemCalls.socketFileIdentity(atPath: file.path) == file.identity {
            try? SystemCalls.unlink(file.path)
        }
        SystemCalls.close(descriptor)
    }
}
