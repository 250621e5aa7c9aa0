/// A frame of HTTP/2 as its bytes say (RFC 9113 §4.1): what tests send, and what they read.
///
/// Nothing here is shared with the product, so that a mistake of the product is not the test's as well.
package struct Frame: Hashable, Sendable {
    package var type: UInt8
    package var flags: UInt8 = 0
    package var stream: UInt32 = 0
    package var payload: [UInt8] = []

    package static let data: UInt8 = 0
    package static let headers: UInt8 = 1
    package static let reset: UInt8 = 3
    package static let settings: UInt8 = 4
    package static let ping: UInt8 = 6
    package static let goAway: UInt8 = 7
    package static let windowUpdate: UInt8 = 8
    package static let continuation: UInt8 = 9

    package static let endStreamFlag: UInt8 = 1
    package static let ackFlag: UInt8 = 1
    package static let endHeadersFlag: UInt8 = 4
    package static let paddedFlag: UInt8 = 8

    package static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

    package init(type: UInt8, flags: UInt8 = 0, stream: UInt32 = 0, payload: [UInt8] = []) {
        self.type = type
        self.flags = flags
        self.stream = stream
        self.payload = payload
    }

    /// The frame on the wire.
    package var bytes: [UInt8] {
        let count = payload.count
        return [UInt8(truncatingIfNeeded: count >> 16), UInt8(truncatingIfNeeded: count >> 8)]
            + [UInt8(truncatingIfNeeded: count), type, flags] + bigEndian(stream) + payload
    }

    // MARK: Frames that tests send

    package static func settings(_ values: [UInt16: UInt32] = [:]) -> Frame {
        let payload = values.sorted { $0.key < $1.key }.flatMap { key, value in
            [UInt8(key >> 8), UInt8(key & 255)] + bigEndian(value)
        }
        return Frame(type: settings, payload: payload)
    }

    package static let settingsAck = Frame(type: settings, flags: ackFlag)

    /// Header fields, each as a literal without indexing (RFC 7541 §6.2.2), in one frame.
    package static func headers(_ stream: UInt32, _ fields: Fields, endStream: Bool = false) -> Frame {
        let flags = endHeadersFlag | (endStream ? endStreamFlag : 0)
        return Frame(type: headers, flags: flags, stream: stream, payload: fields.block)
    }

    package static func data(_ stream: UInt32, _ payload: [UInt8], endStream: Bool = false) -> Frame {
        Frame(type: data, flags: endStream ? endStreamFlag : 0, stream: stream, payload: payload)
    }

    package static func reset(_ stream: UInt32, code: UInt32) -> Frame {
        Frame(type: reset, stream: stream, payload: bigEndian(code))
    }

    package static func windowUpdate(_ stream: UInt32, by bytes: UInt32) -> Frame {
        Frame(type: windowUpdate, stream: stream, payload: bigEndian(bytes))
    }

    package static func ping(_ text: String, isAck: Bool = false) -> Frame {
        let payload = Array((text + "        ").utf8.prefix(8))
        return Frame(type: ping, flags: isAck ? ackFlag : 0, payload: payload)
    }

    /// What follows the preface of a client that wants windows so large that they are in no test's way.
    package static let openingWithLargeWindows: [Frame] = [
        .settings([4: 0x7FFF_FFFF]), .windowUpdate(0, by: 0x7FFF_0000),
    ]
}

/// `HTTP2` error codes that tests name (RFC 9113 §7).
package enum ErrorCode {
    package static let noError: UInt32 = 0
    package static let protocolError: UInt32 = 1
    package static let refusedStream: UInt32 = 7
    package static let cancel: UInt32 = 8
    package static let enhanceYourCalm: UInt32 = 11
}

package func bigEndian(_ value: UInt32) -> [UInt8] {
    [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: value >> $0) }
}

/// A message of gRPC: flag, length, bytes.
package func framed(_ message: [UInt8], flag: UInt8 = 0) -> [UInt8] {
    [flag] + bigEndian(UInt32(message.count)) + message
}

extension Array where Element == Frame {
    package var bytes: [UInt8] { flatMap(\.bytes) }
}
