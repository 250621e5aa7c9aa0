import ApusBase
import Glibc
import Testing

@testable import ApusEventLoop

/// A path that no other test uses.
private func freshPath() -> String {
    "/tmp/apus-test-\(getpid())-\(UInt32.random(in: 0 ... .max)).sock"
}

private func exists(_ path: String) -> Bool {
    // SAFETY: the string lives until the call returns.
    unsafe access(path, F_OK) == 0
}

private func createFile(_ path: String) {
    // SAFETY: the string lives until the call returns.
    unsafe SystemCalls.close(open(path, O_CREAT | O_WRONLY, 0o600))
}

private func remove(_ path: String) {
    // SAFETY: the string lives until the call returns.
    _ = unsafe unlink(path)
}

/// Connects to a listener and answers both ends: that of the client and that of the server.
private func connect(to listener: ListeningSocket) throws -> (client: CInt, server: CInt, peer: SocketAddress) {
    let address = try RawSocketAddress(listener.localAddress)
    let client = try SystemCalls.streamSocket(for: address)
    switch SystemCalls.connect(client, to: address) {
    case .connected, .inProgress: break
    case .failed(let error): throw error
    }
    for _ in 0..<2000 {
        switch listener.accept() {
        case .connection(let server, let peer): return (client, server, peer.address)
        case .wouldBlock: usleep(1000)
        case .failed(let error): throw error
        }
    }
    throw SystemError(errno: ETIMEDOUT, operation: "accept")
}

struct ListeningSocketTests {
    @Test func `a listener on IPv4 says which port it got and who connects`() throws {
        let listener = try ListeningSocket.bind(.ipv4(host: "127.0.0.1", port: 0))
        guard case .ipv4("127.0.0.1", let port) = listener.localAddress else {
            Issue.record("\(listener.localAddress)")
            return
        }
        #expect(port != 0)
        let (client, server, peer) = try connect(to: listener)
        #expect(try SystemCalls.localAddress(of: client).address == peer)
        #expect(try SystemCalls.peerAddress(of: client).address == listener.localAddress)
        #expect(try SystemCalls.option(.noDelay, of: server) != 0)
        #expect(SystemCalls.pendingError(client, operation: "connect") == nil)
        #expect(fcntl(server, F_GETFD) & FD_CLOEXEC != 0)
        #expect(fcntl(server, F_GETFL) & O_NONBLOCK != 0)
        SystemCalls.close(client)
        SystemCalls.close(server)
    }

    @Test func `a listener on IPv6 takes connections`() throws {
        let listener = try ListeningSocket.bind(.ipv6(host: "::1", port: 0))
        let (client, server, peer) = try connect(to: listener)
        guard case .ipv6("::1", _) = peer else {
            Issue.record("\(peer)")
            return
        }
        SystemCalls.close(client)
        SystemCalls.close(server)
    }

    @Test func `a listener on the IPv6 wildcard takes IPv4 as well`() throws {
        let listener = try ListeningSocket.bind(.ipv6(host: "::", port: 0))
        guard case .ipv6(_, let port) = listener.localAddress else { return }
        let address = try RawSocketAddress(.ipv4(host: "127.0.0.1", port: port))
        let client = try SystemCalls.streamSocket(for: address)
        defer { SystemCalls.close(client) }
        if case .failed(let error) = SystemCalls.connect(client, to: address) { throw error }
    }

    @Test func `a port in use is an error that names the call, the address and the cause`() throws {
        let first = try ListeningSocket.bind(.ipv4(host: "127.0.0.1", port: 0))
        let error = #expect(throws: SystemError.self) { try ListeningSocket.bind(first.localAddress) }
        #expect(error?.description == "bind \(first.localAddress): Address already in use (errno 98)")
    }

    @Test func `two listeners share a port if both ask for it`() throws {
        let first = try ListeningSocket.bind(.ipv4(host: "127.0.0.1", port: 0), reusePort: true)
        let second = try ListeningSocket.bind(first.localAddress, reusePort: true)
        #expect(second.localAddress == first.localAddress)
    }

    @Test func `a unix socket has a file, until it is closed`() throws {
        let path = freshPath()
        let listener = try ListeningSocket.bind(.unix(path: path))
        #expect(listener.localAddress == .unix(path: path))
        let (client, server, peer) = try connect(to: listener)
        #expect(peer == .unnamed)
        SystemCalls.close(client)
        SystemCalls.close(server)
        #expect(exists(path))
        listener.close()
        listener.close()
        #expect(!exists(path))
    }

    @Test func `an abstract unix socket has no file`() throws {
        let name = String(freshPath().dropFirst())
        let listener = try ListeningSocket.bind(.unixAbstract(name: name))
        #expect(listener.localAddress == .unixAbstract(name: name))
        let (client, server, _) = try connect(to: listener)
        #expect(try SystemCalls.peerAddress(of: client).address == .unixAbstract(name: name))
        SystemCalls.close(client)
        SystemCalls.close(server)
        let error = #expect(throws: SystemError.self) { try ListeningSocket.bind(.unixAbstract(name: name)) }
        #expect(error?.errnoValue == EADDRINUSE)
    }

