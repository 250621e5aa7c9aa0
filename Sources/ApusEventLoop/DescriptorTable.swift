internal import ApusBase
internal import CLinux

/// Is told what its descriptor is ready for. The loop keeps it alive while it is registered.
package protocol DescriptorHandler: AnyObject {
    /// On the loop's thread. Level-triggered: what is not dealt with is told again in the next turn.
    func descriptorReady(_ readiness: EventLoop.Readiness)
}

extension EventLoop {
    /// What a handler wants to be told of. An error or a hang-up is told in every case.
    package struct Interest: OptionSet, Sendable {
        package let rawValue: UInt8
        package init(rawValue: UInt8) { self.rawValue = rawValue }

        package static let read = Interest(rawValue: 1)
        package static let write = Interest(rawValue: 2)

        /// A peer that has shut its half down is told only to whoever wants to read: level-triggered, it would be told
        /// over and over to a handler that does not.
        var events: UInt32 {
            (contains(.read) ? clinux_epollin | clinux_epollrdhup : 0) | (contains(.write) ? clinux_epollout : 0)
        }
    }

    /// What a descriptor is ready for.
    package struct Readiness: OptionSet, Sendable {
        package let rawValue: UInt8
        package init(rawValue: UInt8) { self.rawValue = rawValue }

        package static let readable = Readiness(rawValue: 1)
        package static let writable = Readiness(rawValue: 2)
        /// Both directions are closed, or a connect has failed. It is told in every turn until the descriptor is
        /// deregistered, whatever the interest.
        package static let hangUp = Readiness(rawValue: 4)
        /// An error is pending on the descriptor; told as `hangUp` is.
        package static let error = Readiness(rawValue: 8)
        /// The peer will send no more: what is there can be read, then comes the end of the stream.
        package static let peerClosed = Readiness(rawValue: 16)

        /// Whether a read would not block: there are bytes, an end or an error. Asked for each event, where a set
        /// built from a literal would cost thousands of instructions, unspecialised in another module.
        package var concernsReading: Bool { rawValue & ~2 != 0 }
        package var isWritable: Bool { rawValue & 2 != 0 }

        @inline(__always)
        init(events: UInt32) {
            var value: UInt8 = 0
            if events & clinux_epollin != 0 { value |= 1 }
            if events & clinux_epollout != 0 { value |= 2 }
            if events & (clinux_epollhup | clinux_epollerr | clinux_epollrdhup) != 0 {
                if events & clinux_epollhup != 0 { value |= 4 }
                if events & clinux_epollerr != 0 { value |= 8 }
                if events & clinux_epollrdhup != 0 { value |= 16 }
            }
            rawValue = value
        }
    }

    /// Names one descriptor for as long as it is registered, and after that, none: not even the next owner of its
    /// number.
    package struct Registration: Hashable, Sendable {
        package let descriptor: CInt
        var index: UInt32
        var generation: UInt32

        /// What the kernel hands back with each event.
        var key: UInt64 { UInt64(generation) << 32 | UInt64(index) }
    }
}

/// The descriptors of one loop: epoll, the events it last fetched, and a slab of handlers.
///
/// The kernel keeps the index and the generation of a registration and hands them back with each event, so that an
/// event that was fetched before its descriptor was deregistered finds nobody. Not thread-safe: it is confined to its
/// loop.
@safe
struct DescriptorTable: ~Copyable {
    // SAFETY: `events` and `entries` are owned by this value and freed in deinit; entries below `capacity` are
    // initialised. An index from the kernel or a Registration is compared with `capacity` before use. No pointer is
    // kept across a call that can grow the slab.

    /// The key of the loop's own eventfd: no generation is that high.
    private static let wakeKey = UInt64.max
    private static let eventsMax = 256
    private static let noIndex = UInt32.max

    private struct Entry {
        var handler: (any DescriptorHandler)?
        /// Grows when the entry is freed.
        var generation: UInt32
        var nextFree: UInt32
        var interest: EventLoop.Interest
    }

    /// -1 of a table that was never open.
    private var epoll: CInt
    private let events: UnsafeMutableRawPointer
    private var entries: UnsafeMutablePointer<Entry>
    private var capacity: UInt32 = 0
    private var firstFree = Self.noIndex

    /// - Parameter wakeDescriptor: the loop's eventfd, which is watched edge-triggered and reported as nothing.
    init(wakeDescriptor: CInt) throws(SystemError) {
        let epoll = try SystemCalls.epollCreate()
        do {
            let events = clinux_epollin | clinux_epollet
            try SystemCalls.epollAdd(epoll, wakeDescriptor, events: events, key: Self.wakeKey)
        } catch {
            SystemCalls.close(epoll)
            throw error
        }
        self.init(epoll: epoll)
    }

