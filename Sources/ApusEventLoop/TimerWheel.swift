internal import ApusBase

/// Is told when its timer is due. The loop keeps it alive until then, or until the timer is cancelled.
package protocol TimerHandler: AnyObject {
    /// On the loop's thread. The timer is gone by then: its identifier means nothing any more.
    func timerFired(tag: UInt64)
}

extension EventLoop {
    /// Names one timer of one loop, and after that timer has fired or been cancelled, none.
    package struct TimerID: Hashable, Sendable {
        var index: UInt32
        var generation: UInt32

        /// No timer: harmless to cancel.
        package static let none = TimerID(index: 0, generation: 0)
    }
}

/// Timers in order of their ticks: a hierarchical timing wheel, its nodes in a slab.
///
/// Eight levels of 64 slots: a slot of level n spans 64^n ticks. A timer lies on the level of the highest group of
/// six bits in which its tick differs from the current one, so that whatever lies on a lower level is due earlier.
/// When time reaches a slot of a higher level, its timers move down. To schedule and to cancel is O(1); a timer moves
/// down at most once for each level, seven times; memory is allocated only when more timers are pending than ever
/// before.
///
/// It owns no clock and calls no handler. Not thread-safe: it is confined to its loop.
@safe
struct TimerWheel: ~Copyable {
    // SAFETY: `nodes`, `heads` and `occupied` are owned by this value, allocated in init and freed in deinit; nodes
    // below `capacity` are initialised. An index comes either from a list, which holds only indices of nodes, or from
    // a TimerID, whose index is compared with `capacity` first. No pointer is kept across a call that can grow the
    // slab.

    /// A tick is 2^20 ns: 1.05 ms.
    static let tickShift: Int64 = 20

    private static let levelCount = 8
    private static let slotBits = 6
    private static let slotsPerLevel = 1 << slotBits
    /// The list of timers that are due and wait for their handlers to be called, after those of the slots.
    private static let dueHome = UInt16(levelCount * slotsPerLevel)
    /// Of a node that is in no list: free, or being fired.
    private static let noHome = UInt16.max
    private static let noIndex = UInt32.max

    private struct Node {
        /// Neighbours in a circular list; of a free node, `next` is the next free one.
        var next: UInt32
        var previous: UInt32
        var tick: Int64
        var tag: UInt64
        var handler: (any TimerHandler)?
        /// Grows when the node is freed; never 0, which is TimerID.none's.
        var generation: UInt32
        var home: UInt16
    }

    private var nodes: UnsafeMutablePointer<Node>
    private var capacity: UInt32
    private var firstFree: UInt32
    /// The first node of each slot's list, and of the due list.
    private let heads: UnsafeMutablePointer<UInt32>
    /// One word for each level, one bit for each of its slots that is not empty.
    private let occupied: UnsafeMutablePointer<UInt64>
    /// Up to here time has come; every timer in a slot is later, or due now.
    private var elapsed: Int64

    /// How many timers are pending.
    private(set) var count = 0

    init(now: MonotonicInstant) {
        elapsed = max(now.nanoseconds, 0) >> Self.tickShift
        capacity = 0
        firstFree = Self.noIndex
        unsafe nodes = .allocate(capacity: 0)
        unsafe heads = .allocate(capacity: Int(Self.dueHome) + 1)
        unsafe heads.initialize(repeating: Self.noIndex, count: Int(Self.dueHome) + 1)
        unsafe occupied = .allocate(capacity: Self.levelCount)
        unsafe occupied.initialize(repeating: 0, count: Self.levelCount)
    }

    deinit {
        unsafe nodes.deinitialize(count: Int(capacity))
        unsafe nodes.deallocate()
        unsafe heads.deallocate()
        unsafe occupied.deallocate()
    }

