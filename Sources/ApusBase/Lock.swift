#if TSAN
    internal import CLinux
    internal import Synchronization

    /// `Mutex`, told to the thread sanitizer.
    ///
    /// The standard library's futex is not instrumented, so that the sanitizer sees no order between two critical
    /// sections and reports each as a race. Here the order is announced; a real race is still found.
    @safe
    package struct Lock<Value: ~Copyable>: ~Copyable, @unchecked Sendable {
        private let mutex: Mutex<Value>
        /// An address of our own: a value in place has none that lasts.
        private let token: UnsafeMutablePointer<UInt8>

        package init(_ value: consuming sending Value) {
            mutex = Mutex(value)
            // SAFETY: freed in deinit, used only by the method below, for which `self` is borrowed.
            unsafe token = .allocate(capacity: 1)
        }

        deinit {
            // SAFETY: allocated in init, and no one else has it.
            unsafe token.deallocate()
        }

        package borrowing func withLock<Result: ~Copyable, Failure: Error>(
            _ body: (inout sending Value) throws(Failure) -> sending Result
        ) throws(Failure) -> sending Result {
            // SAFETY: the token lives as long as `self`, which is borrowed for the duration of the call.
            try mutex.withLock { (value: inout sending Value) throws(Failure) -> sending Result in
                unsafe clinux_tsan_acquire(token)
                defer { unsafe clinux_tsan_release(token) }
                return try body(&value)
            }
        }
    }
#else
    package import Synchronization

    /// The lock of this package. An alias of `Mutex`, save under the thread sanitizer (`-Xswiftc -DTSAN`), which does
    /// not understand `Mutex` and gets a wrapper that announces what it orders.
    package typealias Lock = Mutex
#endif
