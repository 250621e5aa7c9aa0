public import ApusCompression

extension CallContext {
    /// The encoding that the client declared for its messages (`grpc-encoding`). Each message may still be
    /// uncompressed.
    public var requestCompression: CompressionAlgorithm { call.requestCompression }

    /// Whether the request of a method that takes one came compressed. Of a stream's requests each says so for itself:
    /// ``RequestStream/received``.
    public var requestWasCompressed: Bool { call.requestWasCompressed }

    /// The encodings that the client accepts in responses (`grpc-accept-encoding`), as far as the server has a codec
    /// for them.
    public var acceptedCompressions: [CompressionAlgorithm] { call.acceptedCompressions }

    /// Has the responses of this call be compressed, or, with ``CompressionAlgorithm/identity``, not be; in place of
    /// what the server's configuration says.
    ///
    /// To be called before the first message or ``sendInitialMetadata()``; later it has no effect. What the client does
    /// not accept is not used: its messages go out uncompressed (gRPC's compression.md). A message that would not be
    /// smaller is sent uncompressed as well, and so is one that is written with `compressed: false`.
    ///
    /// What compresses well together with what a stranger can choose gives secrets away by its size (CRIME, BREACH):
    /// leave off compression for such messages.
    ///
    /// - Returns: whether responses are encoded so from here on.
    @discardableResult
    public func setResponseCompression(_ algorithm: CompressionAlgorithm) -> Bool {
        call.setResponseCompression(algorithm)
    }
}
