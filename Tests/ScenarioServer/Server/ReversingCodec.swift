internal import Apus

/// An encoding of an application's own that a test can write in a line: runs of one byte, backwards.
///
/// A message is pairs of a count, 1 to 255, and a byte, the last pair first; anything else is malformed.
struct ReversingCodec: CompressionCodec {
    var algorithm: CompressionAlgorithm { CompressionAlgorithm("x-reversed-runs") }

    func compress(_ message: [UInt8]) -> [UInt8]? {
        var compressed: [UInt8] = []
        for byte in message.reversed() {
            if let count = compressed.dropLast().last, count < 255, compressed.last == byte {
                compressed[compressed.count - 2] = count + 1
            } else {
                compressed += [1, byte]
            }
        }
        return compressed.count < message.count ? compressed : nil
    }

    func decompress(_ message: [UInt8], bytesMax: Int) throws -> [UInt8] {
        guard message.count.isMultiple(of: 2) else { throw DecompressionError.malformed("an odd number of bytes") }
        var inflated: [UInt8] = []
        for index in stride(from: message.count - 2, through: 0, by: -2) {
            let count = Int(message[index])
            guard count > 0 else { throw DecompressionError.malformed("a run of no bytes") }
            guard inflated.count + count <= bytesMax else { throw DecompressionError.overLimit }
            inflated.append(contentsOf: repeatElement(message[index + 1], count: count))
        }
        return inflated
    }
}
