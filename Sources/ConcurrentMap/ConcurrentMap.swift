/// A dictionary for many threads, whose reads take no lock and never wait.
///
///     let positions = ConcurrentMap<String, Position>()
///     positions["SOL-PERP"] = position                                    // from any thread
///     positions["SOL-PERP"]?.size                                         // copied out
///     positions.withValue(forKey: "SOL-PERP") { $0.size }                 // read in place
///     positions.updateValue(forKey: "SOL-PERP") { $0.size += 1 }          // one step, whoever else writes
///
/// It is for state that many read and some write: caches, registries, what a subscription keeps up to date. All its
/// methods may be called from any thread and any task, also from within each other's closures, and from a `deinit`,
/// `==` or `hash(into:)` of its keys and values. None of them ever waits for code of yours: no lock is held while such
/// code runs.
///
/// ## Consistency
///
/// - Each operation on a key is *linearizable*: it takes effect at one moment between its call and its return, and all
///   threads see these moments in one order. Who has been told that a write is done reads it, or a later one.
/// - ``updateValue(forKey:_:)`` and its kin replace a value if nobody else has done so since they read it, and else
///   call their closure again with the new value. So the closure may run more than once, and only what it did last
///   counts: it should do nothing but compute. If it throws, nothing has changed.
/// - ``snapshot()`` is exact: all that the map had at one moment. So is ``removeAll()``.
/// - An iteration is *weakly consistent*: it goes through the map in 64 parts, while others write. A pair that is there
///   all the time is seen once, no key is seen twice, and a pair that comes or goes meanwhile is seen or not.
/// - ``count`` adds up 64 numbers, each exact at its own moment: exact while nobody adds or removes.
/// - `map[key]? += 1` and `map[key]?.append(x)` are a read and a write, between which others may write. Use
///   ``updateValue(forKey:_:)``.
///
/// ## Performance
///
/// - A read is a search in an array, without a lock and without a write to memory that another thread uses, so that
///   readers do not slow each other down. It repeats a step when a writer changes that very key at the same instant.
/// - ``withValue(forKey:_:)`` is the read that scales in every case. A read that copies a reference out (a class, a
///   string, an array) increments that object's own reference count; where many threads copy the same object at once,
///   they wait for its count, in this map as in any other.
/// - A write makes an entry on the heap and takes a lock for a few instructions, one of 64, chosen by the key's hash.
/// - Growth copies one of the 64 parts at a time, under its lock. Readers go on meanwhile. A part never shrinks by
///   itself; when it is copied next, it gets the size that it needs.
/// - ``snapshot()`` has all writers wait while the addresses of the entries are collected, a few nanoseconds for each;
///   values are copied when they go on.
///
/// ## When values are released
///
/// A value that was replaced or removed is released when no reader is within a read of it; a reader that stays in
/// ``withValue(forKey:_:)`` for minutes keeps that one value, and nothing else. Releasing is done by writers at the end
/// of a write, outside of all locks: when 128 entries wait for it, or at the first write after a tick of the kernel's
/// clock (1 to 10 ms). Until then at most about 600 entries wait, however many threads and keys there are; on top of it
/// come two for each value that a reader holds at the time, and what is taken out while a snapshot is copied. After the
/// last write some may wait for long: ``reclaim()`` releases what can be released at once. When the map itself goes,
/// everything is released.
///
/// ## What it is bad at
///
/// - Few readers and many writers: a `Dictionary` in a `Mutex` writes two to three times as fast, and needs half of the
///   memory.
/// - Small maps in great number: each has 5 KiB before the first key.
/// - Changing large values in place: an update copies the value, because readers may be reading the old one.
/// - Keys whose hashes collide: a search goes through all keys with the same hash, as in a `Dictionary`.
/// - Changes of several keys in one step: there is no such thing. Put them into one value, or use a lock.
/// - A process that forks without `exec`: if another thread was writing at that moment, a write in the child may wait
///   for ever, as with any lock.
public final class ConcurrentMap<Key: Hashable & Sendable, Value: Sendable>: @unchecked Sendable {
    // Unchecked, because the compiler cannot follow what the memory behind it goes through: atomic words, and entries
    // that never change while another thread can reach them. Keys and values are Sendable.
    @usableFromInline let core: MapCore

    /// An empty map. `minimumCapacity` is the number of keys that it shall have room for without growing.
    @inlinable
    public init(minimumCapacity: Int = 0) {
        core = MapCore(minimumCapacity: minimumCapacity)
    }

    /// A map with the pairs of a dictionary.
    @inlinable
    public convenience init(_ dictionary: [Key: Value]) {
        self.init(minimumCapacity: dictionary.count)
        for (key, value) in dictionary { setValue(value, forKey: key) }
    }

    @inlinable
    deinit {
        core.free { Entry<Key, Value>.free($0) }
    }
}
