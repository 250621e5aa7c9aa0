internal import ApusTransport

/// The limits, windows and times of a ``Channel``.
public struct ChannelConfiguration: Hashable, Sendable {
    // MARK: Messages

    /// Largest request message sent, in bytes, unless a call says otherwise.
    public var maxRequestBytes = Int(Int32.max)
    /// Largest response message accepted, in bytes, unless a call says otherwise; a larger one ends its call with
    /// `RESOURCE_EXHAUSTED`.
    public var maxResponseBytes = 4 * 1024 * 1024
    /// Largest sum of name + value + 32 over the fields of a response's head, or its trailers, in bytes
    /// (SETTINGS_MAX_HEADER_LIST_SIZE). Over it the call ends with `RESOURCE_EXHAUSTED`.
    public var maxHeaderListBytes = 8 * 1024
    /// Most fields that a response's head, or its trailers, may have.
    public var maxHeaderFields = 128

    // MARK: Compression

    /// The encodings understood in responses, and there to choose from for requests. A response in any other ends its
    /// call with `INTERNAL`.
    public var compressionCodecs = CompressionCodecs.builtIn
    /// How requests are compressed unless a call says otherwise (``CallOptions/compression``); by default not at all.
    public var requestCompression = CompressionAlgorithm.identity
    /// Whether servers are told with every call that responses may be compressed (`grpc-accept-encoding`). Off by
    /// default, because that field makes a small call 3 % dearer. A call whose requests are compressed says so in any
    /// case, and a response that comes compressed without having been asked for is understood.
    public var acceptsCompressedResponses = false

    // MARK: Flow control

    /// How much of a response stream may be under way or wait to be read, in bytes (SETTINGS_INITIAL_WINDOW_SIZE); 1 to
    /// 2³¹−1. A message larger than this still gets through. The memory of messages that wait to be read is more than
    /// their bytes: up to nine times as much for messages of a byte.
    public var streamWindowBytes = 256 * 1024
    /// How much may be under way on the connection, in bytes; 65,535 to 2³¹−1.
    public var connectionWindowBytes = 1024 * 1024
    /// Bytes that a request stream queues before ``RequestWriter/write(_:)`` waits.
    public var sendQueueBytes = 64 * 1024

    // MARK: Connecting

    /// How long it may take to look the host up, connect, and get the server's HTTP/2 SETTINGS, over all of the host's
    /// addresses.
    public var connectTimeout = Duration.seconds(20)
    /// How long the channel waits after the first failure to connect. Each further delay is 1.6 times the last, give or
    /// take a fifth, until a connection comes about (gRPC's connection-backoff.md).
    public var initialBackoff = Duration.seconds(1)
    /// Longest delay between two attempts to connect.
    public var maxBackoff = Duration.seconds(120)

    // MARK: Keeping a connection

    /// After how long without a byte from the server it is asked with a PING whether it is still there (gRFC A8); at
    /// least 10 s, and `nil`, the default, for never. A server may close connections that ask more often than it
    /// allows, by default every 5 minutes: the channel then logs a warning and doubles the time for new connections.
    public var keepaliveTime: Duration?
    /// How long after that PING something has to come. Otherwise the connection is closed and its calls end with
    /// `UNAVAILABLE`. With ``keepaliveTime`` set this is also how long sent bytes may stay unacknowledged
    /// (TCP_USER_TIMEOUT, gRFC A18).
    public var keepaliveTimeout = Duration.seconds(20)
    /// Whether a server is also asked while no call is open. Many servers close such connections after some PINGs.
    public var keepaliveWithoutCalls = false
    /// After how long without a call the channel closes its connection; the next call makes a new one. `nil` for never.
    public var idleTimeout: Duration? = .seconds(30 * 60)

