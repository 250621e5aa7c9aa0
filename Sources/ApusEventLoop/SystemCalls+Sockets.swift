package import ApusBase
internal import CLinux
internal import Glibc

/// An option of a socket whose value is an integer.
package enum SocketOption: Sendable {
    case reuseAddress, reusePort, keepAlive, sendBufferBytes, receiveBufferBytes
    /// Only IPv6, or IPv4 as mapped addresses too.
    case ipv6Only
    /// Do not wait for more to send (Nagle's algorithm off).
    case noDelay
    /// How long sent bytes may stay unacknowledged before the connection fails, in milliseconds.
    case userTimeoutMilliseconds
    /// A client's source port is chosen at connect, so that many sockets may share one.
    case bindAddressNoPort

    var levelAndName: (level: CInt, name: CInt) {
        switch self {
        case .reuseAddress: (SOL_SOCKET, SO_REUSEADDR)
        case .reusePort: (SOL_SOCKET, SO_REUSEPORT)
        case .keepAlive: (SOL_SOCKET, SO_KEEPALIVE)
        case .sendBufferBytes: (SOL_SOCKET, SO_SNDBUF)
        case .receiveBufferBytes: (SOL_SOCKET, SO_RCVBUF)
        case .ipv6Only: (CInt(IPPROTO_IPV6), IPV6_V6ONLY)
        case .noDelay: (CInt(IPPROTO_TCP), TCP_NODELAY)
        case .userTimeoutMilliseconds: (CInt(IPPROTO_TCP), TCP_USER_TIMEOUT)
        case .bindAddressNoPort: (CInt(IPPROTO_IP), IP_BIND_ADDRESS_NO_PORT)
        }
    }
}

/// What became of a non-blocking connect.
package enum ConnectResult: Sendable {
    case connected
    /// The descriptor becomes writable when it is decided; `SystemCalls.pendingError` then says how.
    case inProgress
    case failed(SystemError)
}

extension SystemCalls {
    // SAFETY: each pointer is to a local or to the caller's memory and is used only while the call lasts; the kernel
    // keeps none of them.

    /// A stream socket for addresses of this kind: non-blocking, not inherited by children.
    package static func streamSocket(for address: RawSocketAddress) throws(SystemError) -> CInt {
        try attemptOrThrow(.socket) { Int(clinux_stream_socket(address.family)) }
    }

    /// Two connected unix sockets, non-blocking, not inherited by children.
    package static func socketPair() throws(SystemError) -> (CInt, CInt) {
        var pair: (CInt, CInt) = (-1, -1)
        _ = try attemptOrThrow(.socketpair) {
            unsafe withUnsafeMutableBytes(of: &pair) { bytes in
                unsafe Int(clinux_stream_socketpair(bytes.assumingMemoryBound(to: CInt.self).baseAddress))
            }
        }
        return pair
    }

    package static func bind(_ descriptor: CInt, _ address: RawSocketAddress) throws(SystemError) {
        _ = try attemptOrThrow(.bind, address.description) {
            unsafe address.withSocketAddress { pointer, length in unsafe Int(Glibc.bind(descriptor, pointer, length)) }
        }
    }

    package static func listen(_ descriptor: CInt, backlog: CInt) throws(SystemError) {
        _ = try attemptOrThrow(.listen) { Int(Glibc.listen(descriptor, backlog)) }
    }

    /// Takes the next connection: its descriptor, or a negated errno.
    static func accept(_ descriptor: CInt, peer: inout RawSocketAddress) -> Int {
        attempt(.accept) {
            unsafe peer.fill { pointer, length in unsafe Int(clinux_accept(descriptor, pointer, length)) }
        }
    }

    /// Starts to connect a non-blocking socket.
    package static func connect(_ descriptor: CInt, to address: RawSocketAddress) -> ConnectResult {
        // Not repeated after a signal: the attempt goes on in the kernel, a second call would only say EALREADY.
        let result = once(.connect) {
            unsafe address.withSocketAddress { pointer, length in unsafe Int(Glibc.connect(descriptor, pointer, length))
            }
        }
        if result >= 0 { return .connected }
        if result == -Int(EINPROGRESS) || result == -Int(EINTR) { return .inProgress }
        return .failed(failure(.connect, negatedErrno: result, address.description))
    }

