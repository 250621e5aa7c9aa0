internal import ApusCompression

extension FuzzTarget {
    /// `rule 13`, `rule 14`: what was compressed is inflated again, not a byte over the limit is, and what was changed
    /// on its way is noticed by its check sum.
    static let compression = FuzzTarget(
        name: "compression",
        seeds: {
            let texts = ["", "a", String(repeating: "abc", count: 300), "\u{1F}\u{8B}\u{8}\u{0}"]
            let compressed = texts.flatMap { text in codecs.compactMap { try? $0.compress(Array(text.utf8)) } }
            return texts.map { Array($0.utf8) } + compressed
        },
        run: { bytes in for codec in codecs { try check(codec, bytes) } }
    )

    private static var codecs: [any CompressionCodec] { [GzipCodec(), DeflateCodec()] }

    private static func check(_ codec: any CompressionCodec, _ bytes: [UInt8]) throws {
        let limit = 1000 + 40 * Int(bytes.first ?? 0)
        if let inflated = inflate(bytes, codec, limit) {
            try hold(inflated.count <= limit, "\(inflated.count) bytes, and the limit is \(limit)")
            try holdEqual(inflate(bytes, codec, inflated.count), inflated, "at its own size")
            if !inflated.isEmpty {
                try hold(inflate(bytes, codec, inflated.count - 1) == nil, "a byte over the limit")
            }
        }
        guard let compressed = try codec.compress(bytes) else { return }
        try holdEqual(inflate(compressed, codec, bytes.count), bytes, "\(codec.algorithm)")
        // The sum at the end of deflate, Adler-32, does not see each change of a short message.
        guard codec.algorithm == .gzip else { return }
        var changed = compressed
        let place = Int(bytes.last ?? 0) * 31 % changed.count
        changed[place] ^= 1 << (bytes.first ?? 0) % 8
        let result = inflate(changed, codec, bytes.count)
        try hold(result == nil || result == bytes, "a changed bit at \(place) of \(codec.algorithm) went unnoticed")
    }

    private static func inflate(_ bytes: [UInt8], _ codec: any CompressionCodec, _ limit: Int) -> [UInt8]? {
        try? codec.decompress(bytes, bytesMax: limit)
    }
}
