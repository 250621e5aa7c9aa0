internal import ApusTransport

/// The responses of a call, for a thread that blocks for them. Read by one thread at a time.
///
/// To let go of the stream (and, in a bidirectional call, of its writer) cancels the call.
public struct BlockingResponseStream<Message: Sendable>: Sendable {
    @usableFromInline
    let handle: CallHandle
    @usableFromInline
    let decode: @Sendable ([UInt8]) throws -> Message

    @inlinable
    init(handle: CallHandle, decode: @escaping @Sendable ([UInt8]) throws -> Message) {
        self.handle = handle
        self.decode = decode
    }

    /// The next response, for which it waits; `nil` after the last one of a call that ended with OK.
    ///
    ///     while let part = try stream.next() { … }
    ///
    /// - Throws: ``RPCError``: how the call ended; `INTERNAL` for a message that cannot be decoded, which cancels it;
    ///   `FAILED_PRECONDITION` on the thread of an event loop.
    @available(*, noasync, message: "it blocks the thread; use ResponseStream")
    @inlinable
    public func next() throws(RPCError) -> Message? {
        guard let bytes = try handle.nextMessageBlocking() else { return nil }
        return try handle.decoded(bytes, decode)
    }

    /// What the server sent ahead of the first message; waits for it.
    @available(*, noasync, message: "it blocks the thread; use ResponseStream")
    public func initialMetadata() throws(RPCError) -> Metadata { try handle.initialMetadataBlocking() }

    /// What the server sent with the status; waits for the end of the call, which comes when all responses are read.
    @available(*, noasync, message: "it blocks the thread; use ResponseStream")
    public func trailers() throws(RPCError) -> Metadata { try handle.trailersBlocking() }

    /// Ends the call with `CANCELLED`. Harmless when it has ended; from any thread.
    public func cancel() { handle.cancel() }
}

/// The requests of a call, for a thread that blocks while too many are queued.
public struct BlockingRequestWriter<Message: Sendable>: Sendable {
    @usableFromInline
    let handle: CallHandle
    @usableFromInline
    let encode: @Sendable (Message) throws -> [UInt8]

    @inlinable
    init(handle: CallHandle, encode: @escaping @Sendable (Message) throws -> [UInt8]) {
        self.handle = handle
        self.encode = encode
    }

    /// Queues a request, and blocks while the server reads more slowly than the client writes, as
    /// ``RequestWriter/write(_:)`` suspends.
    @available(*, noasync, message: "it blocks the thread; use RequestWriter")
    @inlinable
    public func write(_ message: Message) throws(RPCError) {
        try handle.writeBlocking(try handle.encoded(message, encode))
    }

    /// Queues a request as ``write(_:)`` does, but uncompressed if `compressed` is `false`, as
    /// ``RequestWriter/write(_:compressed:)`` has it.
    @available(*, noasync, message: "it blocks the thread; use RequestWriter")
    public func write(_ message: Message, compressed: Bool) throws(RPCError) {
        try handle.writeBlocking(try handle.encoded(message, encode), compressed: compressed)
    }

    /// Tells the server that there are no more requests. Harmless when repeated; does not block.
    public func finish() { handle.finishWriting() }
}

/// A call with many requests and one response, for a thread that blocks. To let go of it cancels it.
public struct BlockingClientStreamingCall<Request: Sendable, Response: Sendable>: Sendable {
    /// Where the requests are written.
    public let requests: BlockingRequestWriter<Request>
    @usableFromInline
    let decode: @Sendable ([UInt8]) throws -> Response

    @inlinable
    init(
        handle: CallHandle,
        encode: @escaping @Sendable (Request) throws -> [UInt8],
        decode: @escaping @Sendable ([UInt8]) throws -> Response
    ) {
        requests = BlockingRequestWriter(handle: handle, encode: encode)
        self.decode = decode
    }

    /// Finishes the requests, if that was not done, and waits for the response. To be called once.
    @available(*, noasync, message: "it blocks the thread; use ClientStreamingCall")
    @inlinable
    public func response() throws(RPCError) -> Response {
        try requests.handle.decoded(try requests.handle.onlyResponseBlocking(), decode)
    }

    /// What the server sent ahead of the response; waits for it.
    @available(*, noasync, message: "it blocks the thread; use ClientStreamingCall")
    public func initialMetadata() throws(RPCError) -> Metadata { try requests.handle.initialMetadataBlocking() }

    /// What the server sent with the status; waits for the end of the call.
    @available(*, noasync, message: "it blocks the thread; use ClientStreamingCall")
    public func trailers() throws(RPCError) -> Metadata { try requests.handle.trailersBlocking() }

    /// Ends the call with `CANCELLED`. Harmless when it has ended; from any thread.
    public func cancel() { requests.handle.cancel() }
}

/// A call with many requests and many responses, for threads that block; one may write while another reads. To let go
/// of it, and of its two sides, cancels it.
public struct BlockingBidirectionalCall<Request: Sendable, Response: Sendable>: Sendable {
    /// Where the requests are written; one thread at a time.
    public let requests: BlockingRequestWriter<Request>
    /// What comes back; one thread at a time.
    public let responses: BlockingResponseStream<Response>

    @inlinable
    init(
        handle: CallHandle,
        encode: @escaping @Sendable (Request) throws -> [UInt8],
        decode: @escaping @Sendable ([UInt8]) throws -> Response
    ) {
        requests = BlockingRequestWriter(handle: handle, encode: encode)
        responses = BlockingResponseStream(handle: handle, decode: decode)
    }

    /// Ends the call with `CANCELLED`. Harmless when it has ended; from any thread.
    public func cancel() { responses.cancel() }
}
