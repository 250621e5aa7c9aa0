package import ApusCompression

/// The encodings that a server or a channel has for messages. Immutable, shared by all of its loops.
package final class MessageEncodings: Sendable {
    /// An encoding as streams and calls keep it: 0 is identity, others count from 1.
    typealias Index = UInt8

    static let identity: Index = 0

    private struct Entry {
        let codec: any CompressionCodec
        let algorithm: CompressionAlgorithm
        let name: [UInt8]
    }

    private let entries: [Entry]
    /// What is compressed unless a call says otherwise.
    let byDefault: Index
    /// The value of `grpc-accept-encoding`.
    let acceptValue: [UInt8]

    /// For a client: whether each call says what it accepts, and not only those that compress their requests.
    let areAnnounced: Bool

    package init(
        _ codecs: CompressionCodecs = .builtIn,
        byDefault: CompressionAlgorithm = .identity,
        areAnnounced: Bool = false
    ) {
        self.areAnnounced = areAnnounced
        entries = codecs.codecs.prefix(CompressionCodecs.countMax).map {
            Entry(codec: $0, algorithm: $0.algorithm, name: Array($0.algorithm.name.utf8))
        }
        let position = entries.firstIndex { $0.algorithm == byDefault }
        self.byDefault = position.map { UInt8(truncatingIfNeeded: $0 + 1) } ?? Self.identity
        acceptValue = Array((["identity"] + entries.map(\.algorithm.name)).joined(separator: ",").utf8)
    }

    /// The encoding of an algorithm; `nil` when there is no codec for it.
    func index(of algorithm: CompressionAlgorithm) -> Index? {
        if algorithm == .identity { return Self.identity }
        return entries.firstIndex { $0.algorithm == algorithm }.map { UInt8(truncatingIfNeeded: $0 + 1) }
    }

    /// The encoding that a header field names; `nil` when there is no codec for it.
    func index(named name: Span<UInt8>) -> Index? {
        if name.elementsEqual("identity") { return Self.identity }
        return entries.firstIndex { name.elementsEqual($0.name) }.map { UInt8(truncatingIfNeeded: $0 + 1) }
    }

    func algorithm(_ index: Index) -> CompressionAlgorithm {
        index == Self.identity ? .identity : entries[Int(index) - 1].algorithm
    }

    /// The value of `grpc-encoding`.
    func name(_ index: Index) -> [UInt8] {
        index == Self.identity ? Array("identity".utf8) : entries[Int(index) - 1].name
    }

    /// Of an encoding that is not identity.
    func codec(_ index: Index) -> any CompressionCodec { entries[Int(index) - 1].codec }

    /// More than a client has, even one with many that are not known here.
    private static let acceptedNamesMax = 32

    /// The encodings that a list of names has (`grpc-accept-encoding`): a set of bits, the lowest for the first. Names
    /// that are not known do not count, nor does what stands behind the first ``acceptedNamesMax``.
    func accepted(in list: Span<UInt8>) -> UInt16 {
        var accepted: UInt16 = 0
        var start = 0
        for _ in 0..<Self.acceptedNamesMax where start < list.count {
            var end = start
            while end < list.count, list[end] != UInt8(ascii: ",") { end += 1 }
            let name = list.trimmed(start..<end)
            start = end + 1
            guard let index = index(named: list.extracting(name)), index != Self.identity else { continue }
            accepted |= 1 << (index - 1)
        }
        return accepted
    }

    func algorithms(in accepted: UInt16) -> [CompressionAlgorithm] {
        entries.indices.filter { accepted & (1 << UInt16($0)) != 0 }.map { entries[$0].algorithm }
    }
}

/// What a request's head says of encodings, and what follows from that.
struct CallEncodings {
    /// That of the request's messages.
    var request = MessageEncodings.identity
    /// That of the response's messages, unless the handler chooses another.
    var response = MessageEncodings.identity
    /// Those that the client accepts; see ``MessageEncodings/accepted(in:)``.
    var accepted: UInt16 = 0

    /// Whether a message may come compressed, or is to be sent so.
    @inline(__always)
    var areUnusual: Bool { request | response != MessageEncodings.identity }

    func accepts(_ index: MessageEncodings.Index) -> Bool {
        index == MessageEncodings.identity || accepted & (1 << (UInt16(index) - 1)) != 0
    }
}
