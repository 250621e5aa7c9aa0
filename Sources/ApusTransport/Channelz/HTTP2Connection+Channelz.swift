internal import ApusBase
internal import ApusEventLoop
internal import ApusTLS

// What channelz shows of a connection; on its loop.

extension HTTP2Connection {
    /// - Parameter withOptions: whether the kernel is asked for the socket's options, one call for each.
    final func snapshot(withOptions: Bool) -> SocketSnapshot {
        let isOpen = phase != .closed
        var socket = SocketSnapshot(id: channelzID, name: remoteAddress.description)
        socket.local = isOpen ? (try? SystemCalls.localAddress(of: descriptor)).map { SocketEndpoint($0) } : nil
        socket.remote = SocketEndpoint(remoteAddress)
        socket.counts = counts(WallClock(loop.clock))
        socket.counts.keepalivesSent = keepalivesSent
        socket.sendWindowBytes = framer.sendWindowBytes
        socket.receiveWindowBytes = framer.receiveWindowBytes
        if isSecured { socket.security = tls?.summary }
        if withOptions, isOpen {
            socket.options = SystemCalls.shownOptions(of: descriptor)
            socket.tcp = SystemCalls.tcpInfo(of: descriptor)
        }
        return socket
    }
}

extension SystemCalls {
    /// The options that tell something about how a socket does, as channelz names them.
    fileprivate static func shownOptions(of descriptor: CInt) -> [(name: String, value: String)] {
        let shown: [(String, SocketOption)] = [
            ("SO_SNDBUF", .sendBufferBytes), ("SO_RCVBUF", .receiveBufferBytes), ("TCP_NODELAY", .noDelay),
            ("TCP_USER_TIMEOUT", .userTimeoutMilliseconds),
        ]
        // Those of TCP are unknown to a unix socket.
        return shown.compactMap { name, option in (try? self.option(option, of: descriptor)).map { (name, "\($0)") } }
    }
}

extension ListenSocket {
    /// From anywhere.
    func snapshot(withOptions: Bool) async -> SocketSnapshot {
        var socket = SocketSnapshot(id: channelzID, name: address.description, local: SocketEndpoint(address))
        if withOptions {
            socket.options = await loop.ask { self.descriptor.map { SystemCalls.shownOptions(of: $0) } ?? [] } ?? []
        }
        return socket
    }
}
