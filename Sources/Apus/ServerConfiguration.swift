internal import ApusTransport

/// The limits, windows and times of a ``Server``. Every default is safe for a server that anyone can reach.
public struct ServerConfiguration: Hashable, Sendable {
    // MARK: Messages

    /// Largest request message accepted, in bytes; a larger one ends its call with `RESOURCE_EXHAUSTED`.
    public var maxRequestBytes = 4 * 1024 * 1024
    /// Largest response message sent, in bytes; a larger one ends its call with `RESOURCE_EXHAUSTED`.
    public var maxResponseBytes = Int(Int32.max)
    /// Largest sum of name + value + 32 over the fields of a request's head, in bytes (SETTINGS_MAX_HEADER_LIST_SIZE).
    /// Over it a call is refused with HTTP status 431 and `RESOURCE_EXHAUSTED`.
    public var maxHeaderListBytes = 8 * 1024
    /// Most fields that a request's head may have.
    public var maxHeaderFields = 128

    // MARK: Compression

    /// The encodings accepted in requests, and there to choose from for responses (`grpc-accept-encoding`). A request
    /// in any other ends with `UNIMPLEMENTED`.
    public var compressionCodecs = CompressionCodecs.builtIn
    /// How responses are compressed, if the client accepts that, unless a handler says otherwise
    /// (``CallContext/setResponseCompression(_:)``); by default not at all.
    public var responseCompression = CompressionAlgorithm.identity

    // MARK: Flow control

    /// How much of a request stream may be under way or wait to be read, in bytes (SETTINGS_INITIAL_WINDOW_SIZE); 1 to
    /// 2³¹−1. A message larger than this still gets through.
    public var streamWindowBytes = 256 * 1024
    /// How much may be under way on a connection, in bytes; 65,535 to 2³¹−1.
    public var connectionWindowBytes = 1024 * 1024
    /// Bytes of requests that one connection may have buffered before messages larger than the window of their stream
    /// are let in one at a time.
    public var connectionBufferBytes = 16 * 1024 * 1024
    /// Bytes that a response stream queues before ``ResponseWriter/write(_:)`` suspends.
    public var sendQueueBytes = 64 * 1024

    // MARK: Load

    /// Calls that a client may have open at once on a connection (SETTINGS_MAX_CONCURRENT_STREAMS).
    public var maxConcurrentStreams = 100
    /// Handlers that may run at once for one connection, those included whose call the client has given up. Over it new
    /// calls are refused with REFUSED_STREAM, which clients may try again.
    public var maxHandlersPerConnection = 200
    /// Handlers that may run at once in the whole server; `nil` for no limit. Over it calls end with
    /// `RESOURCE_EXHAUSTED`.
    public var maxHandlers: Int?
    /// Connections at once; `nil` for no limit. Over it new connections wait in the kernel's backlog.
    public var maxConnections: Int?

    // MARK: Time

    /// How long a peer has from connecting to the end of its HTTP/2 preface and SETTINGS.
    public var handshakeTimeout = Duration.seconds(10)
    /// How long calls may go on once a graceful shutdown has begun; `nil` for as long as they want.
    public var shutdownGracePeriod: Duration? = .seconds(30)

    // MARK: Handlers

    /// Where asynchronous handlers run, unless their ``MethodOptions`` say otherwise.
    public var handlerExecutor = HandlerExecutor.eventLoop
    /// Whether the text of an error other than ``RPCError`` that a handler throws is sent to the client. It may tell
    /// what a stranger should not know, so by default it is only logged.
    public var sendsErrorDescriptions = false

    public init() {}
}

extension ServerConfiguration {
    /// What is wrong with it, or `nil`.
    var firstProblem: String? {
        let largestWindow = Int(Int32.max)
        let rules = [
            ValueRule("maxRequestBytes", maxRequestBytes, 0...Int(UInt32.max)),
            ValueRule("maxResponseBytes", maxResponseBytes, 0...Int(UInt32.max)),
            ValueRule("maxHeaderListBytes", maxHeaderListBytes, 1024...Int(Int32.max)),
            ValueRule("maxHeaderFields", maxHeaderFields, 8...65_535),
            ValueRule("streamWindowBytes", streamWindowBytes, 1...largestWindow),
            ValueRule("connectionWindowBytes", connectionWindowBytes, 65_535...largestWindow),
            ValueRule("connectionBufferBytes", connectionBufferBytes, 0...Int.max),
            ValueRule("sendQueueBytes", sendQueueBytes, 1...Int(Int32.max)),
            ValueRule("maxConcurrentStreams", maxConcurrentStreams, 1...Int(Int32.max)),
            ValueRule("maxHandlersPerConnection", maxHandlersPerConnection, 1...Int(Int32.max)),
            ValueRule("maxHandlers", maxHandlers ?? 1, 1...Int.max),
            ValueRule("maxConnections", maxConnections ?? 1, 1...Int.max),
        ]
        if let problem = compressionCodecs.problem(withDefault: responseCompression) { return problem }
        if handshakeTimeout <= .zero { return "handshakeTimeout is \(handshakeTimeout); it has to be more than 0" }
        if let grace = shutdownGracePeriod, grace < .zero {
            return "shutdownGracePeriod is \(grace); it has to be 0 or more"
        }
        return ValueRule.firstProblem(rules)
    }

    /// As the transport takes them.
    var encodings: MessageEncodings { MessageEncodings(compressionCodecs, byDefault: responseCompression) }

    /// As the transport takes it.
    var limits: ServerLimits {
        var limits = ServerLimits()
        limits.http2.maxConcurrentStreams = UInt32(clamping: maxConcurrentStreams)
        limits.http2.streamWindowBytes = Int32(clamping: streamWindowBytes)
        limits.http2.connectionWindowBytes = Int32(clamping: connectionWindowBytes)
        limits.http2.maxHeaderListBytes = maxHeaderListBytes
        limits.http2.maxHeaderFields = maxHeaderFields
        limits.sendQueueBytesHigh = sendQueueBytes
        limits.sendQueueBytesLow = sendQueueBytes / 4
        limits.connectionBufferBytes = connectionBufferBytes
        limits.maxHandlersPerConnection = maxHandlersPerConnection
        limits.maxHandlers = maxHandlers
        limits.maxConnections = maxConnections
        limits.handshakeTimeout = handshakeTimeout
        limits.shutdownGracePeriod = shutdownGracePeriod
        limits.sendsErrorDescriptions = sendsErrorDescriptions
        return limits
    }
}
