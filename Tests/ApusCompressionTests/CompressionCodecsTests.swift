import Testing

@testable import ApusCompression

@Suite struct CompressionCodecsTests {
    private struct NamedCodec: CompressionCodec {
        var name: String
        var output: [UInt8] = []
        var algorithm: CompressionAlgorithm { CompressionAlgorithm(name) }
        func compress(_ message: [UInt8]) throws -> [UInt8]? { output }
        func decompress(_ message: [UInt8], bytesMax: Int) throws -> [UInt8] {
            struct Trouble: Error {}
            guard !output.isEmpty else { throw Trouble() }
            return output
        }
    }

    @Test func `an algorithm is its name`() {
        #expect(CompressionAlgorithm("gzip") == .gzip)
        #expect(CompressionAlgorithm("deflate") == .deflate)
        #expect(CompressionAlgorithm("identity") == .identity)
        #expect(CompressionAlgorithm("x-one") == CompressionAlgorithm("x-one"))
        #expect(CompressionAlgorithm("x-one") != CompressionAlgorithm("x-two"))
        #expect(CompressionAlgorithm("x-one").name == "x-one")
        #expect(MemoryLayout<CompressionAlgorithm?>.size <= 4)
    }

    @Test func `lists with the same codecs are equal`() {
        #expect(CompressionCodecs.builtIn == CompressionCodecs([GzipCodec(level: 1), DeflateCodec()]))
        #expect(CompressionCodecs.builtIn != CompressionCodecs([DeflateCodec(), GzipCodec()]))
        #expect(CompressionCodecs.builtIn != .none)
        #expect(CompressionCodecs([GzipCodec()]) != CompressionCodecs([NamedCodec(name: "gzip")]))
    }

    @Test(arguments: ["", "identity", "with space", "Upper", "comma,", "gzip", "ü", "a;q=1", "tab\t"])
    func `a name that cannot be one, or is taken, is a problem`(name: String) {
        #expect(CompressionCodecs([GzipCodec(), NamedCodec(name: name)]).problem(withDefault: .identity) != nil)
    }

    @Test func `a default without a codec is a problem, and so are too many codecs`() {
        #expect(CompressionCodecs.builtIn.problem(withDefault: .gzip) == nil)
        #expect(CompressionCodecs.none.problem(withDefault: .identity) == nil)
        #expect(CompressionCodecs.none.problem(withDefault: .gzip)?.contains("\"gzip\"") == true)
        let codecs = (0..<17).map { NamedCodec(name: "x-many-\($0)") }
        #expect(CompressionCodecs(Array(codecs.prefix(16))).problem(withDefault: .identity) == nil)
        #expect(CompressionCodecs(codecs).problem(withDefault: .identity) != nil)
    }

    @Test func `a codec that keeps to no limit is held to it`() {
        let codec = NamedCodec(name: "x-greedy", output: [1, 2, 3, 4])
        #expect(throws: DecompressionError.overLimit) { try codec.inflated([1], bytesMax: 3) }
        #expect(throws: Never.self) { try codec.inflated([1], bytesMax: 4) }
        #expect(codec.compressedIfSmaller([1, 2, 3, 4]) == nil)
        #expect(codec.compressedIfSmaller([1, 2, 3, 4, 5]) == [1, 2, 3, 4])
    }

    @Test func `whatever a codec throws is a malformed message`() {
        let codec = NamedCodec(name: "x-throws")
        #expect(throws: DecompressionError.malformed("Trouble()")) { try codec.inflated([1], bytesMax: 3) }
    }
}
