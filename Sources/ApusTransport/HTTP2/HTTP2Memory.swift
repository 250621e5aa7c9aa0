internal import CNghttp2
internal import Glibc

/// The memory of the nghttp2 sessions of one loop: free lists of small blocks in front of malloc.
///
/// nghttp2 allocates seven times for a small call. All sessions of a loop share these lists, so that a freed block of
/// one call is the next call's, without a lock and without a search; it takes a tenth of nghttp2's instructions away.
///
/// Confined to its loop. It must outlive its sessions, which hold it for that reason.
@safe
final class HTTP2Memory {
    /// What stands in front of each block: its size class while it is in use, 0 for one that is malloc's own.
    ///
    /// Sixteen bytes, so that blocks keep malloc's alignment.
    @unsafe
    private struct Header {
        var sizeClass: Int
        var next: UnsafeMutableRawPointer?
    }

    private static let headerBytes = 16
    private static let classBytes = 64
    private static let classShift = 6
    /// Blocks of up to 1008 bytes: all that a call without large metadata makes nghttp2 allocate.
    private static let classCount = 17
    /// Free blocks kept of each class: what a burst leaves beyond that goes back to malloc.
    private static let freeBlocksMax: Int32 = 1024

    @unsafe
    private struct FreeList {
        var first: UnsafeMutableRawPointer?
        var count: Int32 = 0
    }

    // SAFETY: `lists` has `classCount` elements from `init` to `deinit`. A block is on a list or in nghttp2's hands,
    // never both; its header is ours, in front of the address that nghttp2 knows. `self` outlives every session that
    // calls back.
    private let lists: UnsafeMutablePointer<FreeList>

    init() {
        unsafe lists = .allocate(capacity: Self.classCount)
        unsafe lists.initialize(repeating: FreeList(), count: Self.classCount)
    }

    deinit {
        for index in 0..<Self.classCount {
            while let block = unsafe lists[index].first {
                unsafe lists[index].first = block.assumingMemoryBound(to: Header.self).pointee.next
                unsafe free(block)
            }
        }
        unsafe lists.deallocate()
    }

    /// The functions that a session is opened with.
    var functions: nghttp2_mem {
        unsafe nghttp2_mem(
            mem_user_data: UnsafeMutableRawPointer(lists),
            malloc: { size, lists in unsafe HTTP2Memory.allocate(size, lists) },
            free: { pointer, lists in unsafe HTTP2Memory.release(pointer, lists) },
            calloc: { count, size, lists in
                let (bytes, overflow) = count.multipliedReportingOverflow(by: size)
                guard !overflow, let pointer = unsafe HTTP2Memory.allocate(bytes, lists) else { return nil }
                unsafe memset(pointer, 0, bytes)
                return unsafe pointer
            },
            realloc: { pointer, size, lists in unsafe HTTP2Memory.reallocate(pointer, size, lists) }
        )
    }

    @inline(__always)
    private static func allocate(_ size: Int, _ lists: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
        // SAFETY: see `lists`.
        guard let lists = unsafe lists?.assumingMemoryBound(to: FreeList.self) else { return nil }
        let sizeClass = (size &+ headerBytes &+ classBytes &- 1) &>> classShift
        guard sizeClass < classCount, let block = unsafe lists[sizeClass].first else {
            return unsafe allocateFresh(size, sizeClass)
        }
        let header = unsafe block.assumingMemoryBound(to: Header.self)
        unsafe lists[sizeClass].first = header.pointee.next
        unsafe lists[sizeClass].count &-= 1
        unsafe header.pointee.sizeClass = sizeClass
        return unsafe block + headerBytes
    }

    @inline(never)
    private static func allocateFresh(_ size: Int, _ sizeClass: Int) -> UnsafeMutableRawPointer? {
        // SAFETY: the block is as large as asked for, and the header fits in front.
        let isLarge = sizeClass >= classCount
        guard let block = unsafe malloc(isLarge ? size &+ headerBytes : sizeClass &* classBytes) else { return nil }
        unsafe block.assumingMemoryBound(to: Header.self).pointee.sizeClass = isLarge ? 0 : sizeClass
        return unsafe block + headerBytes
    }

    @inline(__always)
    private static func release(_ pointer: UnsafeMutableRawPointer?, _ lists: UnsafeMutableRawPointer?) {
        // SAFETY: see `lists`; nghttp2 gives back what `allocate` returned, or NULL.
        guard let pointer = unsafe pointer, let lists = unsafe lists?.assumingMemoryBound(to: FreeList.self) else {
            return
        }
        let block = unsafe pointer - headerBytes
        let header = unsafe block.assumingMemoryBound(to: Header.self)
        let sizeClass = unsafe header.pointee.sizeClass
        guard sizeClass > 0, unsafe lists[sizeClass].count < freeBlocksMax else {
            unsafe free(block)
            return
        }
        unsafe header.pointee.next = lists[sizeClass].first
        unsafe lists[sizeClass].first = block
        unsafe lists[sizeClass].count &+= 1
    }

    private static func reallocate(
        _ pointer: UnsafeMutableRawPointer?,
        _ size: Int,
        _ lists: UnsafeMutableRawPointer?
    ) -> UnsafeMutableRawPointer? {
        // SAFETY: see `release`; the old block holds at least the bytes that are copied.
        guard let pointer = unsafe pointer else { return unsafe allocate(size, lists) }
        let block = unsafe pointer - headerBytes
        let sizeClass = unsafe block.load(as: Int.self)
        if sizeClass == 0 {
            guard let grown = unsafe realloc(block, size &+ headerBytes) else { return nil }
            return unsafe grown + headerBytes
        }
        let capacity = sizeClass * classBytes - headerBytes
        if size <= capacity { return unsafe pointer }
        guard let grown = unsafe allocate(size, lists) else { return nil }
        unsafe memcpy(grown, pointer, capacity)
        unsafe release(pointer, lists)
        return unsafe grown
    }
}
