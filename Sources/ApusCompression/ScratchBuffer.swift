internal import Glibc

/// Memory that zlib writes to before the size of the whole is known: grows as it fills, and is kept, while it is small,
/// for the next message.
@safe
struct ScratchBuffer: ~Copyable {
    private static let bytesAtFirst = 16 * 1024
    private static let bytesKept = 256 * 1024

    // SAFETY: allocated here alone, with `capacity` bytes, and freed in `deinit`; what `spare` hands out is used before
    // the next call.
    private var start: UnsafeMutableRawPointer?
    private(set) var capacity = 0
    /// The bytes that hold something.
    private(set) var count = 0

    deinit { unsafe free(start) }

    /// Makes room for at least one byte more, but for no more than `bytesMax` in all. `false` when that is reached, or
    /// there is no memory.
    mutating func makeRoom(bytesMax: Int) -> Bool {
        if count < min(capacity, bytesMax) { return true }
        guard count < bytesMax else { return false }
        let wanted = min(max(2 * capacity, Self.bytesAtFirst), bytesMax)
        guard let grown = unsafe realloc(start, wanted) else { return false }
        unsafe start = grown
        capacity = wanted
        return true
    }

    /// The room that is left, up to `bytesMax` in all.
    func spare(bytesMax: Int) -> UnsafeMutableRawBufferPointer {
        let end = max(count, min(capacity, bytesMax))
        return unsafe UnsafeMutableRawBufferPointer(start: start.map { unsafe $0 + count }, count: end - count)
    }

    /// Bytes were written to the room that was left.
    mutating func wrote(_ bytes: Int) { count += bytes }

    /// What was written.
    func copy() -> [UInt8] {
        unsafe [UInt8](UnsafeRawBufferPointer(start: start, count: count))
    }

    /// Begins anew.
    mutating func clear() {
        count = 0
        guard capacity > Self.bytesKept else { return }
        unsafe free(start)
        unsafe start = nil
        capacity = 0
    }
}
