internal import COpenSSL

/// Where the records of a session come from and go to, between two calls of OpenSSL: the bytes that the caller passes
/// in, and the buffer that the caller provides, without a copy of ours between them.
///
/// What OpenSSL writes while nobody has provided a buffer (the handshake, tickets, alerts) waits in `pending`. It is
/// bounded by `pendingBytesMax`, which is more than any handshake of ours takes.
///
/// SAFETY: `input` and `output` are set for the length of one call of the session that they were given to, and cleared
/// before it returns.
@safe
struct TLSTransport {
    static let pendingBytesMax = 1024 * 1024

    var input = unsafe UnsafeRawBufferPointer(start: nil, count: 0)
    var output = unsafe UnsafeMutableRawBufferPointer(start: nil, count: 0)
    var outputBytes = 0
    /// OpenSSL is to be given nothing more, whatever there is.
    var isInputStopped = false
    private var pending: [UInt8] = []
    private var pendingStart = 0

    var hasPending: Bool { !pending.isEmpty }

    /// Copies out the next bytes of the input.
    mutating func read(into target: UnsafeMutableRawBufferPointer) -> Int {
        let count = isInputStopped ? 0 : unsafe min(target.count, input.count)
        if count > 0 {
            unsafe target.copyMemory(from: UnsafeRawBufferPointer(rebasing: input[..<count]))
            unsafe input = UnsafeRawBufferPointer(rebasing: input[count...])
        }
        return count
    }

    /// Takes what OpenSSL writes: into the caller's buffer as long as that has room, and else for later. `false` when
    /// too much waits already.
    mutating func write(_ bytes: UnsafeRawBufferPointer) -> Bool {
        if pending.isEmpty, unsafe bytes.count <= output.count - outputBytes {
            if let start = bytes.baseAddress, let target = unsafe output.baseAddress {
                unsafe (target + outputBytes).copyMemory(from: start, byteCount: bytes.count)
                outputBytes += bytes.count
            }
            return true
        }
        guard pending.count - pendingStart + bytes.count <= Self.pendingBytesMax else { return false }
        // What has left is no longer kept: a peer that never takes all of it must not have it grow for ever.
        if pendingStart > pending.count / 2 {
            pending.removeSubrange(..<pendingStart)
            pendingStart = 0
        }
        unsafe pending.append(contentsOf: bytes)
        return true
    }

    /// Moves what waits into the caller's buffer, as far as it fits.
    mutating func drain() {
        guard !pending.isEmpty else { return }
        let count = unsafe min(pending.count - pendingStart, output.count - outputBytes)
        unsafe pending.withUnsafeBytes { bytes in
            let target = unsafe UnsafeMutableRawBufferPointer(rebasing: output[outputBytes...])
            unsafe target.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[pendingStart..<pendingStart + count]))
        }
        outputBytes += count
        pendingStart += count
        if pendingStart == pending.count {
            pending = []
            pendingStart = 0
        }
    }
}

/// The kind of BIO through which OpenSSL reads and writes a ``TLSTransport``.
///
/// SAFETY: OpenSSL calls them inside calls of the session that owns the transport, which
/// outlives its `SSL` and so the BIO; the buffers are valid for the length of the callback.
@safe
enum TransportBIO {
    /// Made once and never freed: BIOs refer to it as long as they live. Immutable from then on.
    // The pointer is to something that no thread changes.
    nonisolated(unsafe) private static let method: OpaquePointer? = {
        guard let method = unsafe BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "apus") else { return nil }
        unsafe BIO_meth_set_read_ex(method, read)
        unsafe BIO_meth_set_write_ex(method, write)
        unsafe BIO_meth_set_ctrl(method, control)
        return unsafe method
    }()

    /// A BIO over a transport, which has to outlive it; `nil` without memory.
    static func make(_ transport: UnsafeMutablePointer<TLSTransport>) -> OpaquePointer? {
        guard let method = unsafe method, let bio = unsafe BIO_new(method) else { return nil }
        unsafe BIO_set_data(bio, transport)
        unsafe BIO_set_init(bio, 1)
        return unsafe bio
    }

    @inline(__always)
    private static func transport(_ bio: OpaquePointer?) -> UnsafeMutablePointer<TLSTransport>? {
        unsafe BIO_get_data(bio)?.assumingMemoryBound(to: TLSTransport.self)
    }

    private typealias Read =
        @convention(c) (OpaquePointer?, UnsafeMutablePointer<CChar>?, Int, UnsafeMutablePointer<Int>?) -> CInt

    private static let read: Read = { bio, target, capacity, count in
        unsafe copenssl_bio_clear_retry(bio)
        guard let transport = unsafe transport(bio) else { return 0 }
        let taken = unsafe transport.pointee.read(into: UnsafeMutableRawBufferPointer(start: target, count: capacity))
        unsafe count?.pointee = taken
        if taken > 0 { return 1 }
        // More will come; that the peer has closed is not told to OpenSSL, the session handles it.
        unsafe copenssl_bio_retry_read(bio)
        return 0
    }

    private typealias Write =
        @convention(c) (OpaquePointer?, UnsafePointer<CChar>?, Int, UnsafeMutablePointer<Int>?) -> CInt

    private static let write: Write = { bio, bytes, byteCount, count in
        unsafe copenssl_bio_clear_retry(bio)
        guard let transport = unsafe transport(bio),
            unsafe transport.pointee.write(UnsafeRawBufferPointer(start: bytes, count: byteCount))
        else { return 0 }
        unsafe count?.pointee = byteCount
        return 1
    }

    private static let control: @convention(c) (OpaquePointer?, CInt, CLong, UnsafeMutableRawPointer?) -> CLong = {
        _,
        command,
        _,
        _ in
        command == BIO_CTRL_FLUSH ? 1 : 0
    }
}
