internal import TestSupport

@testable import ApusTransport

extension FuzzTarget {
    /// `rule 12`, `rule 14`: messages have no relation to how their bytes come; lengths are checked before memory is
    /// taken. `rule 13`: a message may be compressed only under an encoding. Input: the limit in two bytes, how to cut
    /// with the highest bit for an encoding, the body.
    static let deframer = FuzzTarget(
        name: "deframer",
        seeds: {
            let message = framed(Array("message".utf8))
            let bodies = [
                message + message, framed([]) + framed([]) + message, framed([1], flag: 1), framed([1], flag: 7),
                Array(message.dropLast(3)), framed([UInt8](repeating: 9, count: 300)), [0, 0xFF, 0xFF, 0xFF, 0xFF],
            ]
            return bodies.flatMap { body in [[0, 100, 0] + body, [4, 0, 5] + body, [4, 0, 0x85] + body] }
        },
        run: { bytes in
            var input = FuzzInput(bytes)
            let limit = Int(input.number16())
            let seed = input.byte()
            let body = input.rest()
            let isEncoded = seed & 0x80 != 0
            let expected = expectedMessages(body, limit: limit, isEncoded: isEncoded)
            let inOnePiece = try deframe([body[...]], limit: limit, isEncoded: isEncoded)
            try holdEqual(inOnePiece, expected, "in one piece")
            let inPieces = try deframe(pieces(of: body, seed: seed), limit: limit, isEncoded: isEncoded)
            try holdEqual(inPieces, expected, "in pieces")
        }
    )
}

/// What becomes of a body: its messages, and what it ends with.
private struct Deframed: Equatable {
    var messages: [[UInt8]] = []
    /// Which of them are compressed.
    var flags: [UInt8] = []
    var failure: MessageDeframer.Failure?
    var isMidMessage = false
}

private func expectedMessages(_ body: [UInt8], limit: Int, isEncoded: Bool) -> Deframed {
    var result = Deframed()
    var rest = body[...]
    while rest.count >= 5 {
        let flag = rest[rest.startIndex]
        let length = rest.dropFirst().prefix(4).reduce(0) { $0 << 8 | Int($1) }
        if flag > 1 || flag == 1 && !isEncoded {
            result.failure = flag == 1 ? .compressedWithoutEncoding : .invalidFlag(flag)
            return result
        }
        if length > limit {
            result.failure = .tooLarge(bytes: length, limit: limit)
            return result
        }
        guard rest.count - 5 >= length else { break }
        result.messages.append(Array(rest.dropFirst(5).prefix(length)))
        result.flags.append(flag)
        rest = rest.dropFirst(5 + length)
    }
    result.isMidMessage = !rest.isEmpty
    return result
}

private func deframe(_ pieces: [ArraySlice<UInt8>], limit: Int, isEncoded: Bool) throws -> Deframed {
    var deframer = MessageDeframer()
    var result = Deframed()
    var received = 0
    for piece in pieces {
        let bytes = Array(piece)
        received += bytes.count
        var position = 0
        while position < bytes.count {
            let before = position
            switch deframer.next(in: bytes.span, position: &position, bytesMax: limit, isEncoded: isEncoded) {
            case .message(let message):
                result.messages.append(message)
                result.flags.append(0)
            case .compressed(let message):
                result.messages.append(message)
                result.flags.append(1)
            case .needsMore: try hold(position == bytes.count, "bytes are left over")
            case .failed(let failure):
                result.failure = failure
                return result
            }
            try hold(position > before, "no byte was used")
            try hold(deframer.bufferedBytes <= min(limit + MessageDeframer.prefixBytes, received), "too much is held")
        }
    }
    result.isMidMessage = deframer.isMidMessage
    return result
}
