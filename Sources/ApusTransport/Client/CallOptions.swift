public import ApusBase

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

    public init(
        timeout: Duration? = nil,
        metadata: Metadata = Metadata(),
        waitForReady: Bool = false,
        maxRequestBytes: Int? = nil,
        maxResponseBytes: Int? = nil
    ) {
        self.timeout = timeout
        self.metadata = metadata
        self.waitForReady = waitForReady
        self.maxRequestBytes = maxRequestBytes
        self.maxResponseBytes = maxResponseBytes
    }

    /// Options with a timeout.
    public static func timeout(_ timeout: Duration) -> CallOptions { CallOptions(timeout: timeout) }

    /// Options with metadata.
    public static func metadata(_ metadata: Metadata) -> CallOptions { CallOptions(metadata: metadata) }
}
