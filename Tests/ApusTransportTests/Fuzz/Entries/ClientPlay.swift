internal import ApusBase
internal import ApusEventLoop
internal import Glibc
internal import TestSupport

@testable import ApusTransport

/// A server that an input makes up, against a ``ClientChannel`` whose calls it makes up as well.
final class ClientPlay: Play {
    private enum Act { case playing, settling, late, closing, gone }

    private let stage: Stage
    private var input: FuzzInput
    private var frames = FrameMaker()
    private var channel: ClientChannel?
    private weak var remains: ClientChannel?
    private var server: ListeningSocket?
    private var links: [PlayLink] = []
    private var calls: [PlayedCall] = []
    private var style: UInt8 = 0
    private var reads = true
    private var act = Act.playing
    private var turnsOfAct = 0
    private var isTimeless = true

    /// So many connections are accepted; those after them find nobody.
    private static let linksMax = 4
    private static let callsMax = 24

    init(_ bytes: [UInt8], _ stage: Stage) {
        self.stage = stage
        input = FuzzInput(bytes)
    }

    func begin() throws {
        style = input.byte()
        var limits = ClientLimits()
        limits.backoff.jitter = 0
        if style & 1 != 0 { limits.http2.streamWindowBytes = 1000 }
        if style & 2 != 0 { limits.maxResponseBytes = 100 }
        if style & 4 != 0 { limits.sendQueueBytesHigh = 100 }
        if style & 4 != 0 { limits.sendQueueBytesLow = 20 }
        if style & 8 != 0 { limits.replayBytesMax = 10 }
        let name = "apus-fuzz-\(getpid())"
        server = try ListeningSocket.bind(.unixAbstract(name: name))
        let target = try ClientTarget("unix-abstract:\(name)")
        let channel = ClientChannel(target: target, limits: limits, loop: stage.loop, logger: playLogger)
        self.channel = channel
        remains = channel
        channel.connect()
    }

    func nextTurn() throws -> Bool {
        accept()
        if reads { for link in links { link.receive() } }
        turnsOfAct += 1
        switch act {
        case .playing: if !play() { enter(.settling) }
        case .settling where turnsOfAct == 12:
            try check()
            stage.clock.advance(by: .seconds(3600))
            enter(.late)
        case .late where turnsOfAct == 6:
            for link in links { try hold(link.input.fault == nil, link.input.fault ?? "") }
            channel?.close()
            enter(.closing)
        case .closing where turnsOfAct == 6:
            for call in calls { try hold(call.isOver, "a call has no end") }
            calls = []
            channel = nil
            for link in links { link.socket.close() }
            stage.clock.advance(by: .seconds(10))
            enter(.gone)
        case .gone where turnsOfAct == 6:
            try hold(remains == nil, "something keeps the channel")
            return false
        default: break
        }
        return true
    }

    func end() {
        channel?.close()
        for call in calls { call.cancel() }
        calls = []
        channel = nil
        for link in links { link.socket.close() }
        server?.close()
        server = nil
    }

    private func enter(_ act: Act) {
        self.act = act
        turnsOfAct = 0
        if act == .settling { reads = true }
    }

    private func accept() {
        guard let server, case .connection(let descriptor, _) = server.accept() else { return }
        let link = PlayLink(descriptor)
        if links.count == Self.linksMax { return link.socket.close() }
        links.append(link)
        if style & 0xF0 == 0xF0 {
            frames.isRegular = false
        } else if style & 0x10 == 0 {
            link.socket.send(Frame.openingWithLargeWindows.bytes)
        } else {
            link.socket.send([Frame.settings([3: UInt32(style >> 5)])].bytes)
        }
    }

    // MARK: The script

    private func play() -> Bool {
        var bytes: [UInt8] = []
        while !input.isAtEnd {
            let choice = input.byte()
            bytes += step(choice & 0x3F)
            if choice & 0x40 != 0 { break }
        }
        links.last?.socket.send(bytes)
        return !input.isAtEnd
    }

    private func step(_ choice: UInt8) -> [UInt8] {
        switch choice {
        case 0..<12: beginCall()
        case 12..<18: act(on: calls.isEmpty ? nil : calls[input.number(below: calls.count)])
        case 18..<30: return soundAnswer().bytes
        case 30..<36: return headers().bytes
        case 36..<42:
            let stream = chooseStream()
            note(stream)
            let body = frames.body(&input)
            return frames.data(stream, body, endStream: input.byte() > 220, &input).bytes
        case 42..<46:
            let stream = chooseStream()
            note(stream)
            return Frame.reset(stream, code: UInt32(input.byte() % 16)).bytes
        case 46..<52:
            let frame = frames.control(&input)
            return frame.bytes
        case 52..<54:
            isTimeless = false
            stage.clock.advance(by: .milliseconds(Int(input.number16())))
        case 54: reads.toggle()
        case 55:
            frames.isRegular = false
            links.last?.socket.close()
        case 56..<60:
            frames.isRegular = false
            return input.shortBytes()
        default: break
        }
        return []
    }

    private func chooseStream() -> UInt32 { UInt32(input.byte() % 12) * 2 + 1 }