    /// A table that watches nothing, of a loop that could not be started.
    init(closed: Void) { self.init(epoll: -1) }

    private init(epoll: CInt) {
        self.epoll = epoll
        unsafe events = .allocate(byteCount: Self.eventsMax * clinux_event_size, alignment: 16)
        unsafe entries = .allocate(capacity: 0)
    }

    deinit {
        if epoll >= 0 { SystemCalls.close(epoll) }
        unsafe events.deallocate()
        unsafe entries.deinitialize(count: Int(capacity))
        unsafe entries.deallocate()
    }

    var isOpen: Bool { epoll >= 0 }

    mutating func register(
        _ descriptor: CInt,
        interest: EventLoop.Interest,
        handler: any DescriptorHandler
    ) throws(SystemError) -> EventLoop.Registration {
        if firstFree == Self.noIndex { grow() }
        let index = firstFree
        let generation = unsafe entries[Int(index)].generation
        let registration = EventLoop.Registration(descriptor: descriptor, index: index, generation: generation)
        try SystemCalls.epollAdd(epoll, descriptor, events: interest.events, key: registration.key)
        unsafe firstFree = entries[Int(index)].nextFree
        unsafe entries[Int(index)].handler = handler
        unsafe entries[Int(index)].interest = interest
        return registration
    }

    mutating func update(_ registration: EventLoop.Registration, interest: EventLoop.Interest) {
        guard isCurrent(registration) else { return }
        let entry = unsafe entries + Int(registration.index)
        if unsafe entry.pointee.interest == interest { return }
        unsafe entry.pointee.interest = interest
        // It can fail only for lack of kernel memory, or if the descriptor was closed behind our back.
        try? SystemCalls.epollModify(epoll, registration.descriptor, events: interest.events, key: registration.key)
    }

    /// Answers the handler, for the caller to drop: that may run code which uses this table.
    mutating func deregister(_ registration: EventLoop.Registration) -> (any DescriptorHandler)? {
        guard isCurrent(registration) else { return nil }
        SystemCalls.epollDelete(epoll, registration.descriptor)
        return free(registration.index)
    }

    private func isCurrent(_ registration: EventLoop.Registration) -> Bool {
        guard registration.index < capacity else { return false }
        return unsafe entries[Int(registration.index)].generation == registration.generation
    }

    private mutating func free(_ index: UInt32) -> (any DescriptorHandler)? {
        let entry = unsafe entries + Int(index)
        let generation = unsafe entry.pointee.generation
        // The highest one is the wake key's.
        unsafe entry.pointee.generation = generation == .max - 1 ? 0 : generation + 1
        unsafe entry.pointee.nextFree = firstFree
        firstFree = index
        return unsafe entry.pointee.handler.take()
    }

    /// Stops to watch anything. Answers the handlers that are still there, for the caller to drop.
    mutating func close() -> [any DescriptorHandler] {
        if epoll >= 0 { SystemCalls.close(epoll) }
        epoll = -1
        var handlers: [any DescriptorHandler] = []
        for index in 0..<capacity where unsafe entries[Int(index)].handler != nil {
            if let handler = free(index) { handlers.append(handler) }
        }
        return handlers
    }

    /// Fetches events, waiting for at most so long; without limit if negative. Answers how many there are.
    mutating func wait(timeoutNanoseconds: Int64) -> Int {
        unsafe SystemCalls.epollWait(
            epoll,
            events,
            capacity: CInt(Self.eventsMax),
            timeoutNanoseconds: timeoutNanoseconds
        )
    }

    /// Whom one of the fetched events is for, and what it says; nil if it is a wake-up or its descriptor is gone.
    @inline(__always)
    func event(at index: Int) -> (handler: any DescriptorHandler, readiness: EventLoop.Readiness)? {
        let key = unsafe clinux_event_key(events, index)
        let slot = UInt32(truncatingIfNeeded: key)
        guard slot < capacity else { return nil }
        let entry = unsafe entries + Int(slot)
        guard unsafe entry.pointee.generation == UInt32(truncatingIfNeeded: key >> 32),
            let handler = unsafe entry.pointee.handler
        else { return nil }
        return unsafe (handler, EventLoop.Readiness(events: clinux_event_flags(events, index)))
    }

    private mutating func grow() {
        let larger = max(16, capacity * 2)
        let moved = UnsafeMutablePointer<Entry>.allocate(capacity: Int(larger))
        unsafe moved.moveInitialize(from: entries, count: Int(capacity))
        for index in capacity..<larger {
            let next = index + 1 == larger ? firstFree : index + 1
            let entry = Entry(handler: nil, generation: 0, nextFree: next, interest: [])
            unsafe (moved + Int(index)).initialize(to: entry)
        }
        unsafe entries.deallocate()
        unsafe entries = moved
        firstFree = capacity
        capacity = larger
    }
}
