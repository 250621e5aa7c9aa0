internal import CNghttp2

/// Header fields that every call sends, laid out once for nghttp2.
@safe
struct ConstantFields: @unchecked Sendable {
    // SAFETY: allocated once for each constant below, never written afterwards and never freed, so any thread may read
    // it.
    let start: UnsafePointer<nghttp2_nv>

    /// `:status: 200`, `content-type: application/grpc`.
    static let responseHead = ConstantFields([(":status", "200"), ("content-type", "application/grpc")])

    /// `grpc-status: 0`.
    static let trailers = ConstantFields([("grpc-status", "0")])

    private init(_ fields: [(name: StaticString, value: StaticString)]) {
        let list = UnsafeMutablePointer<nghttp2_nv>.allocate(capacity: fields.count)
        let flags = NGHTTP2_NV_FLAG_NO_COPY_NAME.rawValue | NGHTTP2_NV_FLAG_NO_COPY_VALUE.rawValue
        for (index, field) in fields.enumerated() {
            unsafe (list + index).initialize(
                to: nghttp2_nv(
                    name: UnsafeMutablePointer(mutating: field.name.utf8Start),
                    value: UnsafeMutablePointer(mutating: field.value.utf8Start),
                    namelen: field.name.utf8CodeUnitCount,
                    valuelen: field.value.utf8CodeUnitCount,
                    flags: UInt8(truncatingIfNeeded: flags)
                )
            )
        }
        unsafe start = UnsafePointer(list)
    }
}
