internal import Glibc

/// The client's end of a connection, for tests: it blocks its thread, and shows the frames as they are.
package final class BlockingClient {
    package enum Failure: Error, Equatable {
        case systemCall(String, errno: Int32)
        /// The server closed the connection while something was waited for.
        case closed
        case tooLong(waitingFor: String)
    }

    package let output = ServerOutput()
    /// Whether the server has closed its direction, or the connection was lost.
    package private(set) var isClosed = false
    /// Whether PINGs of the server are answered.
    package var answersPings = true

    private let descriptor: Int32
    private var nextStream: UInt32 = 1
    private var answeredPings = 0
    private static let patienceMilliseconds: Int32 = 30_000

    /// Takes over a connected socket and sends the preface.
    package init(descriptor: Int32, opening: [Frame] = Frame.openingWithLargeWindows) throws {
        self.descriptor = descriptor
        try send(bytes: Frame.preface + opening.bytes)
    }

    deinit { close(descriptor) }

    // MARK: Connecting

    /// Two connected sockets; both block.
    package static func socketPair() throws -> (Int32, Int32) {
        var pair: [Int32] = [-1, -1]
        // SAFETY: the array has room for the two descriptors.
        try check("socketpair", unsafe socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair))
        return (pair[0], pair[1])
    }

    /// A socket connected to a port of 127.0.0.1.
    package static func connect(port: UInt16) throws -> Int32 {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        return try connect(AF_INET, address)
    }

    /// A socket connected to the unix socket at a path.
    package static func connect(path: String) throws -> Int32 {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        // SAFETY: the copy is bounded by the target, which is zeroed and keeps its last byte.
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { target in
            unsafe UnsafeMutableRawBufferPointer(rebasing: target.dropLast()).copyBytes(from: path.utf8)
        }
        return try connect(AF_UNIX, address)
    }

    private static func connect<Address>(_ family: Int32, _ address: Address) throws -> Int32 {
        let descriptor = socket(family, Int32(SOCK_STREAM.rawValue), 0)
        try check("socket", descriptor)
        // SAFETY: the address is a local of the size given.
        let result = unsafe withUnsafeBytes(of: address) { raw in
            let start = unsafe raw.assumingMemoryBound(to: sockaddr.self).baseAddress
            return unsafe Glibc.connect(descriptor, start, socklen_t(raw.count))
        }
        do { try check("connect", result) } catch {
            close(descriptor)
            throw error
        }
        return descriptor
    }

    private static func check(_ call: String, _ result: Int32) throws {
        if result < 0 { throw Failure.systemCall(call, errno: errno) }
    }

    // MARK: Sending

    package func send(_ frames: Frame...) throws { try send(bytes: frames.bytes) }

    package func send(_ frames: [Frame]) throws { try send(bytes: frames.bytes) }

    package func send(bytes: [UInt8]) throws {
        var sent = 0
        while sent < bytes.count {
            // SAFETY: the slice lies in the array, which lives through the call. 0x4000 is MSG_NOSIGNAL.
            let count = unsafe bytes.withUnsafeBytes { raw in
                let rest = unsafe UnsafeRawBufferPointer(rebasing: raw[sent...])
                return unsafe Glibc.send(descriptor, rest.baseAddress, rest.count, 0x4000)
            }
            if count < 0, errno == EINTR { continue }
            try Self.check("send", Int32(truncatingIfNeeded: count))
            sent += count
        }
    }

    /// Tells the server that no more comes.
    package func closeWriting() { _ = shutdown(descriptor, Int32(SHUT_WR)) }

    // MARK: Receiving

    package func answer(_ stream: UInt32) -> Answer { output.answers[stream] ?? Answer() }

    /// Reads until something is so.
    package func wait(for what: String, until isSo: (ServerOutput) -> Bool) throws {
        while !isSo(output) {
            if isClosed { throw Failure.closed }
            try read(what)
        }
    }

    /// Reads until the server has ended a stream.
    @discardableResult
    package func waitForEnd(of stream: UInt32) throws -> Answer {
        try wait(for: "the end of stream \(stream)") { $0.answers[stream]?.isOver == true }
        return answer(stream)
    }

    /// Reads until the server closes the connection.
    package func waitUntilClosed() throws {
        while !isClosed { try read("the connection's end") }
    }

    private func read(_ what: String) throws {
        var poll = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        // SAFETY: one local structure; below, a local buffer of the size given.
        let ready = unsafe Glibc.poll(&poll, 1, Self.patienceMilliseconds)
        if ready == 0 { throw Failure.tooLong(waitingFor: what) }
        if ready < 0 { return }
        var buffer = [UInt8](repeating: 0, count: 65_536)
        let count = unsafe Glibc.read(descriptor, &buffer, buffer.count)
        guard count > 0 else {
            if count < 0, errno == EINTR { return }
            isClosed = true
            return
        }
        output.feed(buffer[..<count])
        try answerPings()
    }

    private func answerPings() throws {
        guard answersPings else { return }
        while answeredPings < output.pings.count {
            let payload = output.pings[answeredPings]
            answeredPings += 1
            // The server may have gone since.
            try? send(Frame(type: Frame.ping, flags: Frame.ackFlag, payload: payload))
        }
    }

    // MARK: Calls

    /// A stream that no call had before.
    package func newStream() -> UInt32 {
        defer { nextStream += 2 }
        return nextStream
    }

    /// Opens a call; its messages follow by ``send(_:)``.
    package func open(_ path: String, _ fields: Fields = [:]) throws -> UInt32 {
        let stream = newStream()
        try send(.headers(stream, .request(path, fields)))
        return stream
    }

    /// Makes a call with the messages given, and waits for its end.
    package func call(_ path: String, _ messages: [String] = ["x"], _ fields: Fields = [:]) throws -> Answer {
        let stream = try open(path, fields)
        let body = messages.flatMap { framed(Array($0.utf8)) }
        try send(.data(stream, body, endStream: true))
        return try waitForEnd(of: stream)
    }
}
