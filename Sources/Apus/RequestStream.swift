/// The requests of a client-streaming or bidirectional call, as they come.
///
/// Flow control follows the reading: what is not read is not asked for, and a client that sends more than the stream's
/// window waits. Iterate it once, from one task at a time.
///
/// Iterating throws ``RPCError``: the end of the call, when that came before the client's (`CANCELLED`,
/// `DEADLINE_EXCEEDED`), `RESOURCE_EXHAUSTED` for a message over the limit, `INTERNAL` for one that cannot be decoded.
public struct RequestStream<Message: Sendable>: AsyncSequence, Sendable {
    @usableFromInline
    let context: CallContext
    @usableFromInline
    let decode: @Sendable ([UInt8], CallContext) throws -> Message

    @inlinable
    init(context: CallContext, decode: @escaping @Sendable ([UInt8], CallContext) throws -> Message) {
        self.context = context
        self.decode = decode
    }

    public struct AsyncIterator: AsyncIteratorProtocol {
        @usableFromInline
        let context: CallContext
        @usableFromInline
        let decode: @Sendable ([UInt8], CallContext) throws -> Message

        @inlinable
        init(context: CallContext, decode: @escaping @Sendable ([UInt8], CallContext) throws -> Message) {
            self.context = context
            self.decode = decode
        }

        /// The next request, or `nil` when the client has sent its last.
        @inlinable
        public mutating func next() async throws -> Message? {
            if let bytes = context.messageNow() { return try decode(bytes, context) }
            guard let bytes = try await context.nextMessage() else { return nil }
            return try decode(bytes, context)
        }

        /// The next request, or `nil` when the client has sent its last.
        @inlinable
        @inline(__always)
        public mutating func next(isolation actor: isolated (any Actor)?) async throws(any Error) -> Message? {
            if let bytes = context.messageNow() { return try decode(bytes, context) }
            guard let bytes = try await context.nextMessage() else { return nil }
            return try decode(bytes, context)
        }
    }

    @inlinable
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(context: context, decode: decode) }
}