    /// The first tick that starts no earlier than an instant: a timer never fires early.
    static func tick(notBefore instant: MonotonicInstant) -> Int64 {
        let fraction = instant.nanoseconds & ((1 << tickShift) - 1)
        return (instant.nanoseconds >> tickShift) + (fraction == 0 ? 0 : 1)
    }

    // MARK: Scheduling

    /// Adds a timer. One whose time has come is due at the next `collectDue`.
    mutating func schedule(at instant: MonotonicInstant, handler: any TimerHandler, tag: UInt64) -> EventLoop.TimerID {
        if firstFree == Self.noIndex { grow() }
        let index = firstFree
        let node = unsafe nodes + Int(index)
        unsafe firstFree = node.pointee.next
        unsafe node.pointee.tick = max(Self.tick(notBefore: instant), elapsed)
        unsafe node.pointee.tag = tag
        unsafe node.pointee.handler = handler
        count += 1
        unsafe link(index, into: home(ofTick: node.pointee.tick))
        return unsafe EventLoop.TimerID(index: index, generation: node.pointee.generation)
    }

    /// Takes a timer out. Answers its handler, for the caller to drop: that may run code which uses this wheel.
    mutating func cancel(_ timer: EventLoop.TimerID) -> (any TimerHandler)? {
        guard timer.index < capacity else { return nil }
        let node = unsafe nodes + Int(timer.index)
        guard unsafe node.pointee.generation == timer.generation, unsafe node.pointee.home != Self.noHome else {
            return nil
        }
        unlink(timer.index)
        return free(timer.index)
    }

    /// Cancels every timer. Answers the handlers, for the caller to drop.
    mutating func cancelAll() -> [any TimerHandler] {
        var handlers: [any TimerHandler] = []
        handlers.reserveCapacity(count)
        for index in 0..<capacity where unsafe nodes[Int(index)].home != Self.noHome {
            unlink(index)
            if let handler = free(index) { handlers.append(handler) }
        }
        return handlers
    }

    // MARK: Time

    /// When `collectDue` next has something to do, if ever: fire, or move timers down, which lets this be asked anew.
    var nextTick: Int64? {
        if count == 0 { return nil }
        if hasDue { return elapsed }
        guard let (slot, level) = nextSlot() else { return nil }
        return start(ofSlot: slot, onLevel: level)
    }

    /// Whether timers wait for `popDue`.
    var hasDue: Bool { unsafe heads[Int(Self.dueHome)] != Self.noIndex }

    /// Moves time forward; what is due by then waits for `popDue`, in order.
    mutating func collectDue(now: MonotonicInstant) {
        let target = now.nanoseconds >> Self.tickShift
        if count > 0 {
            // Not through nextTick: timers still due from before must not keep time from going on.
            while let (slot, level) = nextSlot() {
                let tick = start(ofSlot: slot, onLevel: level)
                if tick > target { break }
                elapsed = max(elapsed, tick)
                empty(slot, onLevel: level)
            }
        }
        elapsed = max(elapsed, target)
    }

    /// The next timer that is due; it is no longer pending then.
    mutating func popDue() -> (handler: any TimerHandler, tag: UInt64)? {
        let index = unsafe heads[Int(Self.dueHome)]
        if index == Self.noIndex { return nil }
        let tag = unsafe nodes[Int(index)].tag
        unlink(index)
        guard let handler = free(index) else { return nil }
        return (handler, tag)
    }

    /// The earliest slot that is not empty. What is on a lower level is earlier than anything on a higher one.
    private func nextSlot() -> (slot: Int, level: Int)? {
        for level in 0..<Self.levelCount {
            let slots = unsafe occupied[level]
            if slots != 0 { return (slots.trailingZeroBitCount, level) }
        }
        return nil
    }

    /// The first tick of a slot of the current revolution of its level.
    private func start(ofSlot slot: Int, onLevel level: Int) -> Int64 {
        let shift = Int64(level * Self.slotBits)
        let above = elapsed & (-1 << (shift + Int64(Self.slotBits)))
        return above | Int64(slot) << shift
    }

