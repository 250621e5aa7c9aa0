public import ApusBase
public import ApusCompression

/// How one call is made: its deadline, its metadata, its limits.
///
///     try await echo.get(request, options: .timeout(.seconds(1)))
public struct CallOptions: Hashable, Sendable {
    /// How long the call may take, from its start to its end, waiting for a connection included. `nil` for no limit.
    ///
    /// It travels with the call (`grpc-timeout`), so that the server gives up as well. When it has passed the call ends
    /// with `DEADLINE_EXCEEDED`, whatever the server says later. Zero or less ends the call before it begins.
    public var timeout: Duration?

    /// Sent ahead of the requests. Metadata that HTTP/2 cannot carry (``Metadata/firstProblem``) ends the call with
    /// `INTERNAL` before anything is sent.
    public var metadata: Metadata

    /// Whether the call waits while the channel cannot connect, and does not fail (gRPC's "wait for ready").
    public var waitForReady: Bool

    /// Largest request message, in bytes; `nil` for the channel's limit. A larger one is refused with
    /// `RESOURCE_EXHAUSTED`.
    public var maxRequestBytes: Int?

    /// Largest response message accepted, in bytes; `nil` for the channel's limit. A larger one ends the call with
    /// `RESOURCE_EXHAUSTED`.
    public var maxResponseBytes: Int?

    /// How requests are compressed; `nil` for the channel's choice, ``CompressionAlgorithm/identity`` for not at all.
    ///
    /// A message that would not be smaller is sent uncompressed, and so is one that is written with
    /// `compressed: false`. A server that does not know the algorithm ends the call with `UNIMPLEMENTED`; one that the
    /// channel has no codec for ends it with `INTERNAL` before anything is sent.
    ///
    /// What compresses well together with what a stranger can choose gives secrets away by its size (CRIME, BREACH):
    /// leave off compression for such messages.
    public var compression: CompressionAlgorithm?

    public init(
        timeout: Duration? = nil,
        metadata: Metadata = Metadata(),
        waitForReady: Bool = false,
        maxRequestBytes: Int? = nil,
        maxResponseBytes: Int? = nil,
        compression: CompressionAlgorithm? = nil
    ) {
        self.timeout = timeout
        self.metadata = metadata
        self.waitForReady = waitForReady
        self.maxRequestBytes = maxRequestBytes
        self.maxResponseBytes = maxResponseBytes
        self.compression = compression
    }

    /// Options with a timeout.
    public static func timeout(_ timeout: Duration) -> CallOptions { CallOptions(timeout: timeout) }

    /// Options with metadata.
    public static func metadata(_ metadata: Metadata) -> CallOptions { CallOptions(metadata: metadata) }

    /// Options with compressed requests.
    public static func compression(_ algorithm: CompressionAlgorithm) -> CallOptions {
        CallOptions(compression: algorithm)
    }
}
