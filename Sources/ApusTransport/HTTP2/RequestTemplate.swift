internal import CNghttp2

/// The header fields that all requests to one method of a channel share, laid out once for nghttp2, in the order that
/// PROTOCOL-HTTP2.md asks for.
///
/// A call without metadata and deadline sends these and no others, and no byte of them is copied.
///
/// Sendable, because it is not changed once it is made.
@safe
final class RequestTemplate: @unchecked Sendable {
    // SAFETY: both are allocated and initialised in `init` and freed in `deinit`. nghttp2 reads the fields until their
    // HEADERS frame is packed or the session freed; the stream or the channel holds this for longer.
    private let storage: UnsafeMutableBufferPointer<UInt8>
    private let fields: UnsafeMutableBufferPointer<nghttp2_nv>
    /// RFC 9113 §6.5.2: name + value + 32 for each field.
    let listBytes: Int

    /// - Parameter acceptEncoding: the encodings accepted in responses; `nil` to say nothing of them.
    init(path: String, scheme: String, authority: String, userAgent: String, acceptEncoding: String? = nil) {
        var list: [(name: String, value: String)] = [
            (":method", "POST"), (":scheme", scheme), (":path", path), (":authority", authority), ("te", "trailers"),
            ("content-type", "application/grpc"), ("user-agent", userAgent),
        ]
        if let acceptEncoding { list.append(("grpc-accept-encoding", acceptEncoding)) }
        let bytes = list.flatMap { Array($0.name.utf8) + Array($0.value.utf8) }
        unsafe storage = .allocate(capacity: bytes.count)
        _ = unsafe storage.initialize(from: bytes)
        unsafe fields = .allocate(capacity: list.count)
        listBytes = bytes.count + 32 * list.count
        let flags = NGHTTP2_NV_FLAG_NO_COPY_NAME.rawValue | NGHTTP2_NV_FLAG_NO_COPY_VALUE.rawValue
        var position = 0
        for (index, field) in list.enumerated() {
            let nameBytes = field.name.utf8.count
            let valueBytes = field.value.utf8.count
            unsafe fields.initializeElement(
                at: index,
                to: nghttp2_nv(
                    name: storage.baseAddress.map { unsafe $0 + position },
                    value: storage.baseAddress.map { unsafe $0 + position + nameBytes },
                    namelen: nameBytes,
                    valuelen: valueBytes,
                    flags: UInt8(truncatingIfNeeded: flags)
                )
            )
            position += nameBytes + valueBytes
        }
    }

    deinit {
        unsafe fields.deallocate()
        unsafe storage.deallocate()
    }

    var count: Int { unsafe fields.count }

    var start: UnsafePointer<nghttp2_nv> {
        guard let start = unsafe fields.baseAddress else { preconditionFailure("fields have an address") }
        return unsafe UnsafePointer(start)
    }
}