    /// What happened to the socket since this was last asked (SO_ERROR); nil if nothing bad.
    package static func pendingError(_ descriptor: CInt, operation: String) -> SystemError? {
        var value: CInt = 0
        var length = socklen_t(MemoryLayout<CInt>.size)
        let result = attempt(.getsockopt) {
            unsafe Int(getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &value, &length))
        }
        if result < 0 { return failure(.getsockopt, negatedErrno: result) }
        return value == 0 ? nil : SystemError(errno: value, operation: operation)
    }

    /// No more will be sent: the peer reads what there is, then the end of the stream.
    package static func shutdownWriting(_ descriptor: CInt) throws(SystemError) {
        _ = try attemptOrThrow(.shutdown) { Int(Glibc.shutdown(descriptor, CInt(SHUT_WR))) }
    }

    /// When the socket is closed, the peer is told so at once (TCP RST), and what it has not taken is dropped: the
    /// kernel would keep it, and try for minutes.
    package static func dropUnsentWhenClosed(_ descriptor: CInt) throws(SystemError) {
        var value = linger(l_onoff: 1, l_linger: 0)
        _ = try attemptOrThrow(.setsockopt, "SO_LINGER") {
            unsafe Int(setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &value, socklen_t(MemoryLayout<linger>.size)))
        }
    }

    /// What the kernel holds of our output, in bytes, and the peer has not taken; 0 when it does not say.
    package static func queuedOutputBytes(of descriptor: CInt) -> Int { max(Int(clinux_queued_output(descriptor)), 0) }

    package static func setOption(
        _ option: SocketOption,
        to value: CInt,
        on descriptor: CInt
    ) throws(SystemError) {
        var value = value
        let (level, name) = option.levelAndName
        _ = try attemptOrThrow(.setsockopt, "\(option)") {
            unsafe Int(setsockopt(descriptor, level, name, &value, socklen_t(MemoryLayout<CInt>.size)))
        }
    }

    package static func option(_ option: SocketOption, of descriptor: CInt) throws(SystemError) -> CInt {
        var value: CInt = 0
        var length = socklen_t(MemoryLayout<CInt>.size)
        let (level, name) = option.levelAndName
        _ = try attemptOrThrow(.getsockopt, "\(option)") {
            unsafe Int(getsockopt(descriptor, level, name, &value, &length))
        }
        return value
    }

    /// The address the socket is bound to.
    package static func localAddress(of descriptor: CInt) throws(SystemError) -> RawSocketAddress {
        var address = RawSocketAddress()
        _ = try attemptOrThrow(.getsockname) {
            unsafe address.fill { pointer, length in
                unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    unsafe Int(getsockname(descriptor, $0, length))
                }
            }
        }
        return address
    }

    /// The address of the other end.
    package static func peerAddress(of descriptor: CInt) throws(SystemError) -> RawSocketAddress {
        var address = RawSocketAddress()
        _ = try attemptOrThrow(.getpeername) {
            unsafe address.fill { pointer, length in
                unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    unsafe Int(getpeername(descriptor, $0, length))
                }
            }
        }
        return address
    }

    /// Who is at the other end of a connected unix socket.
    package static func peerCredentials(of descriptor: CInt) throws(SystemError) -> UnixCredentials {
        var process: Int32 = 0
        var user: UInt32 = 0
        var group: UInt32 = 0
        _ = try attemptOrThrow(.getsockopt, "SO_PEERCRED") {
            unsafe Int(clinux_peer_credentials(descriptor, &process, &user, &group))
        }
        return UnixCredentials(processID: process, userID: user, groupID: group)
    }

    /// Makes a descriptor that somebody else opened fit for a loop: non-blocking, and not inherited by children.
    package static func setNonBlocking(_ descriptor: CInt) throws(SystemError) {
        let flags = try attemptOrThrow(.fcntl) { Int(Glibc.fcntl(descriptor, F_GETFL)) }
        _ = try attemptOrThrow(.fcntl) { Int(Glibc.fcntl(descriptor, F_SETFL, CInt(flags) | O_NONBLOCK)) }
        _ = try attemptOrThrow(.fcntl) { Int(Glibc.fcntl(descriptor, F_SETFD, FD_CLOEXEC)) }
    }

    /// The identity of a file: a path may come to name another.
    struct FileIdentity: Hashable, Sendable {
        var device: UInt64
        var inode: UInt64
    }

    /// Which socket a path names, without following a link; nil if it is no socket or not there.
    static func socketFileIdentity(atPath path: String) -> FileIdentity? {
        var status = stat()
        guard once(.lstat, { unsafe Int(Glibc.lstat(path, &status)) }) == 0, status.st_mode & S_IFMT == S_IFSOCK else {
            return nil
        }
        return FileIdentity(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
    }

    static func unlink(_ path: String) throws(SystemError) {
        _ = try attemptOrThrow(.unlink, path) { unsafe Int(Glibc.unlink(path)) }
    }
}

extension SystemError {
    /// Whether a unix socket refused a connection because too many wait to be accepted: a matter of moments.
    package var isBacklogFull: Bool { errnoValue == EAGAIN }
}
