/// What one end of an HTTP/2 connection tells the other at the start, and the limits it puts on itself.
package struct HTTP2Settings: Sendable {
    /// Streams that the peer may have open at once (SETTINGS_MAX_CONCURRENT_STREAMS).
    package var maxConcurrentStreams: UInt32 = 100
    /// Flow-control window of each stream, in bytes (SETTINGS_INITIAL_WINDOW_SIZE), at most 2³¹−1.
    package var streamWindowBytes: Int32 = 256 * 1024
    /// Flow-control window of the connection, in bytes, at least 65,535 and at most 2³¹−1.
    package var connectionWindowBytes: Int32 = 1024 * 1024
    /// Largest sum of name + value + 32 over a header block that is accepted (SETTINGS_MAX_HEADER_LIST_SIZE).
    package var maxHeaderListBytes: Int = 8 * 1024
    /// Most fields a header block may have: what a one-byte indexed reference can multiply.
    package var maxHeaderFields: Int = 128

    package init() {}

    /// How far a block of header fields may go beyond its limits and still be gone through: each byte of a value is
    /// checked, and each field costs a call.
    private static let listBytesFactor = 16
    private static let fieldsFactor = 4

    /// Whether a block is beyond what is worth an answer: a field of one byte may stand for thousands.
    @inline(__always)
    func isFarOverLimit(listBytes: Int, fields: Int) -> Bool {
        listBytes / Self.listBytesFactor > maxHeaderListBytes || fields / Self.fieldsFactor > maxHeaderFields
    }

    /// Streams over the limit are refused, which leaves a client's others alone (RFC 9113 §5.1.2); one that opens this
    /// many at once does not care, and loses the connection.
    var streamsUntilFault: UInt32 {
        let doubled = maxConcurrentStreams.multipliedReportingOverflow(by: 2)
        let margin = maxConcurrentStreams.addingReportingOverflow(100)
        return doubled.overflow || margin.overflow ? .max : max(doubled.partialValue, margin.partialValue)
    }
}
