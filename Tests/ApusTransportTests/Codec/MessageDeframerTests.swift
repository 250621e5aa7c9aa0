import TestSupport
import Testing

@testable import ApusTransport

/// `rule 12`, and what is rule 14's of it.
@Suite struct MessageDeframerTests {
    private enum Outcome: Equatable {
        case messages([[UInt8]], compressed: [[UInt8]] = [], isMidMessage: Bool)
        case failed([[UInt8]], MessageDeframer.Failure)
    }

    /// Feeds the chunks as a session does.
    private func deframe(_ chunks: [[UInt8]], limit: Int = 1 << 20, isEncoded: Bool = false) -> Outcome {
        var deframer = MessageDeframer()
        var messages: [[UInt8]] = []
        var compressed: [[UInt8]] = []
        for chunk in chunks {
            var position = 0
            while position < chunk.count {
                switch deframer.next(
                    in: chunk.span,
                    position: &position,
                    bytesMax: limit,
                    isEncoded: isEncoded
                ) {
                case .message(let message): messages.append(message)
                case .compressed(let message): compressed.append(message)
                case .needsMore: #expect(position == chunk.count)
                case .failed(let failure): return .failed(messages, failure)
                }
            }
        }
        return .messages(messages, compressed: compressed, isMidMessage: deframer.isMidMessage)
    }

    /// Cuts bytes into pieces of random sizes of at least one.
    private func cut(_ bytes: [UInt8], pieceMax: Int, _ random: inout RandomSource) -> [[UInt8]] {
        var pieces: [[UInt8]] = []
        var rest = bytes[...]
        while !rest.isEmpty {
            let piece = rest.prefix(Int.random(in: 1...pieceMax, using: &random))
            pieces.append(Array(piece))
            rest = rest.dropFirst(piece.count)
        }
        return pieces
    }

    @Test func `messages are the same wherever their bytes are cut`() {
        var random = RandomSource(seed: 11)
        for round in 0..<600 {
            let messages = (0..<Int.random(in: 0...8, using: &random)).map { _ in
                random.bytes(upTo: [0, 1, 4, 5, 6, 40, 3000][round % 7])
            }
            let wire = messages.flatMap { framed($0) }
            let pieceMax = [1, 2, 5, 7, 64, 10_000][round % 6]
            #expect(deframe(cut(wire, pieceMax: pieceMax, &random)) == .messages(messages, isMidMessage: false))
        }
    }

    @Test func `each cut in two gives the same messages`() {
        let messages: [[UInt8]] = [[1, 2, 3], [], [4], Array(repeating: 5, count: 300), []]
        let wire = messages.flatMap { framed($0) }
        for cut in 0...wire.count {
            let outcome = deframe([Array(wire[..<cut]), Array(wire[cut...])])
            #expect(outcome == .messages(messages, isMidMessage: false), "cut at \(cut)")
        }
    }

    @Test func `a message that was cut short is under way, at every cut`() {
        let wire = framed([1, 2, 3, 4])
        for count in 1..<wire.count {
            #expect(deframe([Array(wire[..<count])]) == .messages([], isMidMessage: true), "after \(count)")
            #expect(deframe(wire[..<count].map { [$0] }) == .messages([], isMidMessage: true), "after \(count)")
        }
        #expect(deframe([]) == .messages([], isMidMessage: false))
    }

    @Test(arguments: [0, 1, 5, 1000])
    func `a message of exactly the limit passes, one byte more does not`(limit: Int) {
        var random = RandomSource(seed: 12)
        let full = random.bytes(limit)
        let over = random.bytes(limit + 1)
        for pieceMax in [1, 3, 10_000] {
            let passed = deframe(cut(framed(full), pieceMax: pieceMax, &random), limit: limit)
            #expect(passed == .messages([full], isMidMessage: false))
            let failed = deframe(cut(framed(full) + framed(over), pieceMax: pieceMax, &random), limit: limit)
            #expect(failed == .failed([full], .tooLarge(bytes: limit + 1, limit: limit)))
        }
    }

