public import ApusBase
public import ApusTLS

/// What a handler knows of the call it handles, beside its messages, and what it may add to the answer.
///
/// Thread-safe. None of it blocks or suspends. It may be kept after the handler returned, and then has no effect.
///
/// It stands here and not in `Apus`, because every handler is called with it: across modules that would be one more
/// frame for each call.
public struct CallContext: Sendable {
    let call: ServerCall

    @inline(__always)
    init(_ call: ServerCall) { self.call = call }

    /// The method that was called.
    public var method: MethodDescriptor { call.method.descriptor }

    /// The metadata that came with the call, gRPC's own fields left out.
    public var metadata: Metadata { call.metadata }

    /// The host that the client meant to reach (`:authority`, or `host` without it); empty when it did not say.
    public var authority: String { String(decoding: call.authorityBytes, as: UTF8.self) }

    /// The other end of the connection.
    public var peer: SocketAddress { call.peer.address }

    /// The process at the other end of a unix socket: who called, as the kernel vouches for it. `nil` on TCP.
    public var peerCredentials: UnixCredentials? { call.peer.credentials }

    /// What TLS agreed on with the client, and who it is by its certificate, if it showed one; `nil` in plaintext.
    public var tls: TLSConnectionInfo? { call.peer.tls }

    /// How long the client still waits, down to zero; `nil` when it set no deadline.
    public var timeRemaining: Duration? { call.timeRemaining }

    /// Whether nobody waits for the answer: the client cancelled, its deadline passed, or the connection was lost.
    ///
    /// The handler's task is cancelled at the same moment; this is for code that runs outside of it.
    public var isCancelled: Bool { call.isOver }

    /// Adds metadata that goes out ahead of the first message. After that it has no effect.
    ///
    /// Metadata that HTTP/2 cannot carry (``Metadata/firstProblem``) ends the call with `INTERNAL`.
    public func addInitialMetadata(_ metadata: Metadata) { call.addInitialMetadata(metadata) }

    /// Sends the initial metadata now rather than with the first message.
    public func sendInitialMetadata() { call.sendInitialMetadata() }

    /// Adds metadata that goes out with the status, be it OK or an error.
    ///
    /// Metadata that HTTP/2 cannot carry (``Metadata/firstProblem``) ends the call with `INTERNAL`.
    public func addTrailers(_ metadata: Metadata) { call.addTrailers(metadata) }

    /// What a codec threw, as the client is told.
    @usableFromInline
    package func codecError(_ message: String, _ cause: any Error) -> RPCError {
        if let error = cause as? RPCError { return error }
        return RPCError(code: .internal, message: message, cause: cause)
    }

    /// The next message, when it is there already: the usual case in a busy stream, without an asynchronous frame.
    @usableFromInline
    package func messageNow() -> [UInt8]? { call.messageNow() }

    @usableFromInline
    package func nextMessage() async throws(RPCError) -> [UInt8]? { try await call.nextMessage()?.bytes }

    /// The next message, and whether it came compressed.
    package func nextReceived() async throws(RPCError) -> ReceivedBytes? { try await call.nextMessage() }

    /// Queues a message as it is, whatever the encoding of the others, and waits while the queue is full.
    package func writeUncompressed(_ message: [UInt8]) async throws(RPCError) {
        try await call.writeUncompressed(message)
    }

    /// Queues a message, and waits while the queue is full.
    package func write(_ message: [UInt8]) async throws(RPCError) { try await call.write(message) }

    /// Queues a message, and says whether more may follow at once; when not, ``finishWriting(_:)`` waits.
    @usableFromInline
    package func writeNow(_ message: [UInt8]) throws(RPCError) -> WriteResult { try call.writeNow(message) }

    @usableFromInline
    package func finishWriting(_ message: [UInt8], _ result: WriteResult) async throws(RPCError) {
        try await call.finishWriting(message, result)
    }
}
