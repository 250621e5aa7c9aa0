package import ApusBase
internal import Glibc

extension EventLoop {
    // SAFETY: `state` is the loop's own, followed on its own thread only.

    /// Watches a descriptor, level-triggered. The caller keeps owning it; it has to deregister it before it closes it.
    ///
    /// - Throws: what epoll says, or why the loop is not running.
    package func register(
        _ descriptor: CInt,
        interest: Interest,
        handler: any DescriptorHandler
    ) throws(SystemError) -> Registration {
        if let startError { throw startError }
        assertCurrent()
        guard unsafe state.pointee.descriptors.isOpen else {
            throw SystemError(errno: ESHUTDOWN, operation: "register with stopped event loop \(name)")
        }
        return try unsafe state.pointee.descriptors.register(descriptor, interest: interest, handler: handler)
    }

    /// Changes what a handler is told of. A system call if it is a change; nothing if the registration has ended.
    package func update(_ registration: Registration, interest: Interest) {
        assertCurrent()
        unsafe state.pointee.descriptors.update(registration, interest: interest)
    }

    /// Ends a registration: no event reaches its handler from here on, not even one that was fetched in this turn.
    /// Harmless when repeated.
    package func deregister(_ registration: Registration) {
        assertCurrent()
        // Bound to a name, so that the handler is dropped when the table is no longer being changed.
        let handler = unsafe state.pointee.descriptors.deregister(registration)
        _ = handler
    }
}
