internal import ApusTransport

/// A message with what is known of how it came.
public struct ReceivedMessage<Message: Sendable>: Sendable {
    public let message: Message
    /// Whether it came compressed.
    public let wasCompressed: Bool

    @inlinable
    init(_ message: Message, wasCompressed: Bool) {
        self.message = message
        self.wasCompressed = wasCompressed
    }
}

/// The messages of a ``RequestStream``, each with how it came: see ``RequestStream/received``.
public struct ReceivedRequests<Message: Sendable>: AsyncSequence, Sendable {
    let stream: RequestStream<Message>

    public struct AsyncIterator: AsyncIteratorProtocol {
        let stream: RequestStream<Message>

        /// The next request, or `nil` when the client has sent its last.
        public mutating func next() async throws -> ReceivedMessage<Message>? {
            guard let received = try await stream.context.nextReceived() else { return nil }
            let message = try stream.decode(received.bytes, stream.context)
            return ReceivedMessage(message, wasCompressed: received.wasCompressed)
        }
    }

    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(stream: stream) }
}

/// The messages of a ``ResponseStream``, each with how it came: see ``ResponseStream/received``.
public struct ReceivedResponses<Message: Sendable>: AsyncSequence, Sendable {
    public typealias Failure = RPCError

    let stream: ResponseStream<Message>

    public struct AsyncIterator: AsyncIteratorProtocol {
        let stream: ResponseStream<Message>

        public mutating func next() async throws(RPCError) -> ReceivedMessage<Message>? {
            try await stream.nextReceived()
        }

        public mutating func next(
            isolation actor: isolated (any Actor)?
        ) async throws(RPCError) -> ReceivedMessage<Message>? { try await stream.nextReceived() }
    }

    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(stream: stream) }
}

extension RequestStream {
    /// The same requests, each with how it came. To be iterated in place of the stream, not beside it.
    public var received: ReceivedRequests<Message> { ReceivedRequests(stream: self) }
}

extension ResponseStream {
    /// The same responses, each with how it came. To be iterated in place of the stream, not beside it.
    public var received: ReceivedResponses<Message> { ReceivedResponses(stream: self) }

    /// The next response with how it came; `nil` after the last one of a call that ended with OK.
    ///
    /// - Throws: ``RPCError``, as ``next()`` does.
    public func nextReceived() async throws(RPCError) -> ReceivedMessage<Message>? {
        guard let received = try await handle.nextReceived() else { return nil }
        return ReceivedMessage(try handle.decoded(received.bytes, decode), wasCompressed: received.wasCompressed)
    }
}

extension BlockingResponseStream {
    /// The next response with how it came; waits for it. `nil` after the last one of a call that ended with OK.
    @available(*, noasync, message: "it blocks the thread; use ResponseStream")
    public func nextReceived() throws(RPCError) -> ReceivedMessage<Message>? {
        guard let received = try handle.nextReceivedBlocking() else { return nil }
        return ReceivedMessage(try handle.decoded(received.bytes, decode), wasCompressed: received.wasCompressed)
    }
}
