internal import Apus
internal import ArgumentParser

/// The values of the server's configuration that tests set; what is not given stays at its default.
struct LimitOptions: ParsableArguments {
    @Option var maxRequestBytes: Int?
    @Option var maxResponseBytes: Int?
    @Option var maxHeaderListBytes: Int?
    @Option var streamWindowBytes: Int?
    @Option var connectionWindowBytes: Int?
    @Option var connectionBufferBytes: Int?
    @Option var sendQueueBytes: Int?
    @Option var connectionSendBufferBytes: Int?
    @Option var serverBufferBytes: Int?
    @Option var maxStreams: Int?
    @Option var maxConnections: Int?
    @Option var maxHandlers: Int?
    @Option var maxHandlersPerConnection: Int?
    @Option var handshakeMilliseconds: Int?
    @Option var graceMilliseconds: Int?
    @Option(help: "Compresses responses to clients that accept it.") var responseCompression: String?
    @OptionGroup var times: TimeOptions
    @Flag(help: "Runs every handler on the global pool, unless its method says otherwise.")
    var globalHandlers = false
    @Flag(help: "Sends the text of errors that are no RPC errors.")
    var sendErrorDescriptions = false

    var configuration: ServerConfiguration {
        var configuration = ServerConfiguration()
        if let maxRequestBytes { configuration.maxRequestBytes = maxRequestBytes }
        if let maxResponseBytes { configuration.maxResponseBytes = maxResponseBytes }
        if let maxHeaderListBytes { configuration.maxHeaderListBytes = maxHeaderListBytes }
        if let streamWindowBytes { configuration.streamWindowBytes = streamWindowBytes }
        if let connectionWindowBytes { configuration.connectionWindowBytes = connectionWindowBytes }
        if let connectionBufferBytes { configuration.connectionBufferBytes = connectionBufferBytes }
        if let sendQueueBytes { configuration.sendQueueBytes = sendQueueBytes }
        if let connectionSendBufferBytes { configuration.connectionSendBufferBytes = connectionSendBufferBytes }
        if let serverBufferBytes { configuration.serverBufferBytes = serverBufferBytes }
        if let maxStreams { configuration.maxConcurrentStreams = maxStreams }
        if let maxConnections { configuration.maxConnections = maxConnections }
        if let maxHandlers { configuration.maxHandlers = maxHandlers }
        if let maxHandlersPerConnection { configuration.maxHandlersPerConnection = maxHandlersPerConnection }
        if let handshakeMilliseconds { configuration.handshakeTimeout = .milliseconds(handshakeMilliseconds) }
        if let graceMilliseconds { configuration.shutdownGracePeriod = .milliseconds(graceMilliseconds) }
        if let responseCompression { configuration.responseCompression = CompressionAlgorithm(responseCompression) }
        configuration.compressionCodecs = CompressionCodecs([GzipCodec(), DeflateCodec(), ReversingCodec()])
        times.apply(to: &configuration)
        if globalHandlers { configuration.handlerExecutor = .globalConcurrent }
        configuration.sendsErrorDescriptions = sendErrorDescriptions
        return configuration
    }
}
