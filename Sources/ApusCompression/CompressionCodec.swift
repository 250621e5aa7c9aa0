/// Compresses messages and inflates them again: how an application adds an encoding that gRPC does not define.
///
///     var configuration = ServerConfiguration()
///     configuration.compressionCodecs = CompressionCodecs([GzipCodec(), ZstandardCodec()])
///
/// Each message is for itself: nothing of one may be needed for another (PROTOCOL-HTTP2.md, "Message-Encoding").
/// Called from any thread, from several at once: large messages on threads of their own, small ones on the thread of an
/// event loop, which must not block.
public protocol CompressionCodec: Sendable {
    /// Its name in `grpc-encoding`.
    var algorithm: CompressionAlgorithm { get }

    /// The message compressed, or `nil` if that would not make it smaller: then it is sent as it is.
    ///
    /// - Throws: whatever kept it from compressing; the message is sent as it is.
    func compress(_ message: [UInt8]) throws -> [UInt8]?

    /// The message that was compressed.
    ///
    /// The bytes are a peer's: whatever they are, it must not trap, and what they claim of their size must not be
    /// believed.
    ///
    /// - Parameter bytesMax: the largest message wanted. Memory in this order may be used, no more.
    /// - Throws: ``DecompressionError/overLimit`` as soon as the message is known to be larger than `bytesMax`, which
    ///   ends the call with `RESOURCE_EXHAUSTED`; any other error, which ends it with `INTERNAL`.
    func decompress(_ message: [UInt8], bytesMax: Int) throws -> [UInt8]
}

/// Why a message could not be inflated.
public enum DecompressionError: Error, Hashable, Sendable, CustomStringConvertible {
    /// It is larger than the limit.
    case overLimit
    /// It is not what its encoding says, or cut short; the text says what is wrong.
    case malformed(String)

    public var description: String {
        switch self {
        case .overLimit: "it is larger than the limit"
        case .malformed(let problem): problem
        }
    }
}

extension CompressionCodec {
    /// The message compressed, or `nil` when that does not make it smaller.
    package func compressedIfSmaller(_ message: [UInt8]) -> [UInt8]? {
        guard let compressed = try? compress(message), compressed.count < message.count else { return nil }
        return compressed
    }

    /// The message inflated, in at most `bytesMax` bytes whatever the codec does.
    package func inflated(_ message: [UInt8], bytesMax: Int) throws(DecompressionError) -> [UInt8] {
        let inflated: [UInt8]
        do {
            inflated = try decompress(message, bytesMax: bytesMax)
        } catch let error as DecompressionError {
            throw error
        } catch {
            throw .malformed("\(error)")
        }
        guard inflated.count <= bytesMax else { throw .overLimit }
        return inflated
    }
}
