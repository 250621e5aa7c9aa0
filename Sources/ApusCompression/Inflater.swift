internal import CZlib

/// A zlib stream that inflates one message after another, each for itself.
///
/// Memory grows with what comes out, up to one byte over the limit; what the data claims of its size is not read.
/// Sendable, because it has one user at a time: whoever took it out of ``ZlibStreams``.
@safe
final class Inflater: @unchecked Sendable {
    // SAFETY: allocated and initialised in `init`, ended and freed in `deinit`. zlib keeps the address, so it does not
    // move. The pointers to input and output in it are set for the length of one call alone.
    private let stream: UnsafeMutablePointer<z_stream>
    private let format: ZlibFormat
    private var output = ScratchBuffer()

    /// `nil` when there is no memory.
    init?(_ format: ZlibFormat) {
        self.format = format
        unsafe stream = .allocate(capacity: 1)
        unsafe stream.initialize(to: z_stream())
        guard unsafe czlib_inflate_init(stream, format.windowBits) == Z_OK else {
            unsafe stream.deallocate()
            return nil
        }
    }

    deinit {
        unsafe inflateEnd(stream)
        unsafe stream.deallocate()
    }

    func inflate(_ message: [UInt8], bytesMax: Int) throws(DecompressionError) -> [UInt8] {
        unsafe inflateReset(stream)
        defer { output.clear() }
        // SAFETY: zlib reads `message` during the call alone.
        let failure: DecompressionError? = unsafe message.withUnsafeBufferPointer { message in
            unsafe run(message, bytesMax: bytesMax)
        }
        if let failure { throw failure }
        return output.copy()
    }

    private func run(_ message: UnsafeBufferPointer<UInt8>, bytesMax: Int) -> DecompressionError? {
        // SAFETY: `message` is valid for the call, and zlib does not write to it; the room it writes to is `output`'s.
        // A message has at most 2³²−1 bytes, since its length has 32 bits.
        unsafe stream.pointee.next_in = UnsafeMutablePointer(mutating: message.baseAddress)
        unsafe stream.pointee.avail_in = UInt32(clamping: message.count)
        let (wanted, overflows) = bytesMax.addingReportingOverflow(1)
        let roomMax = overflows ? bytesMax : wanted
        while true {
            guard output.makeRoom(bytesMax: roomMax) else { return .malformed("there is no memory to inflate it") }
            let spare = unsafe output.spare(bytesMax: roomMax)
            let room = UInt32(clamping: spare.count)
            unsafe stream.pointee.next_out = spare.baseAddress?.assumingMemoryBound(to: UInt8.self)
            unsafe stream.pointee.avail_out = room
            let result = unsafe CZlib.inflate(stream, Z_NO_FLUSH)
            unsafe output.wrote(Int(room - stream.pointee.avail_out))
            if output.count > bytesMax { return .overLimit }
            let isAtEnd = unsafe stream.pointee.avail_in == 0
            switch result {
            case Z_STREAM_END where isAtEnd: return nil
            case Z_STREAM_END where format == .gzip: unsafe inflateReset(stream)
            case Z_STREAM_END: return .malformed("bytes follow its end")
            case Z_OK, Z_BUF_ERROR:
                // With room left, zlib stops for one reason alone: it has read everything.
                if unsafe stream.pointee.avail_out > 0 { return .malformed("it is cut short") }
            case Z_NEED_DICT: return .malformed("it needs a preset dictionary")
            default: return .malformed(problem)
            }
        }
    }

    private var problem: String {
        // SAFETY: zlib's messages are constants.
        unsafe stream.pointee.msg.map { unsafe String(cString: $0) } ?? "it is not compressed data"
    }
}
