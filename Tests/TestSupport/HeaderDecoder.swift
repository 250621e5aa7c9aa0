internal import CNghttp2

/// Reads the header blocks of one direction of a connection.
@safe
package final class HeaderDecoder {
    // SAFETY: made in init and freed in deinit; what it gives out points into itself and is copied before its next use.
    private var inflater: OpaquePointer?

    package init() {
        let result = unsafe nghttp2_hd_inflate_new(&inflater)
        precondition(result == 0, "no memory for a decoder")
    }

    deinit { unsafe nghttp2_hd_inflate_del(inflater) }

    /// The fields of a whole block, or `nil` when it is malformed.
    package func decode(_ block: [UInt8]) -> Fields? {
        var fields = Fields()
        var position = 0
        while true {
            var field = unsafe nghttp2_nv()
            var flags: Int32 = 0
            let used = unsafe block.withUnsafeBufferPointer { bytes in
                let rest = unsafe UnsafeBufferPointer(rebasing: bytes[position...])
                return unsafe nghttp2_hd_inflate_hd2(inflater, &field, &flags, rest.baseAddress, rest.count, 1)
            }
            if used < 0 { return nil }
            position += used
            if UInt32(flags) & NGHTTP2_HD_INFLATE_EMIT.rawValue != 0 {
                let name = unsafe [UInt8](UnsafeBufferPointer(start: field.name, count: field.namelen))
                let value = unsafe [UInt8](UnsafeBufferPointer(start: field.value, count: field.valuelen))
                fields.list.append(Fields.Field(name: name, value: value))
            }
            if UInt32(flags) & NGHTTP2_HD_INFLATE_FINAL.rawValue != 0 {
                unsafe nghttp2_hd_inflate_end_headers(inflater)
                return fields
            }
            if used == 0, position >= block.count { return nil }
        }
    }
}
