internal import TestSupport

/// Makes frames of a fuzzer's choices: mostly such as a peer might send, now and then such as none should.
struct FrameMaker {
    /// Whether all that was made keeps to the protocol, so that what the answer should be is known.
    var isRegular = true
    private var encoder = IndexingEncoder()

    /// A header block: indexed against what came before, spelt out, or any bytes.
    mutating func block(_ fields: Fields, _ input: inout FuzzInput) -> [UInt8] {
        switch input.byte() {
        case 0..<120: return encoder.block(fields)
        case 120..<250: return fields.block
        default:
            isRegular = false
            return input.shortBytes()
        }
    }

    /// HEADERS, and CONTINUATION where the block is cut; padding and priority where the input wants them.
    mutating func headers(
        _ stream: UInt32,
        _ block: [UInt8],
        endStream: Bool,
        _ input: inout FuzzInput
    ) -> [Frame] {
        let style = input.byte()
        var flags = endStream ? Frame.endStreamFlag : 0
        var first = block[...]
        var rest: ArraySlice<UInt8> = []
        if style & 7 == 7 {
            let cut = Int(input.byte()) % (block.count + 1)
            first = block[..<cut]
            rest = block[cut...]
        } else {
            flags |= Frame.endHeadersFlag
        }
        var payload = Array(first)
        if style & 0x18 == 0x18 {
            flags |= 0x20
            payload = bigEndian(UInt32(input.byte())) + [input.byte()] + payload
        }
        if style & 0x60 == 0x60 {
            flags |= Frame.paddedFlag
            payload = [style & 3] + payload + [UInt8](repeating: 0, count: Int(style & 3))
        }
        var frames = [Frame(type: Frame.headers, flags: flags, stream: stream, payload: payload)]
        if flags & Frame.endHeadersFlag == 0 {
            let flags = Frame.endHeadersFlag
            frames.append(Frame(type: Frame.continuation, flags: flags, stream: stream, payload: Array(rest)))
        }
        return frames
    }

    /// DATA; padded where the input wants it.
    mutating func data(_ stream: UInt32, _ body: [UInt8], endStream: Bool, _ input: inout FuzzInput) -> Frame {
        let style = input.byte()
        guard style > 200 else { return .data(stream, body, endStream: endStream) }
        let flags = Frame.paddedFlag | (endStream ? Frame.endStreamFlag : 0)
        let padding = [UInt8](repeating: 0, count: Int(style - 200))
        return Frame(type: Frame.data, flags: flags, stream: stream, payload: [style - 200] + body + padding)
    }

    /// A frame that is about the connection, or about no stream that is open.
    mutating func control(_ input: inout FuzzInput) -> Frame {
        switch input.number(below: 8) {
        case 0: return .ping("fuzz", isAck: input.flag())
        case 1:
            isRegular = false
            let id = UInt16(input.byte()) % 12
            return .settings([id: input.number32() >> UInt32(input.byte() % 32)])
        case 2: return .settingsAck
        case 3:
            isRegular = false
            return .windowUpdate(UInt32(input.byte() % 16), by: input.number32() >> UInt32(input.byte() % 32))
        case 4:
            isRegular = false
            let payload = bigEndian(UInt32(input.byte())) + bigEndian(UInt32(input.byte())) + input.shortBytes()
            return Frame(type: Frame.goAway, payload: payload)
        case 5: return Frame(type: 2, stream: UInt32(input.byte()) | 1, payload: bigEndian(0) + [input.byte()])
        default:
            isRegular = false
            let frame = Frame(type: input.byte() % 18, flags: input.byte(), stream: UInt32(input.byte()))
            return Frame(type: frame.type, flags: frame.flags, stream: frame.stream, payload: input.shortBytes())
        }
    }

    /// Messages, whole or not quite, sound or not quite.
    mutating func body(_ input: inout FuzzInput) -> [UInt8] {
        switch input.byte() {
        case 0..<160: return framed(input.shortBytes())
        case 160..<200: return framed(input.shortBytes()) + framed(input.shortBytes())
        case 200..<220: return []
        case 220..<230: return framed([UInt8](repeating: input.byte(), count: Int(input.number16()) % 16_000))
        default: return input.shortBytes()
        }
    }
}

extension Fields {
    init(_ fields: [FuzzField]) {
        self.init()
        for field in fields { add(field.name, bytes: field.value) }
    }

    /// The fields as ``expectedMetadata(_:)`` takes them.
    var asFuzzFields: [FuzzField] {
        list.map { FuzzField(name: String(decoding: $0.name, as: UTF8.self), value: $0.value) }
    }
}
