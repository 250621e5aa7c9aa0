internal import ApusBase
internal import ApusEventLoop
internal import TestSupport

@testable import ApusTransport

/// A client that an input makes up, against a ``ServerConnection`` on a socket pair.
final class ServerPlay: Play {
    private enum Act { case playing, settling, late, leaving, gone }

    private let stage: Stage
    private var input: FuzzInput
    private var frames = FrameMaker()
    private let methods = PlayMethods()
    private var shard: ServerShard?
    private weak var connection: ServerConnection?
    private var socket = PlaySocket(-1)
    private let output = ServerOutput()
    private let decoder = HeaderDecoder()
    private var speaksHTTP2 = true
    private var hasLargeWindows = false
    private var hasFewHandlers = false
    private var reads = true
    private var mayEndConnection = false
    private var act = Act.playing
    private var turnsOfAct = 0
    /// Turns in a row that brought nothing from the server.
    private var quietTurns = 0
    private var nextStream: UInt32 = 1
    private var requests: [UInt32: PlayedRequest] = [:]
    private var dataBytes: [UInt32: Int] = [:]

    init(_ bytes: [UInt8], _ stage: Stage) {
        self.stage = stage
        input = FuzzInput(bytes)
    }

    func begin() throws {
        let style = input.byte()
        var limits = ServerLimits()
        if style & 1 != 0 { limits.http2.streamWindowBytes = 1000 }
        if style & 2 != 0 { limits.sendQueueBytesHigh = 100 }
        if style & 2 != 0 { limits.sendQueueBytesLow = 20 }
        hasFewHandlers = style & 4 != 0
        if hasFewHandlers { limits.maxHandlersPerConnection = 2 }
        let router = Router(methods.all)
        let shard = ServerShard(
            loop: stage.loop,
            router: router,
            limits: limits,
            logger: playLogger,
            runningHandlersInServer: nil
        )
        self.shard = shard
        let (ours, theirs) = try SystemCalls.socketPair()
        socket = PlaySocket(ours)
        if style & 8 != 0 { try SystemCalls.setOption(.sendBufferBytes, to: 1, on: theirs) }
        let peer = ConnectionPeer(remote: try RawSocketAddress(.ipv4(host: "192.0.2.1", port: 9)))
        let connection = try ServerConnection(descriptor: theirs, peer: peer, shard: shard) {}
        try connection.start()
        self.connection = connection
        if style & 0xF0 == 0xF0 {
            // Something that is no client of HTTP/2, or one with another beginning.
            speaksHTTP2 = false
            frames.isRegular = false
            if style & 1 != 0 { socket.send(Frame.preface) }
        } else {
            hasLargeWindows = style & 16 == 0
            let opening = hasLargeWindows ? Frame.openingWithLargeWindows : [.settings()]
            socket.send(Frame.preface + opening.bytes)
        }
    }

    func nextTurn() throws -> Bool {
        if reads { receive() }
        turnsOfAct += 1
        switch act {
        case .playing: if !play() { enter(.settling) }
        case .settling where quietTurns == 8:
            try check()
            stage.clock.advance(by: .seconds(3600))
            enter(.late)
        case .late where turnsOfAct == 4:
            if output.settings != nil { try hold(output.fault == nil, output.fault ?? "") }
            socket.close()
            enter(.leaving)
        case .leaving where turnsOfAct == 4:
            // Whatever lingers does so for a second.
            stage.clock.advance(by: .seconds(10))
            enter(.gone)
        case .gone where turnsOfAct == 4:
            try hold(connection == nil, "the connection is still there")
            try hold(methods.running == 0, "\(methods.running) handlers still run")
            return false
        default: break
        }
        return true
    }

    func end() {
        socket.close()
        connection?.abort()
        shard?.stop()
        shard = nil
    }

    private func enter(_ act: Act) {
        self.act = act
        turnsOfAct = 0
        quietTurns = 0
        guard act == .settling else { return }
        reads = true
        methods.openGate()
    }

    private func receive() {
        let bytes = socket.receive()
        quietTurns = bytes.isEmpty ? quietTurns + 1 : 0
        if speaksHTTP2 { output.feed(bytes) }
    }

    // MARK: The script

    /// Sends what belongs into this turn; `false` at the end of the input.
    private func play() -> Bool {
        var bytes: [UInt8] = []
        while !input.isAtEnd {
            let choice = input.byte()
            bytes += step(choice & 0x3F)
            if choice & 0x40 != 0 { break }
        }
        socket.send(bytes)
        return !input.isAtEnd
    }

    private func step(_ choice: UInt8) -> [UInt8] {
        switch choice {
        case 0..<16: return request().bytes
        case 16..<34: return data(on: openStream()).bytes
        case 34..<38:
            let stream = openStream()
            requests[stream]?.isBroken = true
            return Frame.reset(stream, code: UInt32(input.byte() % 16)).bytes
        case 38..<46: return frames.control(&input).bytes
        case 46..<48:
            // The client's trailers, which gRPC has no use for.
            let stream = openStream()
            requests[stream]?.isBroken = true
            frames.isRegular = false
            return headers(stream, Fields(input.fields(of: ["x", "y"])), endStream: input.flag()).bytes
        case 48..<52: stage.clock.advance(by: .milliseconds(Int(input.number16())))
        case 52: reads.toggle()
        case 53:
            mayEndConnection = true
            connection?.drain()
        case 54:
            mayEndConnection = true
            socket.closeWriting()
        case 55: methods.openGate()
        case 56..<60:
            frames.isRegular = false
            return input.shortBytes()
        default: break
        }
        return []
    }

