internal import ApusBase

/// The name of a way to compress messages, as `grpc-encoding` has it.
///
/// Which ones a server or a channel knows is decided by its ``CompressionCodecs``: gzip and deflate unless changed.
///
/// A number inside, so that call options are copied without counting references. Names are kept for the life of the
/// process: make one from what the program says, never from what a peer sent.
public struct CompressionAlgorithm: Hashable, Sendable, CustomStringConvertible {
    private let index: UInt16

    private init(index: UInt16) { self.index = index }

    /// No compression.
    public static let identity = CompressionAlgorithm(index: 0)
    /// RFC 1952.
    public static let gzip = CompressionAlgorithm(index: 1)
    /// The zlib format of RFC 1950, as in HTTP; not the bare format of RFC 1951.
    public static let deflate = CompressionAlgorithm(index: 2)

    /// The algorithm of a name: one of those above, or the name of a codec of the application's own.
    public init(_ name: String) {
        index = Self.names.withLock { names in
            if let known = names.firstIndex(of: name) { return UInt16(truncatingIfNeeded: known) }
            precondition(names.count <= UInt16.max, "more than 65,536 names of compression algorithms")
            names.append(name)
            return UInt16(truncatingIfNeeded: names.count - 1)
        }
    }

    private static let names = Lock(["identity", "gzip", "deflate"])

    public var name: String { Self.names.withLock { $0[Int(index)] } }

    public var description: String { name }
}
