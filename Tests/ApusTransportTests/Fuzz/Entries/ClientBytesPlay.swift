internal import ApusBase
internal import ApusEventLoop
internal import Glibc
internal import TestSupport

@testable import ApusTransport

/// The same bytes of a server to two channels that make the same calls: to one in one piece, to the other in many, each
/// in a turn of its own. The calls must end alike.
final class ClientBytesPlay: Play {
    private let stage: Stage
    private let whole: Side
    private let cut: Side
    private var turns = 0
    private var quietTurns = 0

    init(_ input: [UInt8], _ stage: Stage) {
        self.stage = stage
        let bytes = Array(input.dropFirst())
        whole = Side([bytes[...]])
        // Every piece costs a turn.
        cut = Side(bytes.count > 500 ? [bytes[..<200], bytes[200...]] : pieces(of: bytes, seed: input.first ?? 0))
    }

    func begin() throws {
        try whole.begin("whole", stage)
        try cut.begin("cut", stage)
    }

    func nextTurn() throws -> Bool {
        let isSending = [whole.nextTurn(), cut.nextTurn()].contains(true)
        turns += 1
        quietTurns = isSending ? 0 : quietTurns + 1
        switch quietTurns {
        case 8: try compare()
        case 9: stage.clock.advance(by: .seconds(3600))
        case 12: for side in [whole, cut] { side.channel?.close() }
        case 16:
            for side in [whole, cut] {
                try hold(side.link?.input.fault == nil, side.link?.input.fault ?? "")
                try hold(side.calls.allSatisfy(\.isOver), "a call has no end")
            }
            end()
            stage.clock.advance(by: .seconds(10))
        case 22: for side in [whole, cut] { try hold(side.remains == nil, "something keeps the channel") }
        default: break
        }
        return quietTurns < 23
    }

    func end() {
        whole.end()
        cut.end()
    }

    private func compare() throws {
        guard let left = whole.link, let right = cut.link else { return }
        // A call that is tried again has another stream than what the bytes are for.
        // As for a CONTINUATION frame in pieces, see `SegmentPlay`.
        let isSilent = [left, right].contains(where: \.input.goAways.isEmpty)
        if isSilent, [left, right].contains(where: \.socket.isClosedByPeer) { return }
        let isRepeated = [left, right].contains { $0.input.streams.count > Side.callCount }
        if isRepeated || whole.linkCount > 1 || cut.linkCount > 1 { return }
        // What of a stream that is at fault is noticed before the connection ends depends on where reads end.
        let goodbyes = [left, right].map { $0.input.goAways.filter { $0.code != 0 }.count }
        try hold((goodbyes[0] == 0) == (goodbyes[1] == 0), "only one of the two broke off: \(goodbyes)")
        if goodbyes[0] > 0 { return }
        for (one, other) in zip(whole.calls, cut.calls) {
            let errors = [one, other].compactMap { $0.outcome?.first?.error.map { "\($0)" } }
            let codes = [one, other].map { $0.outcome?.first?.error?.code }
            try hold(codes[0] == codes[1], "\(one.name) ended with \(errors)")
            try holdEqual(one.outcome?.first?.trailers, other.outcome?.first?.trailers, "the trailers of \(one.name)")
            try holdEqual(one.outcome?.first?.bytes, other.outcome?.first?.bytes, "the response of \(one.name)")
        }
    }
}

/// One of the two channels.
private final class Side {
    static let callCount = 5

    private var pieces: [ArraySlice<UInt8>]
    private var server: ListeningSocket?
    private(set) var channel: ClientChannel?
    private(set) weak var remains: ClientChannel?
    private(set) var calls: [PlayedCall] = []
    private(set) var link: PlayLink?
    private(set) var linkCount = 0

    init(_ pieces: [ArraySlice<UInt8>]) { self.pieces = pieces.reversed() }

    func begin(_ name: String, _ stage: Stage) throws {
        let address = "apus-fuzz-\(name)-\(getpid())"
        server = try ListeningSocket.bind(.unixAbstract(name: address))
        let target = try ClientTarget("unix-abstract:\(address)")
        let channel = ClientChannel(target: target, limits: ClientLimits(), loop: stage.loop, logger: playLogger)
        self.channel = channel
        remains = channel
        for index in 0..<Self.callCount {
            let call = index < 3 ? PlayedCall.unary : PlayedCall.streaming
            calls.append(call("c\(index)", CallOptions(), channel))
        }
    }

    /// Sends the next piece once the calls are on their way; `false` when there is nothing to do.
    func nextTurn() -> Bool {
        if let server, case .connection(let descriptor, _) = server.accept() {
            let link = PlayLink(descriptor)
            linkCount += 1
            guard self.link == nil else { return false }
            self.link = link
            link.socket.send(Frame.openingWithLargeWindows.bytes)
            return true
        }
        guard let link else { return linkCount == 0 }
        link.receive()
        guard link.input.streams.count >= Self.callCount else { return !link.socket.isClosedByPeer }
        guard let piece = pieces.popLast() else { return false }
        link.socket.send(Array(piece))
        return true
    }

    func end() {
        channel?.close()
        for call in calls { call.cancel() }
        calls = []
        channel = nil
        link?.socket.close()
        server?.close()
        server = nil
    }
}

extension UnaryOutcome {
    fileprivate var error: RPCError? {
        if case .failure(let error) = result { return error }
        return nil
    }

    fileprivate var bytes: [UInt8]? { try? result.get() }
}
