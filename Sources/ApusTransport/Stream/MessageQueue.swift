/// Messages in order, first in, first out. One message at a time, which is what a unary call has, costs no allocation.
/// That a message is compressed is kept beside it, and only where there is such a message.
struct MessageQueue {
    private static let capacityKept = 256

    private var first: [UInt8]?
    private var rest: [[UInt8]] = []
    private var restStart = 0
    /// Which messages are compressed, in order from `marksStart` on; empty as long as none is.
    private var marks: [Bool] = []
    private var marksStart = 0
    private var hasMarks = false

    /// The sum of the messages' sizes.
    private(set) var bytes = 0

    var isEmpty: Bool { first == nil }

    var count: Int { first == nil ? 0 : 1 + rest.count - restStart }

    /// Whether the first message is compressed.
    @inline(__always)
    var isFirstCompressed: Bool { hasMarks && firstMark }

    @inline(never)
    private var firstMark: Bool { marks[marksStart] }

    /// What the messages take on the wire, prefixes included.
    var framedBytes: Int { bytes + count * MessageDeframer.prefixBytes }

    /// The messages in order, and whether each is compressed; they stay where they are.
    func forEach(_ body: (_ message: [UInt8], _ isCompressed: Bool) -> Void) {
        guard let first else { return }
        body(first, isFirstCompressed)
        for index in restStart..<rest.count {
            body(rest[index], hasMarks && marks[marksStart + 1 + index - restStart])
        }
    }

    @inline(__always)
    mutating func append(_ message: consuming [UInt8]) {
        bytes += message.count
        if hasMarks { appendMark() }
        if first == nil {
            first = message
        } else {
            rest.append(message)
        }
    }

    mutating func append(_ message: consuming [UInt8], isCompressed: Bool) {
        if isCompressed, !hasMarks {
            marks = Array(repeating: false, count: count)
            marksStart = 0
            hasMarks = true
        }
        append(message)
        if isCompressed { marks[marks.count - 1] = true }
    }

    mutating func append(contentsOf other: consuming MessageQueue) {
        if isEmpty {
            self = other
        } else {
            while true {
                let isCompressed = other.isFirstCompressed
                guard let message = other.popFirst() else { return }
                append(message, isCompressed: isCompressed)
            }
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
        if hasMarks { popMark() }
        return message
    }

    /// The first message, as it came.
    @inline(__always)
    mutating func popReceived() -> ReceivedBytes? {
        let isCompressed = isFirstCompressed
        return popFirst().map { ReceivedBytes(bytes: $0, wasCompressed: isCompressed) }
    }

    mutating func removeAll() { self = MessageQueue() }

    // Out of line, so that queues without marks pay for no more than the look at `hasMarks`.

    @inline(never)
    private mutating func appendMark() { marks.append(false) }

    @inline(never)
    private mutating func popMark() {
        marksStart += 1
        if marksStart == marks.count {
            marks = []
            marksStart = 0
            hasMarks = false
        } else if marksStart >= 64, marksStart * 2 >= marks.count {
            marks.removeSubrange(..<marksStart)
            marksStart = 0
        }
    }

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
