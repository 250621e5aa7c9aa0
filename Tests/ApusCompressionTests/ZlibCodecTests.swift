import TestSupport
import Testing

@testable import ApusCompression

/// `rule 13` and `rule 14`, as far as they are the codecs'.
@Suite struct ZlibCodecTests {
    private static let codecs: [any CompressionCodec] = [GzipCodec(), DeflateCodec()]

    private static func inflate(_ codec: any CompressionCodec, _ bytes: [UInt8], _ bytesMax: Int = 1 << 20) -> Outcome {
        do throws(DecompressionError) {
            return .message(try codec.inflated(bytes, bytesMax: bytesMax))
        } catch {
            return error == .overLimit ? .overLimit : .malformed
        }
    }

    private enum Outcome: Equatable {
        case message([UInt8]), overLimit, malformed
    }

    // MARK: What others compressed

    @Test func `what Python compressed is inflated`() {
        #expect(Self.inflate(GzipCodec(), Vectors.gzipped) == .message(Vectors.text))
        #expect(Self.inflate(GzipCodec(), Vectors.gzippedWithName) == .message(Vectors.text))
        #expect(Self.inflate(GzipCodec(), Vectors.gzippedStored) == .message(Array(Vectors.text.prefix(20))))
        #expect(Self.inflate(DeflateCodec(), Vectors.zlibbed) == .message(Vectors.text))
        #expect(Self.inflate(DeflateCodec(), Vectors.zlibbedStored) == .message(Array(Vectors.text.prefix(20))))
    }

    @Test func `each format is refused where another was declared`() {
        for other in [Vectors.zlibbed, Vectors.deflatedBare, Vectors.text, [0, 0, 0, 0]] {
            #expect(Self.inflate(GzipCodec(), other) == .malformed)
        }
        for other in [Vectors.gzipped, Vectors.deflatedBare, Vectors.text, [0, 0, 0, 0]] {
            #expect(Self.inflate(DeflateCodec(), other) == .malformed)
        }
    }

    @Test func `a preset dictionary is malformed`() {
        #expect(Self.inflate(DeflateCodec(), Vectors.zlibbedWithDictionary) == .malformed)
    }

    @Test func `a message cut short anywhere is malformed`() {
        for (codec, whole) in zip(Self.codecs, [Vectors.gzipped, Vectors.zlibbed]) {
            for count in 0..<whole.count {
                #expect(Self.inflate(codec, Array(whole[..<count])) == .malformed, "\(codec.algorithm), \(count) bytes")
            }
        }
    }

    @Test func `bytes behind the end are malformed, unless they are a further member of gzip`() {
        for byte in UInt8.min...UInt8.max {
            #expect(Self.inflate(GzipCodec(), Vectors.gzipped + [byte]) == .malformed)
            #expect(Self.inflate(DeflateCodec(), Vectors.zlibbed + [byte]) == .malformed)
        }
        #expect(Self.inflate(DeflateCodec(), Vectors.zlibbed + Vectors.zlibbed) == .malformed)
        let two = Vectors.gzipped + Vectors.gzippedStored
        #expect(Self.inflate(GzipCodec(), two) == .message(Vectors.text + Vectors.text.prefix(20)))
        for count in (Vectors.gzipped.count + 1)..<two.count {
            #expect(Self.inflate(GzipCodec(), Array(two[..<count])) == .malformed, "\(count) bytes")
        }
    }

