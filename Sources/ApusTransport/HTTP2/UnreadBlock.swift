/// A block of header fields that is decoded, as HPACK's table wants it, and that nobody reads.
struct UnreadBlock {
    private(set) var streamID: Int32 = 0
    /// The sum of name + value + 32 (RFC 9113 §6.5.2), and the number of fields, so far.
    private(set) var listBytes = 0
    private(set) var fieldCount = 0

    init(streamID: Int32 = 0) { self.streamID = streamID }

    mutating func add(nameBytes: Int, valueBytes: Int) {
        listBytes += nameBytes + valueBytes + 32
        fieldCount += 1
    }
}
