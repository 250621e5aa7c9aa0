/// The codecs that a server or a channel has for messages, in the order in which it names them to its peers
/// (`grpc-accept-encoding`).
public struct CompressionCodecs: Hashable, Sendable {
    /// The most that there may be.
    public static let countMax = 16

    public let codecs: [any CompressionCodec]

    public init(_ codecs: [any CompressionCodec]) { self.codecs = codecs }

    /// gzip and deflate.
    public static let builtIn = CompressionCodecs([GzipCodec(), DeflateCodec()])

    /// None: messages that are compressed are refused.
    public static let none = CompressionCodecs([])

    /// Equal are lists whose codecs have the same names and types, in the same order.
    public static func == (left: Self, right: Self) -> Bool { left.identities == right.identities }

    public func hash(into hasher: inout Hasher) { hasher.combine(identities) }

    private struct Identity: Hashable {
        let algorithm: CompressionAlgorithm
        let type: ObjectIdentifier
    }

    private var identities: [Identity] {
        codecs.map { Identity(algorithm: $0.algorithm, type: ObjectIdentifier(type(of: $0))) }
    }

    /// What is wrong with the list, or `nil`.
    private var firstProblem: String? {
        if codecs.count > Self.countMax { return "there are more than \(Self.countMax) compression codecs" }
        var seen: Set<CompressionAlgorithm> = [.identity]
        for codec in codecs {
            let name = codec.algorithm.name
            if !seen.insert(codec.algorithm).inserted { return "there are two compression codecs for \"\(name)\"" }
            if name.isEmpty || !name.utf8.allSatisfy(Self.isTokenByte) {
                return "\"\(name)\" cannot be the name of a compression codec"
            }
        }
        return nil
    }

    /// What is wrong with the list, or with compressing so by default, or `nil`.
    package func problem(withDefault algorithm: CompressionAlgorithm) -> String? {
        if let firstProblem { return firstProblem }
        if algorithm == .identity || codecs.contains(where: { $0.algorithm == algorithm }) { return nil }
        return "messages cannot be compressed with \"\(algorithm)\", for which there is no codec"
    }

    /// RFC 9110 §5.6.2; in lower case, as the names that there are.
    private static func isTokenByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
        default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
        }
    }
}