    @Test func `the file of a listener that is gone is replaced`() throws {
        let path = freshPath()
        // Bound and closed without the file being removed, as by a process that was killed.
        let raw = try RawSocketAddress(.unix(path: path))
        let stale = try SystemCalls.streamSocket(for: raw)
        try SystemCalls.bind(stale, raw)
        try SystemCalls.listen(stale, backlog: 1)
        SystemCalls.close(stale)
        #expect(exists(path))
        let listener = try ListeningSocket.bind(.unix(path: path))
        let (client, server, _) = try connect(to: listener)
        SystemCalls.close(client)
        SystemCalls.close(server)
    }

    @Test func `the file of a listener that is alive is left alone`() throws {
        let path = freshPath()
        let first = try ListeningSocket.bind(.unix(path: path))
        let error = #expect(throws: SystemError.self) { try ListeningSocket.bind(.unix(path: path)) }
        #expect(error?.description == "bind unix:\(path): Address already in use (errno 98)")
        let (client, server, _) = try connect(to: first)
        SystemCalls.close(client)
        SystemCalls.close(server)
    }

    @Test func `a file that is no socket is left alone`() throws {
        let path = freshPath()
        createFile(path)
        defer { remove(path) }
        let error = #expect(throws: SystemError.self) { try ListeningSocket.bind(.unix(path: path)) }
        #expect(error?.errnoValue == EADDRINUSE)
        #expect(exists(path))
    }

    @Test func `closing removes only a file that is still the listener's own`() throws {
        let path = freshPath()
        let first = try ListeningSocket.bind(.unix(path: path))
        remove(path)
        let second = try ListeningSocket.bind(.unix(path: path))
        first.close()
        #expect(exists(path))
        second.close()
        #expect(!exists(path))
    }

    @Test func `a loop tells that connections have come`() async throws {
        try await withLoop { loop in
            let listener = try ListeningSocket.bind(.ipv4(host: "127.0.0.1", port: 0))
            let address = try RawSocketAddress(listener.localAddress)
            let client = try SystemCalls.streamSocket(for: address)
            defer { SystemCalls.close(client) }
            let accepted: CInt? = try await withCheckedThrowingContinuation { continuation in
                loop.execute {
                    let registration = Confined<EventLoop.Registration?>(nil)
                    let handler = ReadinessClosure { _ in
                        guard case .connection(let connection, _) = listener.accept() else { return }
                        if let registration = registration.value { loop.deregister(registration) }
                        continuation.resume(returning: connection)
                    }
                    do {
                        registration.value = try loop.register(listener.descriptor, interest: .read, handler: handler)
                    } catch {
                        continuation.resume(throwing: error)
                    }
                    if case .failed(let error) = SystemCalls.connect(client, to: address) {
                        Issue.record(error)
                    }
                }
            }
            SystemCalls.close(try #require(accepted))
        }
    }
}

struct RawSocketAddressTests {
    @Test(
        arguments: [
            .ipv4(host: "127.0.0.1", port: 50051), .ipv4(host: "255.255.255.255", port: 65_535),
            .ipv6(host: "::1", port: 1), .ipv6(host: "2001:db8::8a2e:370:7334", port: 443),
            .ipv6(host: "fe80::1%lo", port: 80), .unix(path: "/run/echo.sock"),
            .unix(path: String(repeating: "p", count: 107)), .unixAbstract(name: "echo"),
            .unixAbstract(name: String(repeating: "n", count: 107)),
        ] as [SocketAddress]
    )
    func `an address comes back as it was`(address: SocketAddress) throws {
        let raw = try RawSocketAddress(address)
        #expect(raw.address == address)
    }

    @Test(
        arguments: [
            (.ipv4(host: "localhost", port: 1), "not an IPv4 address: \"localhost\""),
            (.ipv4(host: "", port: 1), "not an IPv4 address"),
            (.ipv6(host: "127.0.0.1", port: 1), "not an IPv6 address: \"127.0.0.1\""),
            (.ipv6(host: "fe80::1%no-such-if", port: 1), "no network interface \"no-such-if\""),
            (.unix(path: ""), "the path of a unix socket is empty"),
            (.unix(path: String(repeating: "p", count: 108)), "the path of a unix socket has 108 bytes, more than 107"),
            (.unixAbstract(name: String(repeating: "n", count: 108)), "has 108 bytes, more than 107"),
            (.unnamed, "has no address to use"),
        ] as [(SocketAddress, String)]
    )
    func `what is no address is an error that says so`(address: SocketAddress, text: String) throws {
        let error = #expect(throws: SystemError.self) { try RawSocketAddress(address) }
        #expect(error?.errnoValue == EINVAL)
        #expect(error?.description.contains(text) == true)
    }

    @Test func `a NUL cuts no address short`() throws {
        #expect(throws: SystemError.self) { try RawSocketAddress(.ipv4(host: "127.0.0.1\0x", port: 1)) }
        #expect(throws: SystemError.self) { try RawSocketAddress(.ipv6(host: "::1\0x", port: 1)) }
        #expect(throws: SystemError.self) { try RawSocketAddress(.unix(path: "/tmp/a\0b")) }
        // A name of the abstract namespace may have one anywhere.
        let address = SocketAddress.unixAbstract(name: "with a \0 in it")
        #expect(try RawSocketAddress(address).address == address)
    }
}