    /// Moves the timers of a slot: those of level 0 are due, the others go to where they lie as of now.
    private mutating func empty(_ slot: Int, onLevel level: Int) {
        let source = UInt16(level * Self.slotsPerLevel + slot)
        while true {
            let index = unsafe heads[Int(source)]
            if index == Self.noIndex { return }
            unlink(index)
            link(index, into: level == 0 ? Self.dueHome : unsafe home(ofTick: nodes[Int(index)].tick))
        }
    }

    /// The slot of a tick that is not before `elapsed`.
    private func home(ofTick tick: Int64) -> UInt16 {
        let differing = UInt64(bitPattern: tick ^ elapsed) | UInt64(Self.slotsPerLevel - 1)
        let level = (63 - differing.leadingZeroBitCount) / Self.slotBits
        let slot = Int(truncatingIfNeeded: tick >> Int64(level * Self.slotBits)) & (Self.slotsPerLevel - 1)
        return UInt16(truncatingIfNeeded: level * Self.slotsPerLevel + slot)
    }

    // MARK: Lists and slab

    private mutating func link(_ index: UInt32, into home: UInt16) {
        let node = unsafe nodes + Int(index)
        unsafe node.pointee.home = home
        let head = unsafe heads[Int(home)]
        if head == Self.noIndex {
            unsafe node.pointee.next = index
            unsafe node.pointee.previous = index
            unsafe heads[Int(home)] = index
            if home != Self.dueHome {
                unsafe occupied[Int(home >> Self.slotBits)] |= 1 << UInt64(home & UInt16(Self.slotsPerLevel - 1))
            }
        } else {
            let first = unsafe nodes + Int(head)
            let last = unsafe first.pointee.previous
            unsafe node.pointee.next = head
            unsafe node.pointee.previous = last
            unsafe nodes[Int(last)].next = index
            unsafe first.pointee.previous = index
        }
    }

    private mutating func unlink(_ index: UInt32) {
        let node = unsafe nodes + Int(index)
        let home = unsafe node.pointee.home
        let next = unsafe node.pointee.next
        if next == index {
            unsafe heads[Int(home)] = Self.noIndex
            if home != Self.dueHome {
                unsafe occupied[Int(home >> Self.slotBits)] &= ~(1 << UInt64(home & UInt16(Self.slotsPerLevel - 1)))
            }
        } else {
            let previous = unsafe node.pointee.previous
            unsafe nodes[Int(previous)].next = next
            unsafe nodes[Int(next)].previous = previous
            if unsafe heads[Int(home)] == index { unsafe heads[Int(home)] = next }
        }
        unsafe node.pointee.home = Self.noHome
    }

    /// Gives a node that is in no list back to the slab. Answers its handler.
    private mutating func free(_ index: UInt32) -> (any TimerHandler)? {
        let node = unsafe nodes + Int(index)
        let handler = unsafe node.pointee.handler.take()
        let generation = unsafe node.pointee.generation
        unsafe node.pointee.generation = generation == .max ? 1 : generation + 1
        unsafe node.pointee.next = firstFree
        firstFree = index
        count -= 1
        return handler
    }

    private mutating func grow() {
        let larger = max(64, capacity * 2)
        let moved = UnsafeMutablePointer<Node>.allocate(capacity: Int(larger))
        unsafe moved.moveInitialize(from: nodes, count: Int(capacity))
        for index in capacity..<larger {
            let next = index + 1 == larger ? firstFree : index + 1
            let node = Node(
                next: next,
                previous: index,
                tick: 0,
                tag: 0,
                handler: nil,
                generation: 1,
                home: Self.noHome
            )
            unsafe (moved + Int(index)).initialize(to: node)
        }
        unsafe nodes.deallocate()
        unsafe nodes = moved
        firstFree = capacity
        capacity = larger
    }
}
