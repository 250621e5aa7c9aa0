internal import Foundation
internal import Glibc

/// A port of 127.0.0.1 on which a test waits for clients, to answer them frame by frame.
package final class FrameServer: Sendable {
    package let port: UInt16
    private let descriptor: Int32
    private static let patienceMilliseconds: Int32 = 30_000

    package convenience init() throws { try self.init(backlog: 64) }

    private init(backlog: Int32?) throws {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        // SAFETY: the address is a local of the size given, which the second call fills in.
        let bound = unsafe withUnsafeMutableBytes(of: &address) { raw in
            var size = socklen_t(raw.count)
            let start = unsafe raw.assumingMemoryBound(to: sockaddr.self).baseAddress
            guard let start = unsafe start, unsafe bind(descriptor, start, size) == 0 else { return false }
            if let backlog, listen(descriptor, backlog) != 0 { return false }
            return unsafe getsockname(descriptor, start, &size) == 0
        }
        guard descriptor >= 0, bound else { throw BlockingClient.Failure.systemCall("listen", errno: errno) }
        self.descriptor = descriptor
        port = UInt16(bigEndian: address.sin_port)
    }

    deinit { close(descriptor) }

    /// A port of 127.0.0.1 that is taken and that nobody listens on: who connects is refused. Taken for good, so that
    /// it does not become another test's.
    package static func refusingPort() throws -> UInt16 {
        let server = try FrameServer(backlog: nil)
        // SAFETY: a reference is added, and never followed or taken away.
        _ = unsafe Unmanaged.passRetained(server)
        return server.port
    }

    /// A port of 127.0.0.1 that neither accepts nor refuses, as that of a host that is switched off: the one client
    /// that it has room for is there already, and the kernel drops what others send.
    package static func silentPort() throws -> UInt16 {
        let server = try FrameServer(backlog: 0)
        _ = try BlockingClient.connect(port: server.port)
        // SAFETY: as above.
        _ = unsafe Unmanaged.passRetained(server)
        return server.port
    }

    /// Whether a client has connected that was not accepted.
    package var hasWaitingClient: Bool { isReady(within: 0) }

    private func isReady(within milliseconds: Int32) -> Bool {
        var poll = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        // SAFETY: one local structure.
        return unsafe Glibc.poll(&poll, 1, milliseconds) > 0
    }

    /// The next client, which is sent `opening` and whose SETTINGS are acknowledged; with an empty one it is sent
    /// nothing. Blocks the thread.
    package func acceptBlocking(opening: [Frame] = [.settings()]) throws -> FrameConnection {
        guard isReady(within: Self.patienceMilliseconds) else {
            throw BlockingClient.Failure.tooLong(waitingFor: "a client")
        }
        let accepted = Glibc.accept(descriptor, nil, nil)
        guard accepted >= 0 else { throw BlockingClient.Failure.systemCall("accept", errno: errno) }
        // A frame behind another must not wait for the client's acknowledgement of the first.
        var one: Int32 = 1
        // SAFETY: the option is a local of the size given.
        _ = unsafe setsockopt(accepted, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
        let connection = FrameConnection(descriptor: accepted)
        if opening.isEmpty { return connection }
        // What the client asks for holds once it is acknowledged.
        try connection.waitBlocking(for: "the client's SETTINGS") { $0.settings != nil }
        try connection.send(opening + [.settingsAck])
        return connection
    }

    /// The same, for a task.
    package func accept(opening: [Frame] = [.settings()]) async throws -> FrameConnection {
        try await onOtherThread { try self.acceptBlocking(opening: opening) }
    }
}

/// The server's end of a connection: shows what the client sends, and sends what a test says.
///
/// Used by one task or thread at a time; Sendable for that reason.
package final class FrameConnection: @unchecked Sendable {
    package let input = ClientOutput()
    /// Whether the client has closed its direction, or the connection was lost.
    package private(set) var isClosed = false

    private var descriptor: Int32
    private var pingsSent = 0
    private var pingsAnswered = 0
    private static let patienceMilliseconds: Int32 = 30_000

    package init(descriptor: Int32) { self.descriptor = descriptor }

    deinit { close() }

    /// Closes the socket; with `reset`, so that the client sees ECONNRESET.
    package func close(reset: Bool = false) {
        guard descriptor >= 0 else { return }
        if reset {
            var linger = linger(l_onoff: 1, l_linger: 0)
            // SAFETY: the structure is a local of the size given.
            _ = unsafe setsockopt(
                descriptor,
                SOL_SOCKET,
                SO_LINGER,
                &linger,
                socklen_t(MemoryLayout.size(ofValue: linger))
            )
        }
        _ = Glibc.close(descriptor)
        descriptor = -1
        isClosed = true
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
            if count < 0 { throw BlockingClient.Failure.systemCall("send", errno: errno) }
            sent += count
        }
    }

    /// Answers a call: a head, messages, and trailers.
    package func answer(_ stream: UInt32, _ messages: String..., head: Fields = [:], trailers: Fields = [:]) throws {
        let body = messages.flatMap { framed(Array($0.utf8)) }
        var frames = [Frame.headers(stream, .responseHead + head)]
        if !body.isEmpty { frames.append(.data(stream, body)) }
        frames.append(.headers(stream, .trailers() + trailers, endStream: true))
        try send(frames)
    }

    /// Ends a call with a head that is all there is.
    package func refuse(_ stream: UInt32, _ status: Int, _ message: String = "") throws {
        try send(.headers(stream, .responseHead + .trailers(status, message), endStream: true))
    }

    /// Answers each call, once it has sent all, with its own messages, until the connection ends; blocks the thread.
    package func echoBlocking() {
        var seen = 0
        while (try? waitBlocking(for: "a frame") { $0.frames.count > seen }) != nil {
            while seen < input.frames.count {
                let frame = input.frames[seen]
                seen += 1
                let isLast = frame.type == Frame.data && frame.flags & Frame.endStreamFlag != 0
                guard isLast, request(frame.stream).reset == nil else { continue }
                var frames = [Frame.headers(frame.stream, .responseHead)]
                if !request(frame.stream).body.isEmpty {
                    frames.append(.data(frame.stream, request(frame.stream).body))
                }
                try? send(frames + [.headers(frame.stream, .trailers(), endStream: true)])
            }
        }
    }

    /// Acknowledges the client's PINGs that have been read and not been answered.
    package func answerPings() throws {
        for payload in input.pings[pingsAnswered...] {
            try send(Frame(type: Frame.ping, flags: Frame.ackFlag, payload: payload))
        }
        pingsAnswered = input.pings.count
    }

    // MARK: Receiving

    package func request(_ stream: UInt32) -> Request { input.requests[stream] ?? Request() }

    /// Reads until something is so; blocks the thread.
    package func waitBlocking(for what: String, until isSo: (ClientOutput) -> Bool) throws {
        while !isSo(input) {
            if isClosed { throw BlockingClient.Failure.closed }
            try read(what)
        }
    }

    /// Reads until something is so.
    package func wait(for what: String, until isSo: @escaping @Sendable (ClientOutput) -> Bool) async throws {
        if isSo(input) { return }
        try await onOtherThread { try self.waitBlocking(for: what, until: isSo) }
    }

    /// Reads until the client has sent all of a request, or has given it up.
    @discardableResult
    package func waitForEnd(of stream: UInt32) async throws -> Request {
        try await wait(for: "the end of stream \(stream)") { $0.requests[stream]?.isOver == true }
        return request(stream)
    }

    /// Reads until the client has opened a stream.
    @discardableResult
    package func waitForHead(of stream: UInt32) async throws -> Request {
        try await wait(for: "the head of stream \(stream)") { $0.requests[stream]?.head != nil }
        return request(stream)
    }

    /// Reads until the client has reset a stream, and gives the code.
    @discardableResult
    package func waitForReset(of stream: UInt32) async throws -> UInt32? {
        try await wait(for: "the reset of stream \(stream)") { $0.requests[stream]?.reset != nil }
        return request(stream).reset
    }

    /// Reads until the client has read all that was sent to it, and has sent all that follows from it.
    package func roundTrip() async throws {
        pingsSent += 1
        let count = pingsSent
        try send(.ping("rt\(count)"))
        try await wait(for: "the answer to a PING") { $0.pingAcks.count >= count }
    }

    /// Reads what has come, without waiting for more.
    package func readWhatIsThere() {
        while !isClosed, (try? read("what is there", patience: 0)) != nil {}
    }

    /// Reads until the client closes the connection.
    package func waitUntilClosed() async throws {
        try await onOtherThread { while !self.isClosed { try self.read("the connection's end") } }
    }

    private func read(_ what: String, patience: Int32 = FrameConnection.patienceMilliseconds) throws {
        var poll = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        // SAFETY: one local structure; below, a local buffer of the size given.
        let ready = unsafe Glibc.poll(&poll, 1, patience)
        if ready == 0 { throw BlockingClient.Failure.tooLong(waitingFor: what) }
        if ready < 0 { return }
        var buffer = [UInt8](repeating: 0, count: 65_536)
        let count = unsafe Glibc.read(descriptor, &buffer, buffer.count)
        guard count > 0 else {
            if count < 0, errno == EINTR { return }
            isClosed = true
            return
        }
        input.feed(buffer[..<count])
    }
}

extension Fields {
    /// The head of an ordinary response.
    package static let responseHead: Fields = [":status": "200", "content-type": "application/grpc"]

    /// The trailers of a response.
    package static func trailers(_ status: Int = 0, _ message: String = "") -> Fields {
        message.isEmpty ? ["grpc-status": "\(status)"] : ["grpc-status": "\(status)", "grpc-message": message]
    }
}

/// Runs what blocks on a thread of its own. The lock is for the thread sanitizer, which does not see that a
/// continuation hands over what the thread did.
private func onOtherThread<Result: Sendable>(_ body: @escaping @Sendable () throws -> Result) async throws -> Result {
    let lock = NSLock()
    let result = try await onThread {
        defer { lock.withLock {} }
        return try body()
    }
    lock.withLock {}
    return result
}
