internal import CZlib

/// A zlib stream that compresses one message after another, each for itself.
///
/// Sendable, because it has one user at a time: whoever took it out of ``ZlibStreams``.
@safe
final class Deflater: @unchecked Sendable {
    // SAFETY: as in `Inflater`.
    private let stream: UnsafeMutablePointer<z_stream>
    private var output = ScratchBuffer()

    /// `nil` when there is no memory.
    init?(_ format: ZlibFormat, level: Int32) {
        unsafe stream = .allocate(capacity: 1)
        unsafe stream.initialize(to: z_stream())
        guard unsafe czlib_deflate_init(stream, level, format.windowBits) == Z_OK else {
            unsafe stream.deallocate()
            return nil
        }
    }

    deinit {
        unsafe deflateEnd(stream)
        unsafe stream.deallocate()
    }

    /// The message compressed; `nil` when that takes more than `bytesMax`, or there is no memory.
    func compress(_ message: [UInt8], bytesMax: Int) -> [UInt8]? {
        unsafe deflateReset(stream)
        defer { output.clear() }
        // SAFETY: zlib reads `message` during the call alone.
        let isWhole = unsafe message.withUnsafeBufferPointer { message in unsafe run(message, bytesMax: bytesMax) }
        return isWhole ? output.copy() : nil
    }

    private func run(_ message: UnsafeBufferPointer<UInt8>, bytesMax: Int) -> Bool {
        // SAFETY: `message` is valid for the call, and zlib does not write to it; the room it writes to is `output`'s.
        guard let bytes = UInt32(exactly: message.count) else { return false }
        unsafe stream.pointee.next_in = UnsafeMutablePointer(mutating: message.baseAddress)
        unsafe stream.pointee.avail_in = bytes
        while output.makeRoom(bytesMax: bytesMax) {
            let spare = unsafe output.spare(bytesMax: bytesMax)
            let room = UInt32(clamping: spare.count)
            unsafe stream.pointee.next_out = spare.baseAddress?.assumingMemoryBound(to: UInt8.self)
            unsafe stream.pointee.avail_out = room
            let result = unsafe deflate(stream, Z_FINISH)
            unsafe output.wrote(Int(room - stream.pointee.avail_out))
            switch result {
            case Z_STREAM_END: return true
            case Z_OK, Z_BUF_ERROR: continue
            default: return false
            }
        }
        return false
    }
}
