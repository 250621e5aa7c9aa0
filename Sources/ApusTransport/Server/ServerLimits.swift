/// What a server holds its peers and its handlers to, as the transport needs it.
package struct ServerLimits: Sendable {
    package var http2 = HTTP2Settings()
    /// Bytes that a response stream may have queued before `write` suspends, and where it resumes.
    package var sendQueueBytesHigh = 64 * 1024
    package var sendQueueBytesLow = 16 * 1024
    /// Request bytes that one connection may have buffered before messages larger than their stream's window wait.
    package var connectionBufferBytes = 16 * 1024 * 1024
    /// Handlers that may run at once for one connection, streams that were reset meanwhile included.
    package var maxHandlersPerConnection = 200
    /// Handlers that may run at once in the whole server; `nil` for no limit.
    package var maxHandlers: Int?
    /// Connections at once; `nil` for no limit.
    package var maxConnections: Int?
    /// Response bytes that one connection may have queued before its further calls wait to start.
    package var connectionSendBufferBytes = 128 * 1024 * 1024
    /// Bytes of messages that the whole server may hold; `nil` for no limit.
    package var serverBufferBytes: Int? = 1024 * 1024 * 1024
    /// Frames other than DATA that may wait to be sent before the peer is not read from.
    package var queuedControlFramesMax = 1000
    /// Calls of one connection that may be cancelled, soon and without an answer, in a second; `nil` for no limit. This
    /// and the two below let five seconds' worth come at once (``TokenBucket``).
    package var cancellationsPerSecond: Int? = 2000
    /// Streams of one connection that may be reset for breaking HTTP/2's rules.
    package var violationsPerSecond: Int? = 100
    /// Frames of one connection that carry nothing of a call.
    package var emptyFramesPerSecond: Int? = 1000
    package var pings = PingLimits()
    /// How long a peer has from connecting to the end of its HTTP/2 preface and SETTINGS.
    package var handshakeTimeout: Duration = .seconds(10)
    /// How long a block of header fields may be under way.
    package var headerTimeout: Duration = .seconds(10)
    /// How long a socket may take nothing of what is to be sent; `nil` for ever.
    package var writeStallTimeout: Duration? = .seconds(60)
    /// When a peer that says nothing is asked whether it is there; `nil` for never.
    package var keepalive: Keepalive.Times? = Keepalive.Times(
        time: .seconds(2 * 60 * 60),
        timeout: .seconds(20),
        withoutCalls: true
    )
    /// How old a connection may get, and how long its calls may go on then; `nil` for as long as they want.
    package var maxConnectionAge: Duration?
    package var maxConnectionAgeGrace: Duration?
    /// How long a connection may be without a call.
    package var maxConnectionIdle: Duration?
    /// How long calls may go on once a graceful shutdown has begun; `nil` for as long as they want.
    package var shutdownGracePeriod: Duration? = .seconds(30)
    /// Parked worker tasks kept for each loop, and how long an unneeded one is kept.
    package var parkedWorkersMax = 256
    package var parkedWorkerLifetime: Duration = .seconds(10)
    /// Whether the text of an error that is no ``RPCError`` is sent to the client.
    package var sendsErrorDescriptions = false

    package init() {}
}
