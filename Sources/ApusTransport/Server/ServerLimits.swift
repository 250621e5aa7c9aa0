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
    /// How long a peer has from connecting to the end of its HTTP/2 preface and SETTINGS.
    package var handshakeTimeout: Duration = .seconds(10)
    /// How long calls may go on once a graceful shutdown has begun; `nil` for as long as they want.
    package var shutdownGracePeriod: Duration? = .seconds(30)
    /// Parked worker tasks kept for each loop, and how long an unneeded one is kept.
    package var parkedWorkersMax = 256
    package var parkedWorkerLifetime: Duration = .seconds(10)
    /// Whether the text of an error that is no ``RPCError`` is sent to the client.
    package var sendsErrorDescriptions = false

    package init() {}
}
