internal import ApusBase
internal import CLinux
internal import Glibc

/// A thread of the kernel that runs one closure, with the process' signals blocked.
struct LoopThread: Sendable {
    // SAFETY: the box is retained when its pointer is handed to the thread, which releases it once it has the
    // closure; if no thread comes to be, it is released here.

    private let handle: pthread_t

    private final class Body {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    /// Starts a thread; one that is not detached has to be joined or detached.
    ///
    /// - Parameter name: as tools show it; cut to 15 bytes.
    init(name: String, isDetached: Bool = false, _ run: @escaping @Sendable () -> Void) throws(SystemError) {
        let body = Body {
            unsafe clinux_thread_set_name(name)
            run()
        }
        let context = unsafe Unmanaged.passRetained(body)
        var handle = pthread_t()
        let error = unsafe clinux_thread_start(
            &handle,
            isDetached ? 1 : 0,
            { context in
                guard let context = unsafe context else { return nil }
                let run = unsafe Unmanaged<Body>.fromOpaque(context).takeRetainedValue().run
                run()
                return nil
            },
            context.toOpaque()
        )
        if error != 0 {
            unsafe context.release()
            let name = SystemCalls.Name.threadCreate
            throw SystemCalls.failure(name, negatedErrno: -Int(error))
        }
        self.handle = handle
    }

    /// Waits until the thread has ended. At most once, and not if it was detached.
    func join() { _ = pthread_join(handle, nil) }

    /// Lets the thread's memory go when it ends.
    func detach() { _ = pthread_detach(handle) }
}
