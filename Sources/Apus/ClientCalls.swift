internal import ApusTransport

/// The answer to a unary call with all that came with it.
public struct UnaryResponse<Message: Sendable>: Sendable {
    /// What the server sent ahead of the message.
    public let initialMetadata: Metadata
    /// What the server sent with the status; an error has it too.
    public let trailers: Metadata
    /// Whether the message came compressed.
    public let wasCompressed: Bool
    /// The message, or why there is none.
    public let result: Result<Message, RPCError>

    /// The message.
    ///
    /// - Throws: why there is none.
    public var message: Message {
        get throws(RPCError) { try result.get() }
    }

    @inlinable
    init(_ outcome: UnaryOutcome, decode: ([UInt8]) throws(RPCError) -> Message) {
        initialMetadata = outcome.initialMetadata
        trailers = outcome.trailers
        wasCompressed = outcome.wasCompressed
        switch outcome.result {
        case .success(let bytes):
            do throws(RPCError) {
                result = .success(try decode(bytes))
            } catch {
                result = .failure(error)
            }
        case .failure(let error): result = .failure(error)
        }
    }

    @inlinable
    init(_ error: RPCError) {
        initialMetadata = Metadata()
        trailers = error.metadata
        wasCompressed = false
        result = .failure(error)
    }
}

/// The responses of a server-streaming or bidirectional call, as they come.
///
///     for try await part in echo.expand(request) { … }
///
/// Flow control follows the reading: what is not read is not asked for beyond the stream's window. Messages that came
/// before the call failed are given out before the error. Read by one task at a time. To let go of the stream (and, in
/// a bidirectional call, of its writer) cancels the call; so does the cancellation of the task that waits.
public struct ResponseStream<Message: Sendable>: AsyncSequence, Sendable {
    public typealias Failure = RPCError

    @usableFromInline
    let handle: CallHandle
    @usableFromInline
    let decode: @Sendable ([UInt8]) throws -> Message

    @inlinable
    init(handle: CallHandle, decode: @escaping @Sendable ([UInt8]) throws -> Message) {
        self.handle = handle
        self.decode = decode
    }

    /// The next response; `nil` after the last one of a call that ended with OK.
    ///
    /// A loop over this is cheaper than `for try await`, for which the runtime looks twice in each round whether it has
    /// to change executors:
    ///
    ///     while let part = try await stream.next() { … }
    ///
    /// - Throws: ``RPCError``: how the call ended; `INTERNAL` for a message that cannot be decoded, which cancels it.
    @inlinable
    public func next() async throws(RPCError) -> Message? {
        if let bytes = handle.messageNow() { return try handle.decoded(bytes, decode) }
        guard let bytes = try await handle.nextMessage() else { return nil }
        return try handle.decoded(bytes, decode)
    }

    /// What the server sent ahead of the first message; waits for it.
    ///
    /// - Throws: ``RPCError``: how the call ended, when it did so without.
    public var initialMetadata: Metadata {
        get async throws(RPCError) { try await handle.initialMetadata() }
    }

    /// What the server sent with the status; waits for the end of the call, which comes when all responses are read.
    ///
    /// - Throws: ``RPCError``: how the call ended, with its trailers in ``RPCError/metadata``.
    public var trailers: Metadata {
        get async throws(RPCError) { try await handle.trailers() }
    }

    /// Ends the call with `CANCELLED`. Harmless when it has ended.
    public func cancel() { handle.cancel() }

    public struct AsyncIterator: AsyncIteratorProtocol {
        @usableFromInline
        let stream: ResponseStream

        @inlinable
        init(_ stream: ResponseStream) { self.stream = stream }

        @inlinable
        public mutating func next() async throws(RPCError) -> Message? { try await stream.next() }

        @inlinable
        @inline(__always)
        public mutating func next(isolation actor: isolated (any Actor)?) async throws(RPCError) -> Message? {
            if let bytes = stream.handle.messageNow() { return try stream.handle.decoded(bytes, stream.decode) }
            guard let bytes = try await stream.handle.nextMessage() else { return nil }
            return try stream.handle.decoded(bytes, stream.decode)
        }
    }

    @inlinable
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(self) }
}

