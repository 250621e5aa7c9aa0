internal import ApusBase
internal import ApusEventLoop
internal import TestSupport

@testable import ApusTransport

/// The same bytes to two server sessions, to one in one piece and to the other in many: both must answer the same.
final class SegmentPlay: Play {
    private let stage: Stage
    private let bytes: [UInt8]
    private let seed: UInt8
    private let methods = PlayMethods()
    private var shard: ServerShard?
    private var whole: PlaySession?
    private var cut: PlaySession?
    private var turns = 0

    init(_ input: [UInt8], _ stage: Stage) {
        self.stage = stage
        seed = input.first ?? 0
        bytes = Array(input.dropFirst())
    }

    func begin() throws {
        let shard = ServerShard(
            loop: stage.loop,
            router: Router(methods.all),
            limits: ServerLimits(),
            logger: playLogger,
            runningHandlersInServer: nil
        )
        self.shard = shard
        let whole = try PlaySession(shard)
        let cut = try PlaySession(shard)
        whole.receive([bytes[...]])
        cut.receive(pieces(of: bytes, seed: seed))
        self.whole = whole
        self.cut = cut
    }

    func nextTurn() throws -> Bool {
        whole?.flush()
        cut?.flush()
        turns += 1
        switch turns {
        case 10: methods.openGate()
        case 20: stage.clock.advance(by: .seconds(3600))
        case 30: try compare()
        case 40: try hold(methods.running == 0, "\(methods.running) handlers still run")
        default: break
        }
        if turns == 31 { end() }
        return turns < 40
    }

    private func compare() throws {
        guard let whole, let cut else { return }
        try hold(whole.output.fault == nil, whole.output.fault ?? "")
        try hold(cut.output.fault == nil, cut.output.fault ?? "")
        // nghttp2 counts a CONTINUATION frame whose header comes in pieces once for each of them.
        if [whole.refusal, cut.refusal].contains(where: { $0?.hasPrefix("Too many CONTINUATION") == true }) { return }
        try holdEqual(whole.refusal == nil, cut.refusal == nil, "\(whole.refusal ?? "-"), \(cut.refusal ?? "-")")
        try holdEqual(whole.output.goAways.map(\.code), cut.output.goAways.map(\.code), "GOAWAY")
        let streams = Set(whole.output.answers.keys).union(cut.output.answers.keys)
        for stream in streams where stream != 0 {
            let left = whole.output.answers[stream] ?? Answer()
            let right = cut.output.answers[stream] ?? Answer()
            try holdEqual(left.head, right.head, "the head of \(stream)")
            try holdEqual(left.trailers, right.trailers, "the trailers of \(stream)")
            try holdEqual(left.body, right.body, "the body of \(stream)")
            try holdEqual(left.reset, right.reset, "the reset of \(stream)")
        }
    }

    func end() {
        whole?.tearDown()
        cut?.tearDown()
        whole = nil
        cut = nil
        shard?.stop()
        shard = nil
    }
}

/// A server session without a socket.
private final class PlaySession {
    let session: ServerSession
    let output = ServerOutput()
    /// Why the session takes no more bytes.
    private(set) var refusal: String?
    private var buffer = [UInt8](repeating: 0, count: 64 * 1024)

    init(_ shard: ServerShard) throws {
        let peer = ConnectionPeer(remote: try RawSocketAddress(.ipv4(host: "192.0.2.1", port: 9)))
        session = try ServerSession(shard: shard, peer: peer)
        receive([(Frame.preface + Frame.openingWithLargeWindows.bytes)[...]])
    }

    /// Takes the bytes in, as a connection does, and starts handlers when all of them are there.
    func receive(_ pieces: [ArraySlice<UInt8>]) {
        for piece in pieces where refusal == nil {
            // SAFETY: the bytes are the slice's, which lives through the call.
            refusal = unsafe piece.withUnsafeBytes { unsafe session.receive($0) }
        }
        session.startReadyCalls()
    }

    func flush() {
        while true {
            session.willSend()
            // SAFETY: the buffer is this object's and is read before it is written again.
            let count = unsafe buffer.withUnsafeMutableBytes { unsafe session.produce(into: $0) }
            guard let count, count > 0 else { return }
            output.feed(buffer[..<count])
        }
    }

    func tearDown() { session.tearDown(cause: "the play is over") }
}
