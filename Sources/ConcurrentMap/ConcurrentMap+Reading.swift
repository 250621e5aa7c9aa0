/// Reads. None takes a lock, waits, or writes to memory that another thread uses.
//
// SAFETY: there is a hazard on the entry that `find` found, until `leave`.
extension ConcurrentMap {
    /// The value of a key, copied; nil if there is none. The copy of an object, a string or an array increments its
    /// reference count.
    @inlinable
    public func value(forKey key: Key) -> Value? {
        let found = find(key)
        guard let entry = unsafe found.entry else { return nil }
        let value = unsafe entry.pointee.value
        found.record.leave()
        return value
    }

    /// Reads the value of a key where it lies, and answers what the closure answers; nil if there is no value.
    ///
    /// The value that the closure sees does not change and is not released while it runs, whatever others write
    /// meanwhile. The closure may run as long as it likes, and may use this map and others; it may write to the same
    /// key, which does not change what it sees.
    @inlinable
    public func withValue<Result: ~Copyable, Failure: Error>(
        forKey key: Key,
        _ body: (borrowing Value) throws(Failure) -> Result
    ) throws(Failure) -> Result? {
        let found = find(key)
        guard let entry = unsafe found.entry else { return nil }
        defer { found.record.leave() }
        return try unsafe body(entry.pointee.value)
    }

    /// Whether there is a value for a key.
    @inlinable
    public func contains(_ key: Key) -> Bool {
        let found = find(key)
        guard unsafe found.entry != nil else { return false }
        found.record.leave()
        return true
    }

    /// How many keys there are: exact while nobody adds or removes one, close to it else. Adds up 64 numbers.
    @inlinable public var count: Int { core.count }

    /// Whether ``count`` is 0.
    @inlinable public var isEmpty: Bool { core.count == 0 }
}
