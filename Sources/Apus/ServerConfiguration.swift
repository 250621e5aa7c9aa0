internal import ApusTransport

/// The limits, windows and times of a ``Server``. Every default is safe for a server that anyone can reach;
/// `docs/LIMITS.md` has them in one table, with what happens beyond each.
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
    /// Bytes of responses that one connection may have queued, because its client takes them slowly or not at all,
    /// before its further calls wait to start. As long as less is queued a small call is not held up by large ones.
    public var connectionSendBufferBytes = 128 * 1024 * 1024
    /// Bytes of requests and responses that all connections together may hold; `nil` for no limit. Over it connections
    /// that hold more than 64 KiB have their further calls wait to start, and a request that adds to what they hold
    /// ends with `RESOURCE_EXHAUSTED`. What a queued message costs beside its bytes (48 bytes) is counted for requests.
    public var serverBufferBytes: Int? = 1024 * 1024 * 1024

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

    // MARK: What a client may do too much of

    // Beyond each of these the connection is closed, with GOAWAY ENHANCE_YOUR_CALM and one line in the log. Five
    // seconds' worth may come at once; `nil` for no limit.

    /// Calls of one connection that may be cancelled in a second within some 50 ms of their beginning, before anything
    /// of an answer was sent (CVE-2023-44487). Calls that are cancelled later do not count.
    public var maxEarlyCancellationsPerSecond: Int? = 2000
    /// Streams of one connection that may be reset in a second because the client broke a rule of HTTP/2 on them
    /// (CVE-2025-8671).
    public var maxStreamErrorsPerSecond: Int? = 100
    /// Frames of one connection that may come in a second and carry nothing of a call: PING, SETTINGS, PRIORITY, DATA
    /// that is empty and does not end its stream, and WINDOW_UPDATE (CVE-2019-9512, -9513, -9515, -9518). Each HEADERS
    /// or DATA frame that the server sends allows for four more.
    public var maxEmptyFramesPerSecond: Int? = 1000
    /// The least time between two PINGs of a client (gRFC A8). Any number may come while the server answers calls; of
    /// those that come sooner with no HEADERS or DATA sent in between, more than ``maxPingStrikes`` end the connection
    /// with GOAWAY ENHANCE_YOUR_CALM, `too_many_pings`. Without a call open the least time is two hours, unless
    /// ``permitsPingsWithoutCalls``.
    public var minPingInterval = Duration.seconds(5 * 60)
    /// Whether ``minPingInterval`` holds without a call open, too.
    public var permitsPingsWithoutCalls = false
    /// PINGs that may come too soon.
    public var maxPingStrikes = 2

    // MARK: Time

    /// How long a peer has from connecting to the end of its HTTP/2 preface and SETTINGS.
    public var handshakeTimeout = Duration.seconds(10)
    /// How long a block of header fields (HEADERS and CONTINUATION) may be under way; beyond it the connection is
    /// closed with GOAWAY ENHANCE_YOUR_CALM.
    public var headerTimeout = Duration.seconds(10)
    /// How long a client's socket may take nothing of what is to be sent before the connection is closed; `nil` for
    /// ever. A client that reads its socket and withholds credit (flow control) may do so for as long as it wants.
    public var writeStallTimeout: Duration? = .seconds(60)
    /// After how long without a byte from the client it is asked with a PING whether it is still there (gRFC A9); `nil`
    /// for never.
    public var keepaliveTime: Duration? = .seconds(2 * 60 * 60)
    /// How long after that PING something has to come before the connection is closed. With ``keepaliveTime`` set this
    /// or ``writeStallTimeout``, whichever is longer, is also how long the client may leave sent bytes unacknowledged
    /// or untaken, between which the kernel makes no difference (TCP_USER_TIMEOUT, gRFC A18).
    public var keepaliveTimeout = Duration.seconds(20)
    /// Whether clients are asked that have no call open: those that are gone would be kept otherwise.
    public var keepaliveWithoutCalls = true
    /// How old a connection may get, 10 % more or less, before its client is sent to another (gRFC A9): GOAWAY with
    /// `max_age`, while the calls that run go on. `nil`, the default, for any age.
    public var maxConnectionAge: Duration?
    /// How long the calls of a connection that is too old may go on; `nil` for as long as they want.
    public var maxConnectionAgeGrace: Duration?
    /// How long a connection may be without a call before it is closed (gRFC A9): GOAWAY with `max_idle`. `nil`, the
    /// default, for ever.
    public var maxConnectionIdle: Duration?
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
            ValueRule("connectionSendBufferBytes", connectionSendBufferBytes, 64 * 1024...Int.max),
            ValueRule("serverBufferBytes", serverBufferBytes ?? .max, 1024 * 1024...Int.max),
            ValueRule("maxEarlyCancellationsPerSecond", maxEarlyCancellationsPerSecond ?? 1, 1...Int(Int32.max)),
            ValueRule("maxStreamErrorsPerSecond", maxStreamErrorsPerSecond ?? 1, 1...Int(Int32.max)),
            ValueRule("maxEmptyFramesPerSecond", maxEmptyFramesPerSecond ?? 1, 1...Int(Int32.max)),
            ValueRule("maxPingStrikes", maxPingStrikes, 0...Int(Int32.max)),
            ValueRule("maxConcurrentStreams", maxConcurrentStreams, 1...Int(Int32.max)),
            ValueRule("maxHandlersPerConnection", maxHandlersPerConnection, 1...Int(Int32.max)),
            ValueRule("maxHandlers", maxHandlers ?? 1, 1...Int.max),
            ValueRule("maxConnections", maxConnections ?? 1, 1...Int.max),
        ]
        if let problem = compressionCodecs.problem(withDefault: responseCompression) { return problem }
        return problemOfTimes ?? ValueRule.firstProblem(rules)
    }

    private var problemOfTimes: String? {
        let positive = [
            ("handshakeTimeout", handshakeTimeout), ("headerTimeout", headerTimeout),
            ("writeStallTimeout", writeStallTimeout), ("keepaliveTime", keepaliveTime),
            ("keepaliveTimeout", keepaliveTimeout), ("maxConnectionAge", maxConnectionAge),
            ("maxConnectionIdle", maxConnectionIdle),
        ]
        for case (let name, let value?) in positive where value <= .zero {
            return "\(name) is \(value); it has to be more than 0"
        }
        let notNegative = [
            ("minPingInterval", minPingInterval), ("maxConnectionAgeGrace", maxConnectionAgeGrace),
            ("shutdownGracePeriod", shutdownGracePeriod),
        ]
        for case (let name, let value?) in notNegative where value < .zero {
            return "\(name) is \(value); it has to be 0 or more"
        }
        return nil
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
        limits.connectionSendBufferBytes = connectionSendBufferBytes
        limits.serverBufferBytes = serverBufferBytes
        limits.cancellationsPerSecond = maxEarlyCancellationsPerSecond
        limits.violationsPerSecond = maxStreamErrorsPerSecond
        limits.emptyFramesPerSecond = maxEmptyFramesPerSecond
        limits.pings.minInterval = minPingInterval
        limits.pings.permitsWithoutCalls = permitsPingsWithoutCalls
        limits.pings.maxStrikes = maxPingStrikes
        limits.headerTimeout = headerTimeout
        limits.writeStallTimeout = writeStallTimeout
        limits.keepalive = keepaliveTime.map { time in
            Keepalive.Times(time: time, timeout: keepaliveTimeout, withoutCalls: keepaliveWithoutCalls)
        }
        limits.maxConnectionAge = maxConnectionAge
        limits.maxConnectionAgeGrace = maxConnectionAgeGrace
        limits.maxConnectionIdle = maxConnectionIdle
        limits.maxHandlersPerConnection = maxHandlersPerConnection
        limits.maxHandlers = maxHandlers
        limits.maxConnections = maxConnections
        limits.handshakeTimeout = handshakeTimeout
        limits.shutdownGracePeriod = shutdownGracePeriod
        limits.sendsErrorDescriptions = sendsErrorDescriptions
        return limits
    }
}