/// The requests of a client-streaming or bidirectional call, for the client to write.
public struct RequestWriter<Message: Sendable>: Sendable {
    @usableFromInline
    let handle: CallHandle
    @usableFromInline
    let encode: @Sendable (Message) throws -> [UInt8]

    @inlinable
    init(handle: CallHandle, encode: @escaping @Sendable (Message) throws -> [UInt8]) {
        self.handle = handle
        self.encode = encode
    }

    /// Queues a request. Suspends while the server reads more slowly than the client writes: above
    /// ``ChannelConfiguration/sendQueueBytes`` until the queue is down to a quarter of it.
    ///
    /// To return means that the message is queued, not that the server has it.
    ///
    /// - Throws: ``RPCError``: how the call ended; `FAILED_PRECONDITION` after ``finish()``, and when the server ended
    ///   the call with OK before it had read all; `RESOURCE_EXHAUSTED` for a message over the limit and `INTERNAL` for
    ///   one that cannot be encoded, after which the call goes on.
    @inlinable
    public func write(_ message: Message) async throws(RPCError) {
        let bytes = try handle.encoded(message, encode)
        let result = try handle.writeNow(bytes)
        if result != .queued { try await handle.finishWriting(bytes, result) }
    }

    /// Queues a request as ``write(_:)`` does, but uncompressed if `compressed` is `false`, whatever
    /// ``CallOptions/compression`` says: for what must not be compressed together with what a stranger can choose.
    ///
    /// With `true` it is ``write(_:)``: compressed if the call's requests are.
    public func write(_ message: Message, compressed: Bool) async throws(RPCError) {
        if compressed { return try await write(message) }
        try await handle.writeUncompressed(try handle.encoded(message, encode))
    }

    /// Tells the server that there are no more requests. Harmless when repeated.
    public func finish() { handle.finishWriting() }
}

/// A call with many requests and one response.
///
///     let call = echo.collect()
///     for word in words { try await call.requests.write(.with { $0.text = word }) }
///     let reply = try await call.response()
///
/// To let go of it, and of its writer, cancels it.
public struct ClientStreamingCall<Request: Sendable, Response: Sendable>: Sendable {
    /// Where the requests are written.
    public let requests: RequestWriter<Request>
    @usableFromInline
    let decode: @Sendable ([UInt8]) throws -> Response

    @inlinable
    init(
        handle: CallHandle,
        encode: @escaping @Sendable (Request) throws -> [UInt8],
        decode: @escaping @Sendable ([UInt8]) throws -> Response
    ) {
        requests = RequestWriter(handle: handle, encode: encode)
        self.decode = decode
    }

    /// Finishes the requests, if that was not done, and waits for the response. To be called once.
    ///
    /// - Throws: ``RPCError``: how the call ended.
    @inlinable
    public func response() async throws(RPCError) -> Response {
        try requests.handle.decoded(try await requests.handle.onlyResponse(), decode)
    }

    /// What the server sent ahead of the response; waits for it.
    public var initialMetadata: Metadata {
        get async throws(RPCError) { try await requests.handle.initialMetadata() }
    }

    /// What the server sent with the status; waits for the end of the call.
    public var trailers: Metadata {
        get async throws(RPCError) { try await requests.handle.trailers() }
    }

    /// Ends the call with `CANCELLED`. Harmless when it has ended.
    public func cancel() { requests.handle.cancel() }
}

/// A call with many requests and many responses, independently of each other.
///
/// To let go of it, and of its two sides, cancels it.
public struct BidirectionalCall<Request: Sendable, Response: Sendable>: Sendable {
    /// Where the requests are written; one task at a time.
    public let requests: RequestWriter<Request>
    /// What comes back; one task at a time, which may be another.
    public let responses: ResponseStream<Response>

    @inlinable
    init(
        handle: CallHandle,
        encode: @escaping @Sendable (Request) throws -> [UInt8],
        decode: @escaping @Sendable ([UInt8]) throws -> Response
    ) {
        requests = RequestWriter(handle: handle, encode: encode)
        responses = ResponseStream(handle: handle, decode: decode)
    }

    /// Ends the call with `CANCELLED`. Harmless when it has ended.
    public func cancel() { responses.cancel() }
}
