public import ApusBase
internal import ApusEventLoop

/// What the application holds of a call of many messages. To let go of it cancels the call.
@usableFromInline
package final class CallHandle: Sendable {
    let call: StreamingCall

    package init(_ call: StreamingCall) { self.call = call }

    deinit { if !call.hasEnded { call.cancel() } }

    /// What a codec threw for a message of this call, as its caller is told; the call is cancelled.
    @usableFromInline
    package func codecError(decoding: Bool, _ cause: any Error) -> RPCError {
        if decoding { call.cancel() }
        return call.channel.codecError(call.method, decoding: decoding, cause)
    }
}

// MARK: - Through to the call, for what is compiled into the application

extension CallHandle {
    @usableFromInline
    package func messageNow() -> [UInt8]? { call.messageNow() }

    @usableFromInline
    package func nextMessage() async throws(RPCError) -> [UInt8]? { try await call.nextMessage() }

    /// The next message, and whether it came compressed.
    @usableFromInline
    package func nextReceived() async throws(RPCError) -> ReceivedBytes? { try await call.nextReceived() }

    @usableFromInline
    package func writeNow(_ message: [UInt8]) throws(RPCError) -> WriteResult { try call.writeNow(message) }

    @usableFromInline
    package func finishWriting(_ message: [UInt8], _ result: WriteResult) async throws(RPCError) {
        try await call.finishWriting(message, result)
    }

    /// Queues a message as it is, whatever the encoding of the others.
    @usableFromInline
    package func writeUncompressed(_ message: [UInt8]) async throws(RPCError) {
        try await call.writeUncompressed(message)
    }

    package func initialMetadata() async throws(RPCError) -> Metadata { try await call.initialMetadata() }

    package func trailers() async throws(RPCError) -> Metadata { try await call.trailers() }

    package func finishWriting() { call.finishWriting() }

    package func cancel() { call.cancel() }

    package func initialMetadataBlocking() throws(RPCError) -> Metadata {
        try call.channel.checkThatThreadMayBlock()
        return try call.initialMetadataBlocking()
    }

    package func trailersBlocking() throws(RPCError) -> Metadata {
        try call.channel.checkThatThreadMayBlock()
        return try call.trailersBlocking()
    }

    /// The one response of a call that has one: waits for it and for the status.
    @usableFromInline
    package func onlyResponse() async throws(RPCError) -> [UInt8] {
        // Before the half-close, which a server would take for the end of a request that is meant.
        if Task.isCancelled {
            call.cancel()
            throw ClientCall.cancelled
        }
        call.finishWriting()
        guard let response = try await call.nextMessage() else { throw wrongCount(isEmpty: true) }
        var surplus = 0
        while try await call.nextMessage() != nil {
            surplus += 1
            if surplus == UnaryCall.responsesMax { break }
        }
        if surplus == 0 { return response }
        call.cancel()
        throw wrongCount(isEmpty: false)
    }

    @usableFromInline
    package func nextMessageBlocking() throws(RPCError) -> [UInt8]? {
        try call.channel.checkThatThreadMayBlock()
        return try call.nextMessageBlocking()
    }

    @usableFromInline
    package func nextReceivedBlocking() throws(RPCError) -> ReceivedBytes? {
        try call.channel.checkThatThreadMayBlock()
        return try call.nextReceivedBlocking()
    }

    @usableFromInline
    package func writeBlocking(_ message: [UInt8], compressed: Bool = true) throws(RPCError) {
        try call.channel.checkThatThreadMayBlock()
        try call.writeBlocking(message, isCompressed: compressed)
    }

    @usableFromInline
    package func onlyResponseBlocking() throws(RPCError) -> [UInt8] {
        try call.channel.checkThatThreadMayBlock()
        call.finishWriting()
        guard let response = try call.nextMessageBlocking() else { throw wrongCount(isEmpty: true) }
        var surplus = 0
        while try call.nextMessageBlocking() != nil {
            surplus += 1
            if surplus == UnaryCall.responsesMax { break }
        }
        if surplus == 0 { return response }
        call.cancel()
        throw wrongCount(isEmpty: false)
    }

    private func wrongCount(isEmpty: Bool) -> RPCError { UnaryCall.wrongResponseCount(call.method, isEmpty: isEmpty) }
}
