internal import Synchronization

/// What the writers of one segment share: a lock, counts, and the entries that were taken out last. In a cache line of
/// its own, which readers never look at. All but `version` and `count` is used with the lock held.
@safe
struct Segment {
    // SAFETY: the words are part of the map's memory, and live as long as the map.
    private let words: UnsafeMutablePointer<Atomic<UInt>>

    static let wordCount = 8

    init(_ words: UnsafeMutablePointer<Atomic<UInt>>) { unsafe self.words = unsafe words }

    private subscript(index: Int) -> UInt {
        get { unsafe words[index].load(ordering: .relaxed) }
        nonmutating set { unsafe words[index].store(newValue, ordering: .relaxed) }
    }

    var lock: SegmentLock { unsafe SegmentLock(words) }

    /// Changes when a key is added: who looked for a key in vain and finds the version unchanged knows that it is still
    /// not there.
    var version: UInt {
        get { unsafe words[1].load(ordering: .acquiring) }
        nonmutating set { unsafe words[1].store(newValue, ordering: .releasing) }
    }

    /// How many entries there are.
    var count: Int {
        get { Int(self[2]) }
        nonmutating set { self[2] = UInt(newValue) }
    }

    /// How many slots are not unused, so that a search passes them by.
    var occupied: Int {
        get { Int(self[3]) }
        nonmutating set { self[3] = UInt(newValue) }
    }

    // Entries that were taken out, a list that begins with the latest -------------------------------------------------

    static let retiredMax = 8

    var retiredHead: UInt {
        get { self[4] }
        nonmutating set { self[4] = newValue }
    }

    private var retiredTail: UInt {
        get { self[5] }
        nonmutating set { self[5] = newValue }
    }

    private(set) var retiredCount: Int {
        get { Int(self[6]) }
        nonmutating set { self[6] = UInt(newValue) }
    }

    /// Adds an entry to the list; the whole list if it has become long, and is to be handed on.
    func retire(_ entry: UInt) -> RetiredList? {
        if retiredHead == 0 { retiredTail = entry }
        RetiredList.setNext(retiredHead, of: entry)
        retiredHead = entry
        retiredCount += 1
        return retiredCount < Self.retiredMax ? nil : takeRetired()
    }

    func takeRetired() -> RetiredList? {
        guard retiredHead != 0 else { return nil }
        let list = RetiredList(head: retiredHead, tail: retiredTail, count: retiredCount)
        retiredHead = 0
        retiredCount = 0
        return list
    }
}

/// Entries that were taken out of a map, linked through their first words.
//
// SAFETY: an entry that was taken out belongs to the list that it is in, and is not freed as long. Readers may
// still read its key and value, and never look at the first word.
struct RetiredList {
    private(set) var head: UInt
    private(set) var tail: UInt
    private(set) var count: Int

    init(head: UInt, tail: UInt, count: Int) {
        self.head = head
        self.tail = tail
        self.count = count
    }

    init() { self.init(head: 0, tail: 0, count: 0) }

    mutating func add(_ entry: UInt) {
        if head == 0 { tail = entry }
        Self.setNext(head, of: entry)
        head = entry
        count += 1
    }

    mutating func add(_ list: RetiredList) {
        guard list.head != 0 else { return }
        Self.setNext(head, of: list.tail)
        if head == 0 { tail = list.tail }
        head = list.head
        count += list.count
    }

    mutating func removeFirst() -> UInt? {
        guard head != 0 else { return nil }
        let entry = head
        head = Self.next(of: entry)
        count -= 1
        return entry
    }

    static func setNext(_ next: UInt, of entry: UInt) {
        unsafe UnsafeMutablePointer<UInt>(bitPattern: entry).unsafelyUnwrapped.pointee = next
    }

    static func next(of entry: UInt) -> UInt {
        unsafe UnsafeMutablePointer<UInt>(bitPattern: entry).unsafelyUnwrapped.pointee
    }
}