    @Test func `the limit counts all members together`() {
        let many = Array(repeatElement(Vectors.gzipped, count: 50).joined())
        let bytes = 50 * Vectors.text.count
        #expect(
            Self.inflate(GzipCodec(), many, bytes) == .message(Array(repeatElement(Vectors.text, count: 50).joined()))
        )
        #expect(Self.inflate(GzipCodec(), many, bytes - 1) == .overLimit)
    }

    @Test func `a bit that is changed is noticed, or is of no matter`() {
        for (codec, whole) in zip(Self.codecs, [Vectors.gzipped, Vectors.zlibbed]) {
            for index in whole.indices {
                for bit in 0..<8 {
                    var changed = whole
                    changed[index] ^= 1 << bit
                    let outcome = Self.inflate(codec, changed)
                    #expect(outcome == .malformed || outcome == .message(Vectors.text), "\(codec.algorithm), \(index)")
                }
            }
        }
    }

    @Test func `random bytes never trap, and are not taken for a message`() {
        var random = RandomSource(seed: 21)
        for _ in 0..<3000 {
            let start =
                Bool.random(using: &random) ? Array(Vectors.gzipped.prefix(10)) : Array(Vectors.zlibbed.prefix(2))
            let bytes = start + random.bytes(upTo: 200)
            for codec in Self.codecs {
                if case .message(let message) = Self.inflate(codec, bytes, 4096) { #expect(message.count <= 4096) }
            }
        }
    }

    // MARK: The limit

    @Test func `a message of exactly the limit is taken, and one byte more is not`() throws {
        for codec in Self.codecs {
            for count in [1000, 16_383, 16_384, 16_385, 100_000, 262_144, 1_000_000] {
                let message = [UInt8](repeating: 7, count: count)
                let compressed = try #require(codec.compressedIfSmaller(message))
                #expect(Self.inflate(codec, compressed, count) == .message(message))
                #expect(Self.inflate(codec, compressed, count + 1) == .message(message))
                #expect(Self.inflate(codec, compressed, count - 1) == .overLimit)
                #expect(Self.inflate(codec, compressed, Int.max) == .message(message))
                #expect(Self.inflate(codec, compressed, 0) == .overLimit)
            }
        }
    }

    @Test func `a message of no bytes fits into a limit of none`() {
        let empty: [UInt8] = [
            0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ]
        #expect(Self.inflate(GzipCodec(), empty, 0) == .message([]))
        #expect(Self.inflate(GzipCodec(), Array(repeatElement(empty, count: 10_000).joined()), 0) == .message([]))
        #expect(Self.inflate(DeflateCodec(), [0x78, 0x9C, 3, 0, 0, 0, 0, 1], 0) == .message([]))
    }

    @Test func `inflating a bomb takes memory for the limit and a byte`() throws {
        let bomb = try #require(GzipCodec().compress([UInt8](repeating: 0, count: 64 << 20)))
        #expect(bomb.count < 100_000)
        var output = ScratchBuffer()
        let limit = 1_000_000
        while output.makeRoom(bytesMax: limit + 1) {
            // SAFETY: only the size of the room is looked at.
            let room = unsafe output.spare(bytesMax: limit + 1).count
            #expect(room > 0)
            output.wrote(room)
        }
        #expect(output.count == limit + 1)
        #expect(output.capacity == limit + 1)
        #expect(Self.inflate(GzipCodec(), bomb, limit) == .overLimit)
        // What was needed for a large message is given back.
        output.clear()
        #expect(output.capacity == 0)
    }

    // MARK: Compressing

    @Test func `what is compressed is inflated, of whatever kind and level, one message after another`() {
        var random = RandomSource(seed: 22)
        for level in 1...9 {
            for codec in [GzipCodec(level: level), DeflateCodec(level: level)] as [any CompressionCodec] {
                for round in 0..<24 {
                    let letters = [2, 20, 256][round % 3]
                    let count = Int.random(in: 0...[30, 500, 5000, 40_000][round % 4], using: &random)
                    let message = (0..<count).map { _ in UInt8(Int.random(in: 0..<letters, using: &random)) }
                    guard let compressed = codec.compressedIfSmaller(message) else {
                        // Two kinds of byte in thousands of them are worth compressing.
                        #expect(letters == 256 || count < 100)
                        continue
                    }
                    #expect(compressed.count < count)
                    let isSame = Self.inflate(codec, compressed) == .message(message)
                    #expect(isSame)
                }
            }
        }
    }

    @Test func `a message that would not get smaller is not compressed`() {
        var random = RandomSource(seed: 23)
        for codec in Self.codecs {
            for count in [0, 1, 8, 19, 20, 21, 100, 16_384, 100_000] {
                #expect(codec.compressedIfSmaller(random.bytes(count)) == nil, "\(count)")
            }
        }
    }

    @Test func `streams are shared by threads and kept apart`() async {
        await withTaskGroup(of: Void.self) { tasks in
            for task in 0..<8 {
                tasks.addTask {
                    var random = RandomSource(seed: UInt64(task))
                    for _ in 0..<200 {
                        let message = Array(repeatElement(random.bytes(upTo: 100), count: 50).joined())
                        for codec in Self.codecs {
                            guard let compressed = codec.compressedIfSmaller(message) else { continue }
                            let isSame = Self.inflate(codec, compressed) == .message(message)
                            #expect(isSame)
                        }
                    }
                }
            }
        }
    }
}