    /// A stream that was opened, mostly.
    private func openStream() -> UInt32 {
        let back = UInt32(input.byte() % 8) * 2
        return nextStream > back + 2 ? nextStream - 2 - back : 1
    }

    private func request() -> [Frame] {
        var fields = Fields()
        if input.byte() < 230 {
            fields = .request(input.choose(PlayMethods.paths), Fields(input.fields(of: metadataNames)))
        } else {
            fields = Fields(input.fields(of: requestNames))
        }
        let stream = nextStream
        nextStream += 2
        let endsAtOnce = input.byte() > 230
        var result = headers(stream, fields, endStream: endsAtOnce)
        if !endsAtOnce, input.flag() { result += data(on: stream, endStream: true) }
        return result
    }

    private func headers(_ stream: UInt32, _ fields: Fields, endStream: Bool) -> [Frame] {
        let block = frames.block(fields, &input)
        if let decoded = decoder.decode(block) {
            requests[stream] = PlayedRequest(fields: decoded, hasEnded: endStream, isBroken: requests[stream] != nil)
        } else {
            frames.isRegular = false
        }
        return frames.headers(stream, block, endStream: endStream, &input)
    }

    private func data(on stream: UInt32, endStream: Bool? = nil) -> [Frame] {
        let body = frames.body(&input)
        let frame = frames.data(stream, body, endStream: endStream ?? (input.byte() > 200), &input)
        dataBytes[stream, default: 0] += frame.payload.count
        if requests[stream]?.hasEnded != false { frames.isRegular = false }
        requests[stream]?.body += body
        if frame.flags & Frame.endStreamFlag != 0 { requests[stream]?.hasEnded = true }
        return [frame]
    }

    // MARK: The properties

    private func check() throws {
        guard speaksHTTP2 else { return }
        try hold(output.fault == nil, output.fault ?? "")
        let sent = dataBytes.values.reduce(0, +)
        let window = Int(ServerLimits().http2.connectionWindowBytes) - 65_535
        try hold(output.connectionCredit <= max(window, 0) + sent, "the connection was given more than it sent")
        for (stream, answer) in output.answers where stream != 0 {
            let sent = dataBytes[stream] ?? 0
            try hold(answer.credit <= sent, "stream \(stream) was given \(answer.credit) for \(sent) bytes")
            if let status = answer.trailers?["grpc-status"] {
                try hold(Int(status).map { (0...16).contains($0) } == true, "stream \(stream) ended with \(status)")
            }
        }
        let isAlive = frames.isRegular && !mayEndConnection && output.goAways.isEmpty && !socket.isClosedByPeer
        guard isAlive, hasLargeWindows else { return }
        for (stream, request) in requests {
            let answer = output.answers[stream] ?? Answer()
            try hold(!request.wantsAnswer || answer.isOver, "\(request.fields.names) on \(stream) was not answered")
            let isExhausted = answer.status == 8 && (hasFewHandlers || request.body.count > PlayMethods.requestBytesMax)
            if !isExhausted { try request.check(answer) }
        }
    }
}

let metadataNames = ["x", "y", "x-bin", "y-bin", "grpc-trace-bin", "grpc-x", "grpc-accept-encoding", "user-agent"]

/// A request as it was sent, and what it should be answered with.
struct PlayedRequest {
    var fields: Fields
    var body: [UInt8] = []
    var hasEnded: Bool
    /// Reset, or with more than one head.
    var isBroken: Bool

    init(fields: Fields, hasEnded: Bool, isBroken: Bool) {
        self.fields = fields
        self.hasEnded = hasEnded
        self.isBroken = isBroken
    }

    var wantsAnswer: Bool { !isBroken && hasEnded && fields[":path"] != "/t/Hang" }

    func check(_ answer: Answer) throws {
        guard wantsAnswer, isOrdinary, answer.reset == nil || answer.trailers != nil, let message = onlyMessage else {
            return
        }
        let path = fields[":path"] ?? ""
        switch path {
        case "/t/Sync", "/t/Unary":
            try holdEqual(answer.status, 0, "the status of \(path)")
            try holdEqual(answer.messages, [message], "the answer of \(path)")
        case "/t/Show":
            let expected = PlayMethods.show(expectedMetadata(fields.asFuzzFields))
            try holdEqual(answer.messages, [expected], "the metadata of \(fields.asFuzzFields)")
        default: break
        }
    }

    /// The one message in the body.
    private var onlyMessage: [UInt8]? {
        var answer = Answer()
        answer.body = body
        guard let messages = answer.messages, messages.count == 1 else { return nil }
        return messages[0]
    }

    /// Whether nothing in the head may lead to another answer than the handler's.
    private var isOrdinary: Bool {
        let usual: Set = [":method", ":scheme", ":path", ":authority", "te", "content-type"]
        let usualFields = fields.list.filter { usual.contains(String(decoding: $0.name, as: UTF8.self)) }
        guard Set(usualFields) == Set(Fields.request(fields[":path"] ?? "").list), usualFields.count == 6 else {
            return false
        }
        // Pseudo-header fields come first.
        guard fields.names.prefix(4).allSatisfy({ $0.hasPrefix(":") }), fields.list.count < 100 else { return false }
        return fields.asFuzzFields.allSatisfy { field in
            if usual.contains(field.name) { return true }
            guard metadataNames.contains(field.name), field.value.count < 60 else { return false }
            if field.value.contains(where: { $0 < 0x20 && $0 != 0x09 || $0 == 0x7F }) { return false }
            let parts = field.value.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false)
            return !field.name.hasSuffix("-bin") || expectedMetadata([field]).count == parts.count
                || field.name.hasPrefix("grpc-x")
        }
    }
}
