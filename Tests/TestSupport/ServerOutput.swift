/// What a server answered on one stream.
package struct Answer: Sendable {
    /// The head of the response.
    package var head: Fields?
    /// The fields that came with END_STREAM: the trailers, or the head itself of a Trailers-Only response.
    package var trailers: Fields?
    package var body: [UInt8] = []
    /// The error code of RST_STREAM.
    package var reset: UInt32?
    /// What WINDOW_UPDATE frames gave.
    package var credit = 0
    /// The types of the frames, in the order in which they came.
    package var frameTypes: [UInt8] = []

    package init() {}

    package var status: Int? { trailers?["grpc-status"].flatMap { Int($0) } }
    package var message: String? { trailers?["grpc-message"] }
    package var isTrailersOnly: Bool { trailers != nil && trailers == head }
    package var isOver: Bool { trailers != nil || reset != nil }

    /// The messages in the body, or `nil` when it is not made of whole messages that are not compressed.
    package var messages: [[UInt8]]? {
        var messages: [[UInt8]] = []
        var rest = body[...]
        while !rest.isEmpty {
            guard rest.count >= 5, rest.first == 0 else { return nil }
            let length = rest.dropFirst().prefix(4).reduce(0) { $0 << 8 | Int($1) }
            guard rest.count >= 5 + length else { return nil }
            messages.append(Array(rest.dropFirst(5).prefix(length)))
            rest = rest.dropFirst(5 + length)
        }
        return messages
    }

    /// The one message, as text.
    package var text: String? {
        guard let messages, let only = messages.first, messages.count == 1 else { return nil }
        return String(decoding: only, as: UTF8.self)
    }

    /// The messages, as text.
    package var texts: [String] { (messages ?? []).map { String(decoding: $0, as: UTF8.self) } }
}

/// Takes a server's bytes apart: frames, and what they say for each stream.
///
/// Confined to whoever feeds it.
package final class ServerOutput {
    package private(set) var answers: [UInt32: Answer] = [:]
    package private(set) var frames: [Frame] = []
    package private(set) var settings: [UInt16: UInt32]?
    /// Last stream and error code of each GOAWAY.
    package private(set) var goAways: [(last: UInt32, code: UInt32)] = []
    /// What each of them says.
    package private(set) var goAwayReasons: [String] = []
    /// The payloads of PINGs that want an answer, and of answers to ours.
    package private(set) var pings: [[UInt8]] = []
    package private(set) var pingAcks: [[UInt8]] = []
    package private(set) var connectionCredit = 0
    package private(set) var settingsAcks = 0
    /// What is wrong with the bytes.
    package private(set) var fault: String?

    private let decoder = HeaderDecoder()
    private var pending: [UInt8] = []
    private var block: [UInt8] = []
    private var blockEndsStream = false

    package init() {}

    package func feed(_ bytes: some Sequence<UInt8>) {
        pending.append(contentsOf: bytes)
        var position = 0
        while pending.count - position >= 9 {
            let length = Int(pending[position]) << 16 | Int(pending[position + 1]) << 8 | Int(pending[position + 2])
            guard pending.count - position >= 9 + length else { break }
            let id = number(pending[(position + 5)..<(position + 9)]) & 0x7FFF_FFFF
            let payload = Array(pending[(position + 9)..<(position + 9 + length)])
            take(Frame(type: pending[position + 3], flags: pending[position + 4], stream: id, payload: payload))
            position += 9 + length
        }
        pending.removeFirst(position)
    }

    private func number(_ bytes: some Sequence<UInt8>) -> UInt32 { bytes.reduce(0) { $0 << 8 | UInt32($1) } }

    private func take(_ frame: Frame) {
        frames.append(frame)
        if frame.stream != 0 { answers[frame.stream, default: Answer()].frameTypes.append(frame.type) }
        switch frame.type {
        case Frame.data:
            answers[frame.stream, default: Answer()].body += frame.payload
            if frame.flags & Frame.endStreamFlag != 0 { fault = "DATA with END_STREAM on stream \(frame.stream)" }
        case Frame.headers, Frame.continuation: takeHeaders(frame)
        case Frame.reset: answers[frame.stream, default: Answer()].reset = number(frame.payload)
        case Frame.settings: takeSettings(frame)
        case Frame.ping:
            if frame.flags & Frame.ackFlag != 0 { pingAcks.append(frame.payload) } else { pings.append(frame.payload) }
        case Frame.goAway:
            let last = number(frame.payload.prefix(4)) & 0x7FFF_FFFF
            goAways.append((last, number(frame.payload.dropFirst(4).prefix(4))))
            goAwayReasons.append(String(decoding: frame.payload.dropFirst(8), as: UTF8.self))
        case Frame.windowUpdate:
            let bytes = Int(number(frame.payload))
            if frame.stream == 0 { connectionCredit += bytes }
            if frame.stream != 0 { answers[frame.stream, default: Answer()].credit += bytes }
        default: break
        }
    }

    private func takeHeaders(_ frame: Frame) {
        if frame.flags & Frame.paddedFlag != 0 { fault = "padded HEADERS" }
        block += frame.payload
        if frame.type == Frame.headers { blockEndsStream = frame.flags & Frame.endStreamFlag != 0 }
        guard frame.flags & Frame.endHeadersFlag != 0 else { return }
        guard let fields = decoder.decode(block) else {
            fault = "a header block that cannot be decoded on stream \(frame.stream)"
            return
        }
        block = []
        var answer = answers[frame.stream] ?? Answer()
        if answer.trailers != nil { fault = "HEADERS after the trailers of stream \(frame.stream)" }
        if answer.head == nil { answer.head = fields } else if !blockEndsStream { fault = "a second head" }
        if blockEndsStream { answer.trailers = fields }
        answers[frame.stream] = answer
    }

    private func takeSettings(_ frame: Frame) {
        if frame.flags & Frame.ackFlag != 0 {
            settingsAcks += 1
            return
        }
        var values: [UInt16: UInt32] = [:]
        for start in stride(from: 0, to: frame.payload.count, by: 6) {
            let entry = frame.payload[start..<(start + 6)]
            values[UInt16(number(entry.prefix(2)))] = number(entry.dropFirst(2))
        }
        settings = values
    }
}
