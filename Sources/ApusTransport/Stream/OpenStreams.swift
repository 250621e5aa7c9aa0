/// A record that stands in a session's list of open streams.
protocol OpenRecord: PooledRecord {
    var nextOpen: RecordHandle<Self>? { get set }
    var previousOpen: RecordHandle<Self>? { get set }
}

/// The open streams of a session, the last one first: a list through the records, so that none is allocated.
struct OpenStreams<Record: OpenRecord> {
    private(set) var count = 0
    /// How many were ever opened.
    private(set) var opened = 0
    private(set) var first: RecordHandle<Record>?

    @inline(__always)
    mutating func insert(_ stream: RecordHandle<Record>) {
        count += 1
        opened &+= 1
        stream.value.nextOpen = first
        first?.value.previousOpen = stream
        first = stream
    }

    @inline(__always)
    mutating func remove(_ stream: RecordHandle<Record>) {
        count -= 1
        if let previous = stream.value.previousOpen {
            previous.value.nextOpen = stream.value.nextOpen
        } else {
            first = stream.value.nextOpen
        }
        stream.value.nextOpen?.value.previousOpen = stream.value.previousOpen
    }
}
