internal import ApusBase

/// The formats around deflated data that zlib reads and writes.
enum ZlibFormat {
    /// RFC 1952.
    case gzip
    /// RFC 1950.
    case zlib

    /// As zlib wants it: the base-two logarithm of the largest window, 16 more for gzip.
    var windowBits: Int32 { self == .gzip ? 31 : 15 }

    /// What header and trailer take, and the shortest data between them: nothing gets smaller than this.
    var bytesMin: Int { self == .gzip ? 20 : 8 }
}

/// The zlib streams of a codec. A stream costs 300 KiB (deflating) or 40 KiB (inflating) and some work to make, so a
/// few are kept for the messages to come, each of which begins afresh. Thread-safe.
final class ZlibStreams: Sendable {
    /// Streams of a kind that are kept while nobody uses them.
    private static let keptMax = 8

    private let format: ZlibFormat
    private let level: Int32
    private let inflaters = Lock([Inflater]())
    private let deflaters = Lock([Deflater]())

    init(_ format: ZlibFormat, level: Int) {
        precondition((1...9).contains(level), "the level of a zlib codec is \(level); it has to be 1 to 9")
        self.format = format
        self.level = Int32(truncatingIfNeeded: level)
    }

    func inflate(_ message: [UInt8], bytesMax: Int) throws(DecompressionError) -> [UInt8] {
        guard let inflater = inflaters.withLock({ $0.popLast() }) ?? Inflater(format) else {
            throw .malformed("there is no memory to inflate it")
        }
        defer { inflaters.withLock { if $0.count < Self.keptMax { $0.append(inflater) } } }
        return try inflater.inflate(message, bytesMax: bytesMax)
    }

    func compress(_ message: [UInt8]) -> [UInt8]? {
        guard message.count > format.bytesMin,
            let deflater = deflaters.withLock({ $0.popLast() }) ?? Deflater(format, level: level)
        else { return nil }
        defer { deflaters.withLock { if $0.count < Self.keptMax { $0.append(deflater) } } }
        return deflater.compress(message, bytesMax: message.count - 1)
    }
}
