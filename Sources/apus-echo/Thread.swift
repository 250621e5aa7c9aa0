internal import Glibc

/// A plain thread, as a program without tasks has them.
///
/// Sendable, because the body is taken once, by the thread.
@safe
final class Thread: @unchecked Sendable {
    private let body: @Sendable () -> Void

    init(_ body: @escaping @Sendable () -> Void) { self.body = body }

    /// Starts the thread, which nobody waits for.
    func start() {
        var thread = pthread_t()
        // SAFETY: the thread takes over the reference that it is given.
        let context = unsafe Unmanaged.passRetained(self).toOpaque()
        let result = unsafe pthread_create(
            &thread,
            nil,
            { context in
                guard let context = unsafe context else { return nil }
                unsafe Unmanaged<Thread>.fromOpaque(context).takeRetainedValue().body()
                return nil
            },
            context
        )
        if result == 0 {
            pthread_detach(thread)
        } else {
            // SAFETY: no thread took it.
            unsafe Unmanaged<Thread>.fromOpaque(context).release()
            body()
        }
    }
}
