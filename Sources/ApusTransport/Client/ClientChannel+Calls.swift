public import ApusBase
internal import ApusEventLoop
internal import Logging
internal import Synchronization

// Calls as the public face makes them, from any thread.

extension ClientChannel {
    /// Makes a unary call, and gives its response.
    @usableFromInline
    package func unary(
        _ method: MethodDescriptor,
        _ request: [UInt8],
        _ options: CallOptions
    ) async throws(RPCError) -> [UInt8] {
        if let problem = problem(request, method, options) { throw problem }
        if isEncoded(options) { return try await encodedUnary(method, request, options).result.get() }
        let call = takeUnaryCall(method, options)
        await call.perform(request)
        if call.responseIsCompressed { return try await call.takeInflatedResponse() }
        do {
            let response = try call.takeResponse()
            giveUnaryCall(consume call)
            return response
        } catch {
            giveUnaryCall(consume call)
            throw error
        }
    }

    /// Makes a unary call, and gives all that it brought.
    @usableFromInline
    package func unaryOutcome(
        _ method: MethodDescriptor,
        _ request: [UInt8],
        _ options: CallOptions
    ) async -> UnaryOutcome {
        if let problem = problem(request, method, options) { return UnaryOutcome(problem) }
        return await encodedUnary(method, request, options)
    }

    /// Makes a unary call, and blocks the thread until it has its response.
    @usableFromInline
    package func blockingUnary(
        _ method: MethodDescriptor,
        _ request: [UInt8],
        _ options: CallOptions
    ) throws(RPCError) -> [UInt8] {
        try checkThatThreadMayBlock()
        if let problem = problem(request, method, options) { throw problem }
        if isEncoded(options) { return try encodedUnaryBlocking(method, request, options).result.get() }
        let call = takeUnaryCall(method, options)
        call.performBlocking(request)
        if call.responseIsCompressed { return try call.takeInflatedResponseBlocking() }
        do {
            let response = try call.takeResponse()
            giveUnaryCall(consume call)
            return response
        } catch {
            giveUnaryCall(consume call)
            throw error
        }
    }

    @usableFromInline
    package func blockingUnaryOutcome(
        _ method: MethodDescriptor,
        _ request: [UInt8],
        _ options: CallOptions
    ) -> UnaryOutcome {
        do throws(RPCError) {
            try checkThatThreadMayBlock()
            if let problem = problem(request, method, options) { throw problem }
        } catch {
            return UnaryOutcome(error)
        }
        return encodedUnaryBlocking(method, request, options)
    }

    /// Begins a call of many messages.
    @usableFromInline
    package func startCall(_ method: MethodDescriptor, _ options: CallOptions) -> CallHandle {
        CallHandle(begin(method, request: nil, options))
    }

    /// Begins a call of one request and many responses.
    @usableFromInline
    package func startCall(
        _ method: MethodDescriptor,
        _ request: [UInt8],
        _ options: CallOptions
    ) -> CallHandle {
        CallHandle(begin(method, request: request, options))
    }

    /// A call that has failed before it began.
    @usableFromInline
    package func failedCall(_ method: MethodDescriptor, _ options: CallOptions, _ error: RPCError) -> CallHandle {
        let call = StreamingCall(self, method, options)
        call.ended(.failed(error))
        return CallHandle(call)
    }

    /// Begins a call of many messages, or of one request.
    package func begin(_ method: MethodDescriptor, request: [UInt8]?, _ options: CallOptions) -> StreamingCall {
        let call = StreamingCall(self, method, options)
        if let problem = problem(request ?? [], method, options) {
            call.ended(.failed(problem))
            return call
        }
        if isEncoded(options) {
            beginEncoded(call, request)
        } else {
            if let request { call.setOnlyRequest(request) }
            start(call)
        }
        return call
    }

    /// Why a call cannot be made, whatever the server is.
    private func problem(_ request: [UInt8], _ method: MethodDescriptor, _ options: CallOptions) -> RPCError? {
        let limit = options.maxRequestBytes ?? limits.maxRequestBytes
        if request.count > limit {
            let message = "a request of \(request.count) bytes is over the limit of \(limit) of \(method)"
            return RPCError(code: .resourceExhausted, message: message)
        }
        if let timeout = options.timeout, timeout <= .zero {
            return RPCError(code: .deadlineExceeded, message: "the deadline had passed when the call was made")
        }
        if !options.metadata.isEmpty, let problem = options.metadata.firstProblem {
            return RPCError(code: .internal, message: "the call has metadata that cannot be sent: \(problem)")
        }
        if let algorithm = options.compression, encodings.index(of: algorithm) == nil {
            return RPCError(code: .internal, message: "the channel has no codec to compress with \(algorithm)")
        }
        return nil
    }

    /// What a codec threw, as the caller is told.
    @usableFromInline
    package func codecError(_ method: MethodDescriptor, decoding: Bool, _ cause: any Error) -> RPCError {
        if let error = cause as? RPCError { return error }
        let what =
            decoding ? "a response of \(method) could not be decoded" : "a request of \(method) could not be encoded"
        return RPCError(code: .internal, message: what, cause: cause)
    }

    /// The thread of a loop must not wait: it may be the one that it waits for.
    @usableFromInline
    package func checkThatThreadMayBlock() throws(RPCError) {
        if let loop = EventLoop.current {
            let message =
                "a blocking call was made on the thread of event loop \(loop.name), which would stop; use the "
                + "asynchronous one"
            throw RPCError(code: .failedPrecondition, message: message)
        }
        // SAFETY: whether there is a task is asked, and nothing is kept of it.
        let isInTask = unsafe withUnsafeCurrentTask { unsafe $0 != nil }
        if isInTask, !BlockingInTasks.isNoted.exchange(true, ordering: .relaxed) {
            logger.warning(
                "a blocking call was made in a task: it holds one of the few threads that all tasks share",
                metadata: ["target": "\(target.text)"]
            )
        }
    }
}

private enum BlockingInTasks {
    static let isNoted = Atomic<Bool>(false)
}

extension UnaryOutcome {
    fileprivate init(_ error: RPCError) {
        self.init(initialMetadata: Metadata(), trailers: Metadata(), result: .failure(error))
    }
}
