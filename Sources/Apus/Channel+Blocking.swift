internal import ApusTransport

// Calls that block the thread. On the thread of an event loop, which must not wait, they fail with
// `FAILED_PRECONDITION`; made in a task, by way of a function that is not asynchronous, they are logged once.

extension Channel {
    /// Makes a call with one request and one response, and blocks the thread until it has ended.
    ///
    /// - Throws: ``RPCError``, as the asynchronous call does; `FAILED_PRECONDITION` on the thread of an event loop.
    @available(*, noasync, message: "it blocks the thread; use unary(_:_:requestCodec:responseCodec:options:)")
    @inlinable
    public func blockingUnary<Request: MessageCodec, Response: MessageCodec>(
        _ method: MethodDescriptor,
        _ request: Request.Message,
        requestCodec: Request,
        responseCodec: Response,
        options: CallOptions = CallOptions()
    ) throws(RPCError) -> Response.Message {
        let response = try core.blockingUnary(method, try requestCodec.encoded(request, method, core), options)
        return try responseCodec.decoded(response, method, core)
    }

    /// Makes a call with one request and one response, blocks the thread until it has ended, and gives its metadata
    /// with it.
    @available(*, noasync, message: "it blocks the thread; use unaryWithMetadata")
    @inlinable
    public func blockingUnaryWithMetadata<Request: MessageCodec, Response: MessageCodec>(
        _ method: MethodDescriptor,
        _ request: Request.Message,
        requestCodec: Request,
        responseCodec: Response,
        options: CallOptions = CallOptions()
    ) -> UnaryResponse<Response.Message> {
        do throws(RPCError) {
            let bytes = try requestCodec.encoded(request, method, core)
            let outcome = core.blockingUnaryOutcome(method, bytes, options)
            return UnaryResponse(outcome) { bytes throws(RPCError) in try responseCodec.decoded(bytes, method, core) }
        } catch {
            return UnaryResponse(error)
        }
    }

    /// Begins a call with one request and many responses. Returns at once; to read the responses blocks.
    @available(*, noasync, message: "its stream blocks the thread; use serverStreaming")
    @inlinable
    public func blockingServerStreaming<Request: MessageCodec, Response: MessageCodec>(
        _ method: MethodDescriptor,
        _ request: Request.Message,
        requestCodec: Request,
        responseCodec: Response,
        options: CallOptions = CallOptions()
    ) -> BlockingResponseStream<Response.Message> {
        BlockingResponseStream(handle: core.begin(method, request, requestCodec, options)) {
            try responseCodec.decode($0)
        }
    }

    /// Begins a call with many requests and one response. Returns at once; to write and to wait for the response
    /// blocks.
    @available(*, noasync, message: "it blocks the thread; use clientStreaming")
    @inlinable
    public func blockingClientStreaming<Request: MessageCodec, Response: MessageCodec>(
        _ method: MethodDescriptor,
        requestCodec: Request,
        responseCodec: Response,
        options: CallOptions = CallOptions()
    ) -> BlockingClientStreamingCall<Request.Message, Response.Message> {
        BlockingClientStreamingCall(
            handle: core.begin(method, options),
            encode: { try requestCodec.encode($0) },
            decode: { try responseCodec.decode($0) }
        )
    }

    /// Begins a call with many requests and many responses. Returns at once; to write and to read blocks.
    @available(*, noasync, message: "it blocks the thread; use bidirectionalStreaming")
    @inlinable
    public func blockingBidirectionalStreaming<Request: MessageCodec, Response: MessageCodec>(
        _ method: MethodDescriptor,
        requestCodec: Request,
        responseCodec: Response,
        options: CallOptions = CallOptions()
    ) -> BlockingBidirectionalCall<Request.Message, Response.Message> {
        BlockingBidirectionalCall(
            handle: core.begin(method, options),
            encode: { try requestCodec.encode($0) },
            decode: { try responseCodec.decode($0) }
        )
    }
}
