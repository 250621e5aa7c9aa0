/// The responses of a server-streaming or bidirectional call, for the handler to write.
///
/// The call ends when the handler returns: with OK, or with the error it throws.
public struct ResponseWriter<Message: Sendable>: Sendable {
    @usableFromInline
    let context: CallContext
    @usableFromInline
    let encode: @Sendable (Message, CallContext) throws -> [UInt8]

    @inlinable
    init(context: CallContext, encode: @escaping @Sendable (Message, CallContext) throws -> [UInt8]) {
        self.context = context
        self.encode = encode
    }

    /// Queues a response. Suspends while the client reads more slowly than the handler writes: above
    /// ``ServerConfiguration/sendQueueBytes`` until the queue is down to a quarter of it.
    ///
    /// To return means that the message is queued, not that the client has it.
    ///
    /// - Throws: ``RPCError``: the end of the call, when the client cancelled, its deadline passed or its connection
    ///   was lost; `RESOURCE_EXHAUSTED` for a message over the limit; `INTERNAL` for one that cannot be encoded.
    @inlinable
    public func write(_ message: Message) async throws {
        let bytes = try encode(message, context)
        let result = try context.writeNow(bytes)
        if result != .queued { try await context.finishWriting(bytes, result) }
    }

    /// Queues a response as ``write(_:)`` does, but uncompressed if `compressed` is `false`, whatever the encoding of
    /// the call's responses: for what must not be compressed together with what a stranger can choose.
    ///
    /// With `true` it is ``write(_:)``: compressed if the call's responses are.
    public func write(_ message: Message, compressed: Bool) async throws {
        if compressed { return try await write(message) }
        try await context.writeUncompressed(try encode(message, context))
    }
}
