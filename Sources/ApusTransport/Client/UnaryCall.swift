public import ApusBase
internal import ApusEventLoop

/// A call with one request and one response: the answer is handed over in one piece, so nothing of it is locked.
///
/// Used again from call to call (``ClientChannel/takeUnaryCall(_:_:)``).
final class UnaryCall: ClientCall, @unchecked Sendable {
    // Sendable, because `exchange` goes from the caller to the loop with the call's beginning and comes back with the
    // waiter's waking; nobody else touches it.
    private struct Exchange {
        var request: [UInt8] = []
        var requestIsCompressed = false
        var response: [UInt8] = []
        var responseCount = 0
        /// That of the response, when it came compressed.
        var responseEncoding = MessageEncodings.identity
        var initialMetadata = Metadata()
        var end = CallEnd()
        var waiter = Waiter.none
    }

    private let exchange = Confined(Exchange())
    /// For callers that block; kept for the next one.
    private var parker: ThreadParker?

    deinit { exchange.destroy() }

    // MARK: The caller

    /// Sets the call up anew.
    func prepare(_ method: MethodDescriptor, _ options: CallOptions) {
        setup.value.method = method
        setup.value.options = options
        setup.value.deadline = channel.deadline(of: options)
    }

    /// Forgets everything, so that another call can use the object.
    func recycle() {
        core.value.phase = .new
        core.value.wasRefused = false
        exchange.value.request = []
        exchange.value.response = []
        exchange.value.responseCount = 0
        exchange.value.responseEncoding = MessageEncodings.identity
        if !exchange.value.initialMetadata.isEmpty { exchange.value.initialMetadata = Metadata() }
        if exchange.value.end.error != nil { exchange.value.end.error = nil }
        if !exchange.value.end.trailers.isEmpty { exchange.value.end.trailers = Metadata() }
    }

    /// Makes the call, and suspends the task until it has its end.
    @inline(__always)
    func perform(_ request: consuming [UInt8]) async {
        exchange.value.request = request
        await withTaskCancellationHandler {
            await Suspension<Void>.wait { suspension in
                exchange.value.waiter = .task(suspension)
                channel.start(self)
            }
        } onCancel: {
            cancel()
        }
        core.announceTakeOver()
    }

    /// Makes the call, and blocks the thread until it has its end.
    func performBlocking(_ request: consuming [UInt8]) {
        let parker = self.parker ?? ThreadParker()
        self.parker = parker
        exchange.value.request = request
        exchange.value.waiter = .thread(parker)
        channel.start(self)
        parker.park()
        core.announceTakeOver()
    }

    /// The response, once the call has its end.
    @inline(__always)
    func takeResponse() throws(RPCError) -> [UInt8] {
        if let error = exchange.value.end.error { throw error }
        var response: [UInt8] = []
        swap(&response, &exchange.value.response)
        return response
    }

    /// All that the call brought, once it has its end, but for the response, which is ``takeResponse()``'s or, when it
    /// came compressed, inflated.
    func outcome(_ response: Result<[UInt8], RPCError>) -> UnaryOutcome {
        let end = exchange.value.end
        return UnaryOutcome(
            initialMetadata: exchange.value.initialMetadata,
            trailers: end.error?.metadata ?? end.trailers,
            wasCompressed: responseIsCompressed,
            result: response
        )
    }

    // MARK: Compression

    /// Before the call is performed: its request is in this encoding, if it is compressed at all.
    func setEncoding(_ encoding: MessageEncodings.Index, isCompressed: Bool) {
        setup.value.requestEncoding = encoding
        exchange.value.requestIsCompressed = isCompressed
    }

    /// Whether the response came compressed.
    @inline(__always)
    var responseIsCompressed: Bool { exchange.value.responseEncoding != MessageEncodings.identity }

    /// The response, once the call has its end, inflated where it holds up no loop.
    func takeInflatedResponse() async throws(RPCError) -> [UInt8] {
        let response = try takeResponse()
        guard responseIsCompressed else { return response }
        let encoding = exchange.value.responseEncoding
        return try inflated(
            await channel.encodings.inflateAnywhere(response, encoding, bytesMax: maxResponseBytes),
            encoding
        )
    }

    func takeInflatedResponseBlocking() throws(RPCError) -> [UInt8] {
        let response = try takeResponse()
        guard responseIsCompressed else { return response }
        let encoding = exchange.value.responseEncoding
        return try inflated(channel.encodings.inflate(response, encoding, bytesMax: maxResponseBytes), encoding)
    }

    // MARK: The loop

    override func attached(_ stream: ClientStreamHandle) {
        if exchange.value.requestIsCompressed {
            stream.value.outbound.append(exchange.value.request, isCompressed: true)
        } else {
            stream.value.outbound.append(exchange.value.request)
        }
        stream.value.state.finish()
    }

    override func headReceived(_ metadata: Metadata) {
        if !metadata.isEmpty { exchange.value.initialMetadata = metadata }
    }

    override func messageReceived(_ message: consuming [UInt8]) {
        exchange.value.responseCount += 1
        if exchange.value.responseCount == 1 { exchange.value.response = message }
    }

    override func messageReceived(_ message: consuming [UInt8], encoding: MessageEncodings.Index) {
        messageReceived(message)
        if exchange.value.responseCount == 1 { exchange.value.responseEncoding = encoding }
    }

    override func partReceived(isMidMessage: Bool) {
        guard let stream = core.value.stream, let session = core.value.session else { return }
        // The caller waits for it: a response larger than the window must not wait for itself.
        if isMidMessage { session.creditMessageUnderWay(stream) }
        // One message too many is of no matter when the status is an error; nobody waits for the end of a flood.
        if exchange.value.responseCount > Self.responsesMax { session.fail(stream, wrongResponseCount) }
    }

    /// Responses after which a call that has one is ended without waiting for its status.
    static let responsesMax = 16

    private var wrongResponseCount: RPCError {
        Self.wrongResponseCount(method, isEmpty: exchange.value.responseCount == 0)
    }

    static func wrongResponseCount(_ method: MethodDescriptor, isEmpty: Bool) -> RPCError {
        let what = isEmpty ? "no response message" : "more than one response message"
        let message = "\(method) gives one response message, and the server sent \(what)"
        return RPCError(code: .unimplemented, message: message)
    }

    override func ended(_ end: CallEnd) {
        if end.error != nil || !end.trailers.isEmpty { exchange.value.end = end }
        if end.error == nil, exchange.value.responseCount != 1 {
            channel.callFailsAfterAll()
            exchange.value.end.error = wrongResponseCount
            exchange.value.end.error?.metadata = end.trailers
        }
        let waiter = exchange.value.waiter.take()
        core.announceHandOver()
        waiter.wake()
    }
}

/// All that a unary call brought.
@usableFromInline
package struct UnaryOutcome: Sendable {
    @usableFromInline package var initialMetadata: Metadata
    @usableFromInline package var trailers: Metadata
    /// Whether the response came compressed.
    @usableFromInline package var wasCompressed = false
    @usableFromInline package var result: Result<[UInt8], RPCError>
}