    @Test func `a message over the limit fails with its prefix, before its bytes come`() {
        #expect(deframe([[0, 0, 0, 0, 11]], limit: 10) == .failed([], .tooLarge(bytes: 11, limit: 10)))
        #expect(deframe([[0], [0], [0], [0], [11]], limit: 10) == .failed([], .tooLarge(bytes: 11, limit: 10)))
    }

    @Test func `each flag byte is that of a plain message, of a compressed one, or invalid`() {
        for flag in UInt8.min...UInt8.max {
            let wire = framed([1, 2], flag: flag)
            let expected: Outcome =
                switch flag {
                case 0: .messages([[1, 2]], isMidMessage: false)
                case 1: .failed([], .compressedWithoutEncoding)
                default: .failed([], .invalidFlag(flag))
                }
            #expect(deframe([wire]) == expected)
            #expect(deframe(wire.map { [$0] }) == expected)
        }
    }

    @Test func `rule 13: with an encoding each message says for itself whether it is compressed`() {
        let wire = framed([1], flag: 1) + framed([2]) + framed([], flag: 1) + framed([3, 4]) + framed([5], flag: 1)
        let expected = Outcome.messages([[2], [3, 4]], compressed: [[1], [], [5]], isMidMessage: false)
        for cut in 0...wire.count {
            #expect(deframe([Array(wire[..<cut]), Array(wire[cut...])], isEncoded: true) == expected, "cut at \(cut)")
        }
        #expect(deframe(wire.map { [$0] }, isEncoded: true) == expected)
        let tooLarge = deframe([[1, 0, 0, 0, 11]], limit: 10, isEncoded: true)
        #expect(tooLarge == .failed([], .tooLarge(bytes: 11, limit: 10)))
    }

    @Test func `four promised gigabytes allocate next to nothing`() {
        var deframer = MessageDeframer()
        var position = 0
        let event = deframer.next(
            in: [0, 0xFF, 0xFF, 0xFF, 0xFF, 7].span,
            position: &position,
            bytesMax: Int(UInt32.max),
            isEncoded: false
        )
        guard case .needsMore = event else {
            Issue.record("it should wait for the rest")
            return
        }
        #expect(deframer.bufferedBytes == 6)
        #expect(deframer.isMidMessage)
        guard case .failed(.tooLarge(4_294_967_295, 4_194_304)) = deframe4GiB(limit: 4_194_304) else {
            Issue.record("it should be too large")
            return
        }
    }

    private func deframe4GiB(limit: Int) -> MessageDeframer.Event {
        var deframer = MessageDeframer()
        var position = 0
        let bytes: [UInt8] = [0, 0xFF, 0xFF, 0xFF, 0xFF]
        return deframer.next(in: bytes.span, position: &position, bytesMax: limit, isEncoded: false)
    }

    @Test func `after a reset nothing is left`() {
        var deframer = MessageDeframer()
        var position = 0
        _ = deframer.next(in: [0, 0, 0, 0, 9, 1, 2].span, position: &position, bytesMax: 10, isEncoded: false)
        deframer.reset()
        #expect(deframer.bufferedBytes == 0)
        position = 0
        let event = deframer.next(in: [0, 0, 0, 0, 1, 3].span, position: &position, bytesMax: 10, isEncoded: false)
        guard case .message([3]) = event else {
            Issue.record("a whole message should be one")
            return
        }
    }

    @Test func `random bytes never trap`() {
        var random = RandomSource(seed: 13)
        for _ in 0..<3000 {
            var bytes = random.bytes(upTo: 60)
            for index in bytes.indices where Int.random(in: 0...2, using: &random) > 0 { bytes[index] = 0 }
            _ = deframe(cut(bytes, pieceMax: 9, &random), limit: 20, isEncoded: Bool.random(using: &random))
        }
    }
}
