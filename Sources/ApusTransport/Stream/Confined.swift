#if TSAN
    internal import CLinux
#endif

/// A value in memory of its own, which one loop's thread works on.
///
/// Why not plain properties of the class that owns it: each access to a class's property that may span a call is
/// checked for exclusivity while the program runs, which was a seventh of a request's instructions. Here the compiler
/// checks what it can see, and confinement to one thread does the rest. The owner calls ``destroy()`` from its
/// `deinit`.
@safe
struct Confined<Value> {
    // SAFETY: allocated and initialised in `init`, freed by `destroy`, which the owner calls last of all. No access
    // lasts beyond the expression that makes it, and none of those calls back into code that makes another to the same
    // field.
    private let pointer: UnsafeMutablePointer<Value>

    init(_ value: consuming Value) {
        unsafe pointer = .allocate(capacity: 1)
        unsafe pointer.initialize(to: value)
    }

    /// Tells the thread sanitizer that what was done here so far is handed to another thread, by a way that it does not
    /// see: the resumption of a task, or a reference count. Costs nothing without it.
    @inline(__always)
    func announceHandOver() {
        #if TSAN
            unsafe clinux_tsan_release(pointer)
        #endif
    }

    /// The other side of ``announceHandOver()``.
    @inline(__always)
    func announceTakeOver() {
        #if TSAN
            unsafe clinux_tsan_acquire(pointer)
        #endif
    }

    /// Whether both are one place in memory.
    func isSame(as other: Confined) -> Bool { unsafe pointer == other.pointer }

    func destroy() {
        unsafe pointer.deinitialize(count: 1)
        unsafe pointer.deallocate()
    }

    var value: Value {
        @inline(__always)
        unsafeAddress { unsafe UnsafePointer(pointer) }
        @inline(__always)
        nonmutating unsafeMutableAddress { unsafe pointer }
    }
}
