/// What a client sent on one stream.
package struct Request: Sendable {
    package var head: Fields?
    /// The head as it was on the wire (RFC 7541).
    package var headBlock: [UInt8] = []
    package var body: [UInt8] = []
    /// The type of the frame that had END_STREAM.
    package var endedBy: UInt8?
    /// The error code of RST_STREAM.
    package var reset: UInt32?
    /// What WINDOW_UPDATE frames gave, one by one.
    package var credits: [Int] = []
    /// The frames' types and payload sizes, in the order in which they came.
    package var frameTypes: [UInt8] = []
    package var dataSizes: [Int] = []

    package init() {}

    package var hasEnded: Bool { endedBy != nil }
    package var isOver: Bool { endedBy != nil || reset != nil }
    package var credit: Int { credits.reduce(0, +) }
    package var path: String? { head?[":path"] }

    /// The messages in the body, as text, or `nil` when it is not made of whole messages that are not compressed.
    package var texts: [String]? {
        var answer = Answer()
        answer.body = body
        return answer.messages?.map { String(decoding: $0, as: UTF8.self) }
    }
}

/// Takes a client's bytes apart: the preface, frames, and what they say for each stream.
///
/// Confined to whoever feeds it.
package final class ClientOutput {
    package private(set) var hasPreface = false
    package private(set) var requests: [UInt32: Request] = [:]
    package private(set) var frames: [Frame] = []
    package private(set) var settings: [UInt16: UInt32]?
    package private(set) var settingsAcks = 0
    package private(set) var pingAcks: [[UInt8]] = []
    /// The payloads of the PINGs that the client sent of its own.
    package private(set) var pings: [[UInt8]] = []
    /// Last stream and error code of each GOAWAY.
    package private(set) var goAways: [(last: UInt32, code: UInt32)] = []
    package private(set) var connectionCredit = 0
    /// What is wrong with the bytes.
    package private(set) var fault: String?

    private let decoder = HeaderDecoder()
    private var pending: [UInt8] = []
    private var block: [UInt8] = []
    private var blockEndsStream = false

    package init() {}

    /// The ids of the streams that were opened, in order.
    package var streams: [UInt32] { requests.filter { $0.value.head != nil }.keys.sorted() }

    /// The streams that the DATA frames with a payload were for, in order.
    package var dataOrder: [UInt32] { frames.filter { $0.type == Frame.data && !$0.payload.isEmpty }.map(\.stream) }

    package func feed(_ bytes: some Sequence<UInt8>) {
        pending.append(contentsOf: bytes)
        if !hasPreface {
            guard pending.count >= Frame.preface.count else { return }
            if !pending.starts(with: Frame.preface) { fault = "the preface is wrong" }
            pending.removeFirst(Frame.preface.count)
            hasPreface = true
        }
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
        if frames.isEmpty, frame.type != Frame.settings { fault = "the first frame is of type \(frame.type)" }
        frames.append(frame)
        if frame.stream != 0 { note(frame, in: &requests[frame.stream, default: Request()]) }
        switch frame.type {
        case Frame.headers, Frame.continuation: takeHeaders(frame)
        case Frame.settings: takeSettings(frame)
        case Frame.ping:
            if frame.flags & Frame.ackFlag != 0 { pingAcks.append(frame.payload) } else { pings.append(frame.payload) }
        case Frame.goAway:
            let last = number(frame.payload.prefix(4)) & 0x7FFF_FFFF
            goAways.append((last, number(frame.payload.dropFirst(4).prefix(4))))
        case Frame.windowUpdate:
            if frame.stream == 0 { connectionCredit += Int(number(frame.payload)) }
        default: break
        }
    }

    private func note(_ frame: Frame, in request: inout Request) {
        if request.hasEnded, frame.type == Frame.data || frame.type == Frame.headers {
            fault = "a frame of type \(frame.type) after the end of stream \(frame.stream)"
        }
        request.frameTypes.append(frame.type)
        switch frame.type {
        case Frame.data:
            if request.head == nil { fault = "DATA before the head of stream \(frame.stream)" }
            request.body += frame.payload
            request.dataSizes.append(frame.payload.count)
            if frame.flags & Frame.endStreamFlag != 0 { request.endedBy = Frame.data }
        case Frame.reset: request.reset = number(frame.payload)
        case Frame.windowUpdate: request.credits.append(Int(number(frame.payload)))
        default: break
        }
    }

    private func takeHeaders(_ frame: Frame) {
        block += frame.payload
        if frame.type == Frame.headers { blockEndsStream = frame.flags & Frame.endStreamFlag != 0 }
        guard frame.flags & Frame.endHeadersFlag != 0 else { return }
        var request = requests[frame.stream] ?? Request()
        if request.head != nil { fault = "a second head on stream \(frame.stream)" }
        request.headBlock = block
        request.head = decoder.decode(block)
        if request.head == nil { fault = "a header block that cannot be decoded on stream \(frame.stream)" }
        if blockEndsStream { request.endedBy = Frame.headers }
        requests[frame.stream] = request
        block = []
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
