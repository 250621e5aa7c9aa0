import ApusBase
import ApusTLS
import Glibc
import TestSupport
import Testing

@testable import ApusEventLoop
@testable import ApusTransport

/// Handshakes whose cryptography takes milliseconds, while the threads for such work are kept busy by the test.
@Suite("A handshake with a slow key", .serialized)
struct SlowHandshakeTests {
    @Test("does not run on the loop, and ends once a thread has taken it", arguments: ["server-4096"])
    func leavesTheLoop(certificate: String) async throws {
        try await withServer(certificate) { server in
            let threads = BusyThreads()
            let client = try server.connect()
            try client.sayHello()
            await server.settle()
            #expect(!client.hasBytes, "the server has answered, and no thread but its loop could have")
            threads.release()
            #expect(try await onThread { try client.finishHandshake() } == "h2")
        }
    }

    @Test("with a fast key needs no thread but the loop")
    func staysOnTheLoop() async throws {
        try await withServer("server") { server in
            let threads = BusyThreads()
            let client = try server.connect()
            #expect(try await onThread { try client.finishHandshake() } == "h2")
            threads.release()
        }
    }

    @Test("whose client leaves meanwhile leaves nothing")
    func clientLeaves() async throws {
        try await withServer("server-4096") { server in
            let threads = BusyThreads()
            for _ in 0..<50 {
                let client = try server.connect()
                try client.sayHello()
                await server.settle()
                client.hangUp()
            }
            threads.release()
            #expect(await server.becomesIdle())
            let client = try server.connect()
            #expect(try await onThread { try client.finishHandshake() } == "h2")
        }
    }

    @Test("that is under way when the server stops ends with it")
    func serverStops() async throws {
        let threads = BusyThreads()
        try await withServer("server-4096") { server in
            let client = try server.connect()
            try client.sayHello()
            await server.settle()
            server.core.stop()
            #expect(try await onThread { try client.isClosed() })
        }
        threads.release()
    }
}

/// Fills the threads for work off the loops until it is told otherwise.
private final class BusyThreads: Sendable {
    private let end = Signal()

    init() {
        let processors = Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))
        let begun = (0..<processors).map { _ in Signal() }
        for signal in begun {
            OffLoopThreads.submit { [end] in
                signal.send()
                // Longer than any pause of a busy machine: before it ends nothing may be taken.
                _ = end.block(seconds: 600)
            }
        }
        for signal in begun { _ = signal.block() }
    }

    func release() { end.send() }
}

private final class SecuredServer: Sendable {
    let loop: EventLoop
    let core: ServerCore
    private let trust: TLSContext

    init(_ certificate: String) throws {
        let pair = TLSCredentials.pem(
            chainFile: TestCertificates.path("\(certificate).pem"),
            keyFile: TestCertificates.path("\(certificate).key")
        )
        let source = try TLSContextSource { () throws(TLSError) in try TLSContext(ServerTLS(credentials: [pair])) }
        var client = ClientTLS()
        client.trustRoots = .file(TestCertificates.path("ca.pem"))
        trust = try TLSContext(client)
        loop = try EventLoop(name: "test-loop", logger: silentLogger)
        var limits = ServerLimits()
        // Not what is tested here, and the machine may be busy.
        limits.handshakeTimeout = .seconds(120)
        core = ServerCore(
            methods: echoMethods,
            limits: limits,
            loops: [loop],
            tls: source,
            logger: silentLogger
        )
    }

    func connect() throws -> HandshakingClient {
        let (ours, theirs) = try BlockingClient.socketPair()
        try core.adopt(theirs)
        return HandshakingClient(ours, try TLSSession(client: trust, host: "localhost"))
    }

    /// The loop has read what was sent to it before.
    func settle() async { for _ in 0..<5 { await loop.settle() } }

    func becomesIdle() async -> Bool {
        for _ in 0..<10_000 where core.connections > 0 { await loop.settle() }
        return core.connections == 0
    }
}

/// A client that does a handshake and nothing else. Used by one thread at a time, and Sendable for that reason.
private final class HandshakingClient: @unchecked Sendable {
    private var descriptor: CInt
    private let session: TLSSession

    init(_ descriptor: CInt, _ session: TLSSession) {
        self.descriptor = descriptor
        self.session = session
    }

    deinit { hangUp() }

    func hangUp() {
        if descriptor >= 0 { close(descriptor) }
        descriptor = -1
    }

    func sayHello() throws {
        _ = session.startHandshake()
        try write()
    }

    /// Whether the server has sent something, or closed.
    var hasBytes: Bool {
        var poll = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        // SAFETY: one local structure.
        return unsafe Glibc.poll(&poll, 1, 0) > 0
    }

    /// The protocol agreed on; blocks.
    func finishHandshake() throws -> String? {
        try sayHello()
        while case .handshaking = session.state {
            guard try read() else { return "closed" }
            try write()
        }
        return session.info?.applicationProtocol
    }

    /// Whether the server closes the connection; blocks until it says something.
    func isClosed() throws -> Bool { try !read() }

    private func read() throws -> Bool {
        var bytes = [UInt8](repeating: 0, count: 65_536)
        var plaintext = bytes
        // SAFETY: the arrays outlive the calls.
        let count = unsafe Glibc.read(descriptor, &bytes, bytes.count)
        guard count > 0 else { return false }
        unsafe bytes.withUnsafeBytes { bytes in
            unsafe plaintext.withUnsafeMutableBytes {
                _ = unsafe session.receive(UnsafeRawBufferPointer(rebasing: bytes[..<count]), plaintext: $0) { _ in }
            }
        }
        return true
    }

    private func write() throws {
        var room = [UInt8](repeating: 0, count: 65_536)
        while session.hasOutput {
            // SAFETY: the array outlives the calls.
            let written = unsafe room.withUnsafeMutableBytes { room in
                unsafe session.encrypt(UnsafeRawBufferPointer(start: nil, count: 0), into: room).written
            }
            guard unsafe Glibc.write(descriptor, room, written) == written else { return }
        }
    }
}

private func withServer(_ certificate: String, _ body: (SecuredServer) async throws -> Void) async throws {
    let server = try SecuredServer(certificate)
    var failure: (any Error)?
    do { try await body(server) } catch { failure = error }
    server.core.stop()
    await server.loop.settle()
    server.loop.stop()
    let isJoined = try await onThread { server.loop.join() }
    #expect(isJoined)
    if let failure { throw failure }
}
