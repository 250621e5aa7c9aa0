/// gzip (RFC 1952), by zlib.
///
/// To inflate takes several members one after another as one message, as RFC 1952 §2.2 has it; bytes behind the last
/// one that are no member make it malformed, and so does a message that is cut short or whose checksum is wrong.
public struct GzipCodec: CompressionCodec {
    public var algorithm: CompressionAlgorithm { .gzip }
    private let streams: ZlibStreams

    /// - Parameter level: 1 for speed to 9 for size.
    public init(level: Int = 6) { streams = ZlibStreams(.gzip, level: level) }

    public func compress(_ message: [UInt8]) -> [UInt8]? { streams.compress(message) }

    public func decompress(_ message: [UInt8], bytesMax: Int) throws -> [UInt8] {
        try streams.inflate(message, bytesMax: bytesMax)
    }
}

/// The zlib format (RFC 1950), which HTTP and gRPC call deflate, by zlib.
///
/// Bytes behind the end of the compressed data make a message malformed, and so do a preset dictionary, a message that
/// is cut short, and one whose checksum is wrong.
public struct DeflateCodec: CompressionCodec {
    public var algorithm: CompressionAlgorithm { .deflate }
    private let streams: ZlibStreams

    /// - Parameter level: 1 for speed to 9 for size.
    public init(level: Int = 6) { streams = ZlibStreams(.zlib, level: level) }

    public func compress(_ message: [UInt8]) -> [UInt8]? { streams.compress(message) }

    public func decompress(_ message: [UInt8], bytesMax: Int) throws -> [UInt8] {
        try streams.inflate(message, bytesMax: bytesMax)
    }
}
