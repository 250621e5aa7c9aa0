import TestSupport
import Testing

@testable import ApusTransport

/// Frames that nghttp2 ignores and that end the connection all the same, wherever reads are cut.
@Suite struct InboundFramesTests {
    private static func headers(_ stream: UInt32, end: Bool = false) -> Frame {
        .headers(stream, ["a": "b"], endStream: end)
    }

    private static func priority(_ stream: UInt32, dependsOn other: UInt32 = 0) -> Frame {
        Frame(type: 2, stream: stream, payload: bigEndian(other) + [255])
    }

    struct Case: Sendable {
        let name: String
        let before: [Frame]
        let stray: Frame
        let code: HTTP2ErrorCode
    }

    static let cases = [
        Case(
            name: "HEADERS on an id that was skipped",
            before: [headers(1), headers(5)],
            stray: headers(3),
            code: .protocolError
        ),
        Case(
            name: "HEADERS behind END_STREAM",
            before: [headers(1, end: true)],
            stray: headers(1),
            code: .streamClosed
        ),
        Case(
            name: "DATA behind END_STREAM on DATA",
            before: [headers(1), .data(1, [1, 2, 3], endStream: true), headers(3)],
            stray: .data(1, [4]),
            code: .streamClosed
        ),
        Case(
            name: "empty DATA behind a reset",
            before: [headers(1), .reset(1, code: 8), .ping("abc")],
            stray: .data(1, []),
            code: .streamClosed
        ),
        Case(name: "PRIORITY on stream 0", before: [headers(1)], stray: priority(0), code: .protocolError),
    ]

    private static let fine: [Frame] = [
        .settings([3: 100]), headers(1), .data(1, []), .data(1, [UInt8](repeating: 0, count: 300)), headers(3),
        priority(9, dependsOn: 3), headers(1, end: true), .windowUpdate(1, by: 9), .ping("ping"), headers(5, end: true),
        .data(3, [1], endStream: true), .reset(5, code: 8), Frame(type: 9, stream: 3, payload: [1]),
        headers(11), headers(11, end: true), Frame(type: 250, stream: 1, payload: [1, 2, 3]), headers(13),
        Frame(type: 2, stream: 0, payload: [1, 2, 3, 4]),
    ]

    /// Where the first stray frame was found, counted from the beginning of all bytes, in reads of these sizes.
    private func find(_ bytes: [UInt8], reads: (Int) -> Int) -> (position: Int?, stray: InboundFrames.Stray?) {
        var frames = InboundFrames()
        var position = 0
        while position < bytes.count {
            let count = min(max(reads(position), 1), bytes.count - position)
            // SAFETY: the bytes are the array's, which is not changed during the call.
            let found = unsafe Array(bytes[position..<(position + count)]).withUnsafeBytes { bytes in
                unsafe frames.findStray(in: bytes)
            }
            if let found { return (position + found, frames.stray) }
            position += count
        }
        return (nil, frames.stray)
    }

    @Test(arguments: cases)
    func `it is found where it begins, and what follows is left unread`(test: Case) {
        let before = Frame.preface + test.before.bytes
        let bytes = before + test.stray.bytes + Self.headers(99).bytes
        for size in [1, 2, 7, 8, 9, 10, 33, bytes.count] {
            let (position, stray) = find(bytes, reads: { _ in size })
            #expect(position == before.count, "in reads of \(size): \(test.name)")
            #expect(stray?.code == test.code)
        }
    }

    @Test func `a stream that depends on itself is found when its payload is in the same read`() {
        let before = Frame.preface + Self.headers(1).bytes
        let (position, stray) = find(before + Self.priority(7, dependsOn: 7).bytes, reads: { _ in 1000 })
        #expect(position == before.count)
        #expect(stray?.what.contains("stream 7") == true)
    }

    @Test func `frames as clients send them are fine, however they are cut`() {
        let bytes = Frame.preface + Self.fine.bytes
        for size in 1...60 { #expect(find(bytes, reads: { _ in size }).position == nil, "in reads of \(size)") }
        #expect(find(bytes, reads: { _ in bytes.count }).position == nil)
    }

    @Test func `frames of any kind and length in reads of any size: the same is found as in one read`() {
        var random = RandomSource(seed: 20)
        var strays = 0
        for _ in 0..<3000 {
            var bytes = Frame.preface
            for _ in 0..<Int.random(in: 1...12, using: &random) {
                let type = UInt8(Int.random(in: 0...4, using: &random))
                let stream = UInt32(Int.random(in: 0...9, using: &random))
                let payload = [UInt8](repeating: 0, count: Int.random(in: 0...20, using: &random))
                let flags = UInt8(Int.random(in: 0...5, using: &random))
                bytes += Frame(type: type, flags: flags, stream: stream, payload: payload).bytes
            }
            bytes += (0..<Int.random(in: 0...8, using: &random)).map { _ in 0 }
            let whole = find(bytes, reads: { _ in bytes.count })
            // Whether a stream depends on itself is only looked at in one piece.
            if whole.stray?.what.contains("depend") == true { continue }
            let seed = Int.random(in: 0...1_000_000, using: &random)
            var cuts = RandomSource(seed: UInt64(seed))
            let inPieces = find(bytes, reads: { _ in Int.random(in: 1...15, using: &cuts) })
            #expect(inPieces.position == whole.position, "\(bytes), cut with the seed \(seed)")
            #expect(inPieces.stray == whole.stray)
            if whole.position != nil { strays += 1 }
        }
        #expect(strays > 300)
    }

    /// The frames of a block of header fields.
    private static func block(_ stream: UInt32, _ payloads: [[UInt8]]) -> [Frame] {
        payloads.enumerated().map { index, payload in
            let flags = index == payloads.count - 1 ? Frame.endHeadersFlag : 0
            let type = index == 0 ? Frame.headers : Frame.continuation
            return Frame(type: type, flags: flags, stream: stream, payload: payload)
        }
    }

    @Test(arguments: 1...60)
    func `it is known whether a block of header fields is under way, wherever it is cut`(size: Int) {
        let parts = [
            [.settings([3: 100])], Self.block(1, [[1, 2, 3]]), [.data(1, [1, 2, 3]), .ping("ping")],
            Self.block(3, [[1], [], [2, 3], []]), Self.block(5, [[]]), [.windowUpdate(3, by: 9), .data(3, [])],
            Self.block(7, [[UInt8](repeating: 1, count: 100), [7]]), [.ping("pong")],
        ]
        var bytes = Frame.preface
        // From behind the header of the first frame to the end of the last.
        var blocks: [Range<Int>] = []
        for frames in parts {
            let start = bytes.count
            bytes += frames.bytes
            if frames[0].type == Frame.headers { blocks.append((start + 9)..<bytes.count) }
        }
        var frames = InboundFrames()
        for position in stride(from: 0, to: bytes.count, by: size) {
            let end = min(position + size, bytes.count)
            // SAFETY: the bytes are the array's, which is not changed during the call.
            #expect(unsafe Array(bytes[position..<end]).withUnsafeBytes { unsafe frames.findStray(in: $0) } == nil)
            #expect(frames.isInBlock == blocks.contains { $0.contains(end) }, "after \(end) bytes")
            #expect(frames.blocksBegun == UInt32(blocks.count { $0.lowerBound <= end }), "after \(end) bytes")
        }
    }
}
