package import ApusBase
internal import CLinux
internal import Glibc

/// What became of a read or a write on a non-blocking descriptor.
package enum IOResult: Sendable {
    /// So many bytes were moved. A read of 0 bytes into a buffer that is not empty is the end of the stream.
    case bytes(Int)
    /// Nothing can be moved now; the loop will say when.
    case wouldBlock
    /// The descriptor is of no more use.
    case failed(SystemError)
}

/// The one funnel through which the stack calls the kernel.
///
/// Each call is repeated when a signal interrupts it and may be repeated, keeps its descriptors from children
/// (CLOEXEC), and never raises SIGPIPE. Errors that only a bug of ours can cause stop a debug build; in a release
/// build they are thrown like any other. Every call that can fail passes through `once`, where tests inject faults into
/// debug builds (``SystemCallFaults``).
package enum SystemCalls {
    // SAFETY: each pointer is to a local or to the caller's memory and is used only while the call lasts; the kernel
    // keeps none of them.

    /// The calls, by the name an error shows.
    package enum Name: String, Sendable {
        case read, send, write, close, eventfd, socket, bind, listen, accept, connect, shutdown, getsockopt, setsockopt
        case getsockname, getpeername, socketpair, lstat, unlink, fcntl
        case epollCreate = "epoll_create1"
        case epollControl = "epoll_ctl"
        case epollWait = "epoll_wait"
        case threadCreate = "pthread_create"
    }

    /// Runs one call, once. Answers what the call does, or its negated errno.
    @inline(__always)
    static func once(_ name: Name, _ call: () -> Int) -> Int {
        #if DEBUG
            if let error = SystemCallFaults.error(for: name) { return -Int(error) }
        #endif
        let result = call()
        if result >= 0 { return result }
        let error = errno
        assert(
            name == .getpeername || (error != EBADF && error != EFAULT && error != ENOTSOCK),
            "\(name.rawValue) was given a descriptor or a buffer that is not there (errno \(error))"
        )
        return -Int(error)
    }

    /// Runs one call, again as long as a signal interrupts it. Answers what the call does, or its negated errno.
    @inline(__always)
    static func attempt(_ name: Name, _ call: () -> Int) -> Int {
        while true {
            let result = once(name, call)
            if result != -Int(EINTR) { return result }
        }
    }

    /// Runs one call whose failure is thrown; `object` is what it was about.
    static func attemptOrThrow(
        _ name: Name,
        _ object: @autoclosure () -> String = "",
        _ call: () -> Int
    ) throws(SystemError) -> CInt {
        let result = attempt(name, call)
        if result < 0 { throw failure(name, negatedErrno: result, object()) }
        return CInt(truncatingIfNeeded: result)
    }

    /// The error for what `attempt` answered.
    static func failure(_ name: Name, negatedErrno: Int, _ object: String = "") -> SystemError {
        SystemError(
            errno: CInt(truncatingIfNeeded: -negatedErrno),
            operation: object.isEmpty ? name.rawValue : "\(name.rawValue) \(object)"
        )
    }

    @inline(__always)
    private static func ioResult(_ name: Name, _ result: Int) -> IOResult {
        if result >= 0 { return .bytes(result) }
        if isTransient(result) { return .wouldBlock }
        return .failed(failure(name, negatedErrno: result))
    }

    /// Besides a full or an empty buffer, a shortage of the kernel's memory: nothing was moved and nothing is lost, and
    /// it ends by itself.
    private static func isTransient(_ result: Int) -> Bool {
        result == -Int(EAGAIN) || result == -Int(ENOBUFS) || result == -Int(ENOMEM)
    }

    /// How many bytes to ask a call for.
    @inline(__always)
    private static func bounded(_ count: Int, _ name: Name) -> Int {
        #if DEBUG
            SystemCallFaults.limit(count, name)
        #else
            count
        #endif
    }

    // MARK: Bytes

    /// Reads what is there, at most what the buffer holds.
    package static func read(_ descriptor: CInt, into buffer: UnsafeMutableRawBufferPointer) -> IOResult {
        let count = bounded(buffer.count, .read)
        return ioResult(.read, attempt(.read) { unsafe Glibc.read(descriptor, buffer.baseAddress, count) })
    }

    /// Sends what the kernel takes now. A peer that is gone is an error, never a signal.
    package static func send(_ descriptor: CInt, _ bytes: UnsafeRawBufferPointer) -> IOResult {
        let count = bounded(bytes.count, .send)
        let result = attempt(.send) {
            unsafe Glibc.send(descriptor, bytes.baseAddress, count, clinux_msg_nosignal)
        }
        return ioResult(.send, result)
    }

    /// Closes a descriptor. There is nothing to do about an error: Linux has freed the number in every case, so that a
    /// repetition could close what another thread just opened.
    package static func close(_ descriptor: CInt) {
        _ = once(.close) { Int(Glibc.close(descriptor)) }
    }

    // MARK: epoll and eventfd

    static func epollCreate() throws(SystemError) -> CInt {
        try attemptOrThrow(.epollCreate) { Int(clinux_epoll_create()) }
    }

    static func epollAdd(_ epoll: CInt, _ descriptor: CInt, events: UInt32, key: UInt64) throws(SystemError) {
        _ = try attemptOrThrow(.epollControl, "add") { Int(clinux_epoll_add(epoll, descriptor, events, key)) }
    }

    static func epollModify(_ epoll: CInt, _ descriptor: CInt, events: UInt32, key: UInt64) throws(SystemError) {
        _ = try attemptOrThrow(.epollControl, "modify") { Int(clinux_epoll_modify(epoll, descriptor, events, key)) }
    }

    static func epollDelete(_ epoll: CInt, _ descriptor: CInt) {
        _ = attempt(.epollControl) { Int(clinux_epoll_delete(epoll, descriptor)) }
    }

    /// Waits for events, without limit if the timeout is negative. Answers how many there are; 0 also when a signal
    /// came.
    static func epollWait(
        _ epoll: CInt,
        _ events: UnsafeMutableRawPointer,
        capacity: CInt,
        timeoutNanoseconds: Int64
    ) -> Int {
        // Not repeated after a signal: the caller computes a new timeout.
        let count = once(.epollWait) {
            unsafe Int(clinux_epoll_wait(epoll, events, capacity, timeoutNanoseconds))
        }
        return max(count, 0)
    }

    static func eventDescriptor() throws(SystemError) -> CInt {
        try attemptOrThrow(.eventfd) { Int(clinux_eventfd()) }
    }

    /// Wakes whoever waits for the eventfd.
    static func signal(_ eventDescriptor: CInt) {
        var one: UInt64 = 1
        let result = attempt(.write) { unsafe Glibc.write(eventDescriptor, &one, MemoryLayout<UInt64>.size) }
        guard result == -Int(EAGAIN) else { return }
        // The counter is full, after 2^64 wake-ups: nobody reads it, since it is watched edge-triggered, and a write
        // that fails wakes nobody. Emptied by whoever comes here first, it can be written again.
        var count: UInt64 = 0
        _ = attempt(.read) { unsafe Glibc.read(eventDescriptor, &count, MemoryLayout<UInt64>.size) }
        _ = attempt(.write) { unsafe Glibc.write(eventDescriptor, &one, MemoryLayout<UInt64>.size) }
    }
}
