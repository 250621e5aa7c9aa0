/// Messages in order, first in, first out. One message at a time, which is what a unary call has, costs no allocation.
struct MessageQueue {
    private static let capacityKept = 256

    private var first: [UInt8]?
    private var rest: [[UInt8]] = []
    private var restStart = 0

    /// The sum of the messages' sizes.
    private(set) var bytes = 0

    var isEmpty: Bool { first == nil }

    var count: Int { first == nil ? 0 : 1 + rest.count - restStart }

    /// What the messages take on the wire, prefixes included.
    var framedBytes: Int { bytes + count * MessageDeframer.prefixBytes }

    /// The messages in order; they stay where they are.
    func forEach(_ body: ([UInt8]) -> Void) {
        guard let first else { return }
        body(first)
        for index in restStart..<rest.count { body(rest[index]) }
    }

    @inline(__always)
    mutating func append(_ message: consuming [UInt8]) {
        bytes += message.count
        if first == nil {
            first = message
        } else {
            rest.append(message)
        }
    }

    mutating func append(contentsOf other: consuming MessageQueue) {
        if isEmpty {
            self = other
        } else {
            while let message = other.popFirst() { append(message) }
        }
    }

    mutating func popFirst() -> [UInt8]? {
        guard let message = first else { return nil }
        bytes -= message.count
        if restStart < rest.count {
            first = rest[restStart]
            // An empty array is no allocation; without it the message would be held twice.
            rest[restStart] = []
            restStart += 1
            compact()
        } else {
            first = nil
        }
        return message
    }

    mutating func removeAll() { self = MessageQueue() }

    /// Without this the array of a queue that is never quite empty would grow for ever.
    private mutating func compact() {
        if restStart == rest.count {
            // A burst's memory is not kept: the records that hold queues are, for the next stream.
            rest.removeAll(keepingCapacity: rest.capacity <= Self.capacityKept)
            restStart = 0
        } else if restStart >= 64, restStart * 2 >= rest.count {
            rest.removeSubrange(..<restStart)
            restStart = 0
        }
    }
}