    /// What is sent on the stream is not all that an answer is.
    private func note(_ stream: UInt32) { links.last?.answered[stream, default: 0] += 1 }

    private func headers() -> [Frame] {
        let stream = chooseStream()
        note(stream)
        var fields = Fields(input.fields(of: responseNames))
        if input.flag() { fields = .responseHead + fields }
        let block = frames.block(fields, &input)
        if links.last?.decoder.decode(block) == nil { frames.isRegular = false }
        return frames.headers(stream, block, endStream: input.byte() > 160, &input)
    }

    /// A whole answer to a call, of which is known what the caller should see.
    private func soundAnswer() -> [Frame] {
        guard let link = links.last else { return [] }
        let unanswered = link.input.streams.filter { link.answered[$0] == nil && link.input.requests[$0]?.reset == nil }
        guard let stream = unanswered.first else { return [] }
        note(stream)
        let status = Int(input.byte() % 18)
        let message = String(decoding: input.shortBytes().prefix(60), as: UTF8.self)
        let metadata = input.fields(of: ["x", "y", "x-bin"]).filter { field in
            let isLegal = !field.value.contains { ($0 < 0x20 && $0 != 0x09) || $0 == 0x7F }
            return isLegal && ["x", "y", "x-bin"].contains(field.name)
        }
        let escaped = message.utf8.map { "%" + ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        let trailers = Fields.trailers(status, escaped) + Fields(metadata)
        let isSound = metadata.allSatisfy { field in
            let parts = field.value.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false)
            return !field.name.hasSuffix("-bin") || expectedMetadata([field]).count == parts.count
        }
        if isSound, let text = link.input.requests[stream]?.texts?.first {
            link.expected[stream] = Expectation(
                call: text,
                status: StatusCode(rawValue: status) ?? .unknown,
                message: StatusCode(rawValue: status) == nil ? nil : message,
                metadata: expectedMetadata(metadata)
            )
        }
        let body = status == 0 ? framed(Array("r\(stream)".utf8)) : []
        if status != 0, input.flag() {
            return [.headers(stream, .responseHead + trailers, endStream: true)]
        }
        return [.headers(stream, .responseHead), .data(stream, body), .headers(stream, trailers, endStream: true)]
    }

    // MARK: Calls

    private func beginCall() {
        guard let channel, calls.count < Self.callsMax else { return }
        let kind = input.byte()
        var options = CallOptions()
        if kind & 8 != 0 {
            isTimeless = false
            options.timeout = .milliseconds(Int(input.byte()) + 1)
        }
        if kind & 16 != 0 {
            for field in input.fields(of: metadataNames) where !field.name.hasPrefix("grpc-") {
                options.metadata.add(bytes: field.value, for: field.name)
            }
        }
        options.waitForReady = kind & 32 != 0
        let name = "c\(calls.count)"
        calls.append(kind & 1 == 0 ? .unary(name, options, channel) : .streaming(name, options, channel))
    }

    private func act(on call: PlayedCall?) {
        switch input.number(below: 4) {
        case 0:
            call?.isDisturbed = true
            call?.cancel()
        case 1: call?.handle?.finishWriting()
        default: _ = try? call?.handle?.writeNow(input.shortBytes())
        }
    }

    // MARK: The properties

    private func check() throws {
        for link in links {
            try hold(link.input.fault == nil, link.input.fault ?? "")
            try hold(link.input.requests.values.allSatisfy { $0.head != nil }, "a frame without a head")
        }
        guard frames.isRegular, isTimeless, links.count == 1, let link = links.first, style & 0x10 == 0 else { return }
        guard !link.socket.isClosedByPeer, link.input.goAways.isEmpty else { return }
        for (stream, expected) in link.expected where link.answered[stream] == 1 {
            guard let call = calls.first(where: { $0.name == expected.call }), !call.isDisturbed else { continue }
            guard let outcome = call.outcome, call.handle == nil else { continue }
            try hold(outcome.count == 1, "call \(expected.call) ended \(outcome.count) times")
            try expected.check(outcome[0])
        }
    }
}

/// A connection that the client made.
final class PlayLink {
    let socket: PlaySocket
    let input = ClientOutput()
    let decoder = HeaderDecoder()
    /// How often something was sent on a stream.
    var answered: [UInt32: Int] = [:]
    var expected: [UInt32: Expectation] = [:]

    init(_ descriptor: CInt) { socket = PlaySocket(descriptor) }

    func receive() { input.feed(socket.receive()) }
}

/// What a caller should see.
struct Expectation {
    var call: String
    var status: StatusCode
    /// `nil` where it is ours to say.
    var message: String?
    var metadata: [Entry]

    func check(_ outcome: UnaryOutcome) throws {
        try holdEqual(Entry.all(of: outcome.trailers), metadata, "the trailers of \(call)")
        switch outcome.result {
        case .success(let response):
            try hold(status == .ok, "\(call) succeeded and should have ended with \(status)")
            try hold(response.starts(with: Array("r".utf8)), "the response of \(call)")
        case .failure(let error):
            try holdEqual(error.code, status, "the code of \(call): \(error.message)")
            if let message { try holdEqual(error.message, message, "the message of \(call)") }
        }
    }
}
