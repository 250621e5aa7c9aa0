import TestSupport
import Testing

@testable import ApusTransport

@Suite struct MessageQueueTests {
    @Test func `it does what an array does`() {
        var random = RandomSource(seed: 14)
        for round in 0..<40 {
            var queue = MessageQueue()
            var model: [[UInt8]] = []
            // Runs that grow, run dry, and stay about the same.
            let appends = [3, 5, 7][round % 3]
            for step in 0..<2000 {
                switch Int.random(in: 0..<10, using: &random) {
                case 0..<appends:
                    let message = [UInt8](repeating: UInt8(truncatingIfNeeded: step), count: step % 17)
                    queue.append(message)
                    model.append(message)
                case 9 where Int.random(in: 0..<200, using: &random) == 0:
                    queue.removeAll()
                    model.removeAll()
                default:
                    let expected = model.isEmpty ? nil : model.removeFirst()
                    #expect(queue.popFirst() == expected)
                }
                #expect(queue.count == model.count)
                #expect(queue.isEmpty == model.isEmpty)
                #expect(queue.bytes == model.reduce(0) { $0 + $1.count })
            }
            while let message = queue.popFirst() { #expect(message == model.removeFirst()) }
            #expect(model.isEmpty)
        }
    }

    @Test func `that a message is compressed stays with it`() {
        var random = RandomSource(seed: 19)
        for round in 0..<60 {
            var queue = MessageQueue()
            var model: [ReceivedBytes] = []
            let appends = [3, 5, 7][round % 3]
            for step in 0..<2000 {
                switch Int.random(in: 0..<10, using: &random) {
                case 0..<appends:
                    let isCompressed = Int.random(in: 0..<[2, 10, 100][round % 3], using: &random) == 0
                    let bytes = [UInt8](repeating: UInt8(truncatingIfNeeded: step), count: step % 5)
                    if isCompressed || step.isMultiple(of: 2) {
                        queue.append(bytes, isCompressed: isCompressed)
                    } else {
                        queue.append(bytes)
                    }
                    model.append(ReceivedBytes(bytes: bytes, wasCompressed: isCompressed))
                case 9 where Int.random(in: 0..<20, using: &random) == 0:
                    // All of it goes to another queue, which may have something already.
                    var other = MessageQueue()
                    let first = Int.random(in: 0..<3, using: &random)
                    let ahead = (0..<first).map { ReceivedBytes(bytes: [1], wasCompressed: $0 == 1) }
                    for message in ahead { other.append(message.bytes, isCompressed: message.wasCompressed) }
                    other.append(contentsOf: queue)
                    queue = other
                    model = ahead + model
                default:
                    let expected = model.isEmpty ? nil : model.removeFirst()
                    #expect(queue.isFirstCompressed == expected?.wasCompressed ?? false)
                    let popped = queue.popReceived()
                    #expect(popped?.bytes == expected?.bytes && popped?.wasCompressed == expected?.wasCompressed)
                }
                #expect(queue.isFirstCompressed == model.first?.wasCompressed ?? false)
            }
            var listed: [Bool] = []
            queue.forEach { _, isCompressed in listed.append(isCompressed) }
            #expect(listed == model.map(\.wasCompressed))
        }
    }

    @Test func `a queue that is never empty keeps its order`() {
        var queue = MessageQueue()
        queue.append([0])
        for step in 1..<10_000 {
            queue.append([UInt8(truncatingIfNeeded: step)])
            #expect(queue.popFirst() == [UInt8(truncatingIfNeeded: step - 1)])
        }
        #expect(queue.count == 1)
    }
}

@Suite struct OutboundQueueTests {
    /// Moves that many bytes out.
    private func move(_ count: Int, from queue: inout OutboundQueue) -> [UInt8] {
        var target = [UInt8](repeating: 0xAA, count: count)
        // SAFETY: the array's own memory, of the size that is asked for.
        _ = unsafe target.withUnsafeMutableBytes { unsafe queue.move(to: $0) }
        return target
    }

    @Test(arguments: 1...25) func `a message is counted when its last byte leaves`(pieceBytes: Int) {
        let messages: [[UInt8]] = [[1, 2, 3], [], [4], [UInt8](repeating: 5, count: 40), []]
        var ends = messages.map { $0.count + 5 }
        for index in 1..<ends.count { ends[index] += ends[index - 1] }
        var queue = OutboundQueue()
        for message in messages { queue.append(message) }
        var movedBytes = 0
        var movedMessages = 0
        while queue.bytes > 0 {
            var target = [UInt8](repeating: 0, count: min(pieceBytes, queue.bytes))
            // SAFETY: the array's own memory, of the size that is asked for.
            movedMessages += unsafe target.withUnsafeMutableBytes { unsafe queue.move(to: $0) }
            movedBytes += target.count
            #expect(movedMessages == ends.count { $0 <= movedBytes })
        }
        #expect(movedMessages == messages.count)
    }

    @Test func `bytes come out as the frames say, in whatever pieces they are taken`() {
        var random = RandomSource(seed: 15)
        for round in 0..<200 {
            var queue = OutboundQueue()
            var model: [UInt8] = []
            var moved: [UInt8] = []
            var expected: [UInt8] = []
            let pieceMax = [1, 2, 4, 5, 6, 9, 100, 5000][round % 8]
            for _ in 0..<60 {
                if Bool.random(using: &random) {
                    let message = random.bytes(upTo: [0, 1, 3, 20, 400][round % 5])
                    let isCompressed = Int.random(in: 0..<4, using: &random) == 0
                    if isCompressed { queue.append(message, isCompressed: true) } else { queue.append(message) }
                    model += framed(message, flag: isCompressed ? 1 : 0)
                    expected += framed(message, flag: isCompressed ? 1 : 0)
                } else {
                    let count = min(model.count, Int.random(in: 0...pieceMax, using: &random))
                    moved += move(count, from: &queue)
                    model.removeFirst(count)
                }
                #expect(queue.bytes == model.count)
            }
            moved += move(model.count, from: &queue)
            #expect(moved == expected)
            #expect(queue.bytes == 0)
        }
    }

    @Test func `a prefix comes whole out of every pair of cuts`() {
        let messages: [[UInt8]] = [[1, 2, 3], [], [4]]
        let flags: [UInt8] = [1, 0, 1]
        let wire = zip(messages, flags).flatMap { framed($0, flag: $1) }
        for first in 0...wire.count {
            for second in first...wire.count {
                var queue = OutboundQueue()
                for (message, flag) in zip(messages, flags) { queue.append(message, isCompressed: flag == 1) }
                var moved = move(first, from: &queue)
                moved += move(second - first, from: &queue)
                moved += move(wire.count - second, from: &queue)
                #expect(moved == wire)
            }
        }
    }

    @Test func `lengths of more than a byte stand in the prefix in order`() {
        var queue = OutboundQueue()
        queue.append([UInt8](repeating: 1, count: 0x01_0203))
        #expect(move(5, from: &queue) == [0, 0, 1, 2, 3])
        queue.removeAll()
        queue.append([UInt8](repeating: 1, count: 0x01_0203))
        #expect((0..<5).map { _ in move(1, from: &queue)[0] } == [0, 0, 1, 2, 3])
    }

    @Test func `removing everything leaves nothing of a message half sent`() {
        var queue = OutboundQueue()
        queue.append([1, 2, 3])
        _ = move(6, from: &queue)
        queue.removeAll()
        #expect(queue.bytes == 0)
        queue.append([9])
        #expect(move(6, from: &queue) == framed([9]))
    }
}