    /// How long the connection's socket may be full and take not one byte. Then the server is taken for gone: the
    /// connection is closed, its calls end with `UNAVAILABLE`, and the next call makes a new one. A server that reads
    /// and gives no credit (a flow-control window of zero) is none of this. `nil` for as long as TCP keeps trying.
    /// Calls that begin meanwhile wait, and leave nothing behind when they end.
    public var writeStallTimeout: Duration? = .seconds(60)
    /// How many frames that carry nothing of a call the server may send a second, with five seconds' worth at once:
    /// PING, SETTINGS, GOAWAY, WINDOW_UPDATE, empty DATA, RST_STREAM of streams that are gone. Each frame and each
    /// message of a call that is sent to it allows for four more. Beyond that the connection is ended
    /// (ENHANCE_YOUR_CALM), and its calls with `UNAVAILABLE`. `nil` for any number.
    public var maxEmptyFramesPerSecond: Int? = 1000

    // MARK: Names

    /// The host that requests are for (`:authority`); `nil` for the target's.
    public var authority: String?
    /// Goes in front of Apus' own name in `user-agent`.
    public var userAgent: String?

    public init() {}
}

extension ChannelConfiguration {
    /// What gRPC allows a client at the least (gRFC A8).
    private static let keepaliveTimeMin = Duration.seconds(10)

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
            ValueRule("sendQueueBytes", sendQueueBytes, 1...Int(Int32.max)),
            ValueRule("maxEmptyFramesPerSecond", maxEmptyFramesPerSecond ?? 1, 1...Int(Int32.max)),
        ]
        if let problem = ValueRule.firstProblem(rules) { return problem }
        if let problem = compressionCodecs.problem(withDefault: requestCompression) { return problem }
        let durations = [
            ("connectTimeout", connectTimeout), ("initialBackoff", initialBackoff), ("maxBackoff", maxBackoff),
            ("keepaliveTimeout", keepaliveTimeout), ("idleTimeout", idleTimeout ?? .seconds(1)),
            ("writeStallTimeout", writeStallTimeout ?? .seconds(1)),
        ]
        if let (name, value) = durations.first(where: { $0.1 <= .zero }) {
            return "\(name) is \(value); it has to be more than 0"
        }
        if let keepaliveTime, keepaliveTime < Self.keepaliveTimeMin {
            return "keepaliveTime is \(keepaliveTime); it has to be at least \(Self.keepaliveTimeMin)"
        }
        for (name, text) in [("authority", authority), ("userAgent", userAgent)] {
            guard let text else { continue }
            let isVisible = text.utf8.allSatisfy { (0x20...0x7E).contains($0) }
            if text.isEmpty || !isVisible || text.hasPrefix(" ") || text.hasSuffix(" ") {
                return "\(name) is \"\(text)\"; it has to be visible ASCII"
            }
        }
        return nil
    }

    /// As the transport takes them.
    var encodings: MessageEncodings {
        MessageEncodings(
            compressionCodecs,
            byDefault: requestCompression,
            areAnnounced: acceptsCompressedResponses
        )
    }

    /// As the transport takes it.
    var limits: ClientLimits {
        var limits = ClientLimits()
        limits.maxRequestBytes = maxRequestBytes
        limits.maxResponseBytes = maxResponseBytes
        limits.http2.maxHeaderListBytes = maxHeaderListBytes
        limits.http2.maxHeaderFields = maxHeaderFields
        limits.http2.streamWindowBytes = Int32(clamping: streamWindowBytes)
        limits.http2.connectionWindowBytes = Int32(clamping: connectionWindowBytes)
        limits.sendQueueBytesHigh = sendQueueBytes
        limits.sendQueueBytesLow = sendQueueBytes / 4
        limits.connectTimeout = connectTimeout
        limits.backoff.initialDelay = initialBackoff
        limits.backoff.maxDelay = maxBackoff
        limits.keepalive = keepaliveTime.map { time in
            Keepalive.Times(time: time, timeout: keepaliveTimeout, withoutCalls: keepaliveWithoutCalls)
        }
        limits.idleTimeout = idleTimeout
        limits.writeStallTimeout = writeStallTimeout
        limits.emptyFramesPerSecond = maxEmptyFramesPerSecond
        limits.authority = authority
        if let userAgent { limits.userAgent = "\(userAgent) \(limits.userAgent)" }
        return limits
    }
}
