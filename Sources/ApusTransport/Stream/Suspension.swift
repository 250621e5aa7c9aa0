/// A task that waits to be resumed, exactly once.
///
/// An unsafe continuation: the checked one costs an allocation and a lock for each use. Whoever holds a suspension
/// takes it out of where it is kept before resuming it, so that it is resumed once; and whoever drops a call or a loop
/// resumes what waits there, so that it is resumed at all.
@safe
struct Suspension<Value: Sendable>: Sendable {
    // SAFETY: see the type's comment; the continuation keeps its task alive.
    private let continuation: UnsafeContinuation<Value, Never>

    @inline(__always)
    func resume(returning value: Value) { unsafe continuation.resume(returning: value) }

    /// Suspends the calling task until `body`'s argument is resumed.
    @inline(__always)
    static func wait(_ body: (Suspension) -> Void) async -> Value {
        // SAFETY: see the type's comment.
        await unsafe withUnsafeContinuation { continuation in unsafe body(Suspension(continuation: continuation)) }
    }
}

extension Suspension where Value == Void {
    @inline(__always)
    func resume() { resume(returning: ()) }
}
