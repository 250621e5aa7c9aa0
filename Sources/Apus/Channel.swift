internal import ApusTransport
public import Logging

/// A connection to a gRPC server, made when it is first needed and made anew when it is lost.
///
///     let channel = try Channel("dns:///localhost:50051")
///     let echo = Echo_V1_EchoService.Client(channel)
///     let reply = try await echo.get(.with { $0.text = "hi" }, options: .timeout(.seconds(1)))
///
/// There is no task to keep alive and nothing to start. Calls may come from anywhere: a task, an actor, a plain thread,
/// `main`, the handler of a server. Each is made in one of two ways: asynchronously, which suspends the task, or
/// blocking (methods that begin with `blocking`, and the blocking stubs), which parks the thread.
///
/// One connection carries all calls, up to the number that the server allows at once; those beyond it wait, which is
/// logged. When connecting fails, calls fail with `UNAVAILABLE` (unless ``CallOptions/waitForReady`` is set) and the
/// next attempt waits: 1 s, then 1.6 times as long each time, up to 2 minutes. A call that the server certainly has not
/// processed (GOAWAY, REFUSED_STREAM) is tried again without anybody noticing.
///
/// To let go of a channel lets its calls end and then closes it; ``close()`` ends them. Thread-safe.
public final class Channel: Sendable {
    @usableFromInline
    let core: ClientChannel

    /// Prepares a channel; nothing is sent before the first call, or ``connect()``.
    ///
    /// - Parameters:
    ///   - target: `HOST:PORT`, `dns:///HOST:PORT`, `ipv4:A.B.C.D:PORT`, `ipv6:[ADDRESS]:PORT` (of these two also a
    ///     list, separated by commas), `unix:PATH`, `unix:///PATH` or `unix-abstract:NAME`.
    ///   - security: whether the connection is protected by TLS. `nil`, the default, is plaintext, and for targets on
    ///     this machine alone: a unix socket, a loopback address, `localhost`. Who wants plaintext over a network has
    ///     to say so.
    ///   - configuration: limits, windows and times.
    ///   - eventLoops: the threads to run on, of which the channel takes one; by default those that all of the process
    ///     shares.
    ///   - logger: where it logs.
    /// - Throws: `INVALID_ARGUMENT`: a target that cannot be read, a configuration value out of range, TLS that cannot
    ///   be loaded, or a target on another machine without a word about security.
    public init(
        _ target: String,
        security: ChannelSecurity? = nil,
        configuration: ChannelConfiguration = ChannelConfiguration(),
        eventLoops: EventLoopGroup = .shared,
        logger: Logger = Logger(label: "apus.channel")
    ) throws(RPCError) {
        let clientTarget = try ClientTarget(target)
        if let problem = configuration.firstProblem {
            throw RPCError(code: .invalidArgument, message: "the channel to \(target) cannot be made: \(problem)")
        }
        let tls: TLSContextSource?
        switch security {
        case .plaintext: tls = nil
        case .tls(let configuration):
            tls = try TLSContextSource(loading: "the TLS of the channel to \(target)") { () throws(TLSError) in
                try TLSContext(configuration)
            }
        case nil:
            guard clientTarget.isLocal else {
                let message =
                    "the channel to \(target) would send everything in plaintext over a network: say "
                    + "`security: .tls()`, or `security: .plaintext` if that is what you want"
                throw RPCError(code: .invalidArgument, message: message)
            }
            tls = nil
        }
        core = ClientChannel(
            target: clientTarget,
            limits: configuration.limits,
            encodings: configuration.encodings,
            loop: eventLoops.leastLoaded(),
            owner: eventLoops,
            tls: tls,
            logger: logger
        )
    }

    deinit { core.release() }

    /// What the channel reaches, as it was given.
    public var target: String { core.target.text }

    /// Whether there is a connection. It may be another the moment after.
    public var state: ConnectivityState { core.connectivity }

    /// Reads roots, certificate and key anew from the files of ``ChannelSecurity/tls(_:)``, for connections to come.
    /// Blocks while it reads files; does nothing in plaintext.
    ///
    /// - Throws: `INVALID_ARGUMENT` with the file and what is wrong with it; then everything stays as it was.
    public func reloadTLS() throws(RPCError) {
        try core.tls?.reload(describedAs: "the TLS of the channel to \(target)")
    }

    /// Gives connections to come another TLS configuration; one that exists goes on as it is. Blocks while it reads
    /// files.
    ///
    /// - Throws: `INVALID_ARGUMENT` when it cannot be loaded, then everything stays as it was; `FAILED_PRECONDITION`
    ///   for a channel in plaintext.
    public func replaceTLS(_ configuration: ClientTLS) throws(RPCError) {
        guard let tls = core.tls else {
            throw RPCError(code: .failedPrecondition, message: "the channel to \(target) speaks plaintext")
        }
        try tls.replace(describedAs: "the TLS of the channel to \(target)") { () throws(TLSError) in
            try TLSContext(configuration)
        }
    }

    /// Begins to connect, so that the first call need not wait for it. Returns at once; does nothing unless the channel
    /// is idle.
    public func connect() { core.connect() }

    /// Ends every call with `CANCELLED`, tells the server, and closes the connection. Returns at once. Harmless when
    /// repeated; calls made afterwards end with `CANCELLED` too.
    public func close() { core.close() }

    /// The executor of the thread that the channel lives on. A task that prefers it makes its calls without a change
    /// of thread:
    ///
    ///     try await withTaskExecutorPreference(channel.executor) { try await echo.get(request) }
    ///
    /// Such a task must not block: all calls of the loop would wait. Once the loop has stopped, with its group, tasks
    /// that prefer it run on the global executor.
    public var executor: any TaskExecutor { core.loop }
}

// MARK: - Asynchronous calls

extension Channel {
    /// Makes a call with one request and one response.
    ///
    /// - Throws: ``RPCError``: the server's status; `DEADLINE_EXCEEDED`; `CANCELLED` when the task was cancelled;
    ///   `UNAVAILABLE` with address and cause when the server could not be reached; `RESOURCE_EXHAUSTED` for a message
    ///   over a limit; `INTERNAL` when a message cannot be encoded or decoded, or the server broke the protocol.
    @inlinable
    public func unary<Request: MessageCodec, Response: MessageCodec>(
        _ method: MethodDescriptor,
        _ request: Request.Message,
        requestCodec: Request,
        responseCodec: Response,
        options: CallOptions = CallOptions()
    ) async throws(RPCError) -> Response.Message {
        let response = try await core.unary(method, try requestCodec.encoded(request, method, core), options)
        return try responseCodec.decoded(response, method, core)
    }

    /// Makes a call with one request and one response, and gives its metadata with it, be it a success or not.
    @inlinable
    public func unaryWithMetadata<Request: MessageCodec, Response: MessageCodec>(
        _ method: MethodDescriptor,
        _ request: Request.Message,
        requestCodec: Request,
        responseCodec: Response,
        options: CallOptions = CallOptions()
    ) async -> UnaryResponse<Response.Message> {
        do throws(RPCError) {
            let bytes = try requestCodec.encoded(request, method, core)
            let outcome = await core.unaryOutcome(method, bytes, options)
            return UnaryResponse(outcome) { bytes throws(RPCError) in try responseCodec.decoded(bytes, method, core) }
        } catch {
            return UnaryResponse(error)
        }
    }

    /// Begins a call with one request and many responses. Returns at once; the stream says how the call ended.
    @inlinable
    public func serverStreaming<Request: MessageCodec, Response: MessageCodec>(
        _ method: MethodDescriptor,
        _ request: Request.Message,
        requestCodec: Request,
        responseCodec: Response,
        options: CallOptions = CallOptions()
    ) -> ResponseStream<Response.Message> {
        ResponseStream(handle: core.begin(method, request, requestCodec, options)) { try responseCodec.decode($0) }
    }

    /// Begins a call with many requests and one response. Returns at once.
    @inlinable
    public func clientStreaming<Request: MessageCodec, Response: MessageCodec>(
        _ method: MethodDescriptor,
        requestCodec: Request,
        responseCodec: Response,
        options: CallOptions = CallOptions()
    ) -> ClientStreamingCall<Request.Message, Response.Message> {
        ClientStreamingCall(
            handle: core.begin(method, options),
            encode: { try requestCodec.encode($0) },
            decode: { try responseCodec.decode($0) }
        )
    }

    /// Begins a call with many requests and many responses, independently of each other. Returns at once.
    @inlinable
    public func bidirectionalStreaming<Request: MessageCodec, Response: MessageCodec>(
        _ method: MethodDescriptor,
        requestCodec: Request,
        responseCodec: Response,
        options: CallOptions = CallOptions()
    ) -> BidirectionalCall<Request.Message, Response.Message> {
        BidirectionalCall(
            handle: core.begin(method, options),
            encode: { try requestCodec.encode($0) },
            decode: { try responseCodec.decode($0) }
        )
    }
}
