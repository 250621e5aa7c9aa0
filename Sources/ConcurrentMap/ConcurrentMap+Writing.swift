/// Writes. A writer waits for another only while that one is within a few instructions of its own on one of 64 parts of
/// the map, or makes that part larger.
///
/// The release of what earlier writes took out of the map may run at the end of any of these, on the calling thread.
extension ConcurrentMap {
    /// The value of a key: see ``value(forKey:)``, ``setValue(_:forKey:)``; setting nil removes the key.
    ///
    /// `map[key]? += 1` and the like are a read and then a write, between which others may write.
    @inlinable
    public subscript(key: Key) -> Value? {
        get { value(forKey: key) }
        set {
            if let newValue { setValue(newValue, forKey: key) } else { removeValue(forKey: key) }
        }
    }

    /// Gives a key a value, whether or not it has one.
    @inlinable
    public func setValue(_ value: consuming Value, forKey key: Key) {
        let hash = Self.hash(of: key)
        // SAFETY: nobody else has the entry until it is in the map.
        let entry = unsafe Entry.allocate(key: key, value: value)
        while true {
            let place = locate(key, hash: hash)
            let outcome = unsafe put(entry, at: place)
            if place.entry != 0 { place.record.leave() }
            if finish(outcome) { return }
        }
    }

    /// Gives a key a value, and answers the one that it had.
    @inlinable
    @discardableResult
    public func updateValue(_ value: consuming Value, forKey key: Key) -> Value? {
        let hash = Self.hash(of: key)
        // SAFETY: nobody else has the entry until it is in the map.
        let entry = unsafe Entry.allocate(key: key, value: value)
        while true {
            let place = locate(key, hash: hash)
            let outcome = unsafe put(entry, at: place)
            let old = outcome == .overtaken ? nil : Self.value(at: place)
            if place.entry != 0 { place.record.leave() }
            if finish(outcome) { return old }
        }
    }

    /// Gives a key a value if it has none; false if it has one.
    @inlinable
    @discardableResult
    public func insert(_ value: consuming Value, forKey key: Key) -> Bool {
        let place = locate(key, hash: Self.hash(of: key))
        if place.entry != 0 {
            place.record.leave()
            return false
        }
        // SAFETY: the entry belongs to the call.
        return unsafe insert(Entry.allocate(key: key, value: value), at: place)
    }

    /// Removes a key, and answers the value that it had.
    @inlinable
    @discardableResult
    public func removeValue(forKey key: Key) -> Value? {
        removeValue(forKey: key) { _ in true }
    }

    /// Removes a key if its value fulfils a condition, and answers the value; nil if it stays or was not there.
    ///
    /// The condition is asked again if another writer was faster. It may use the map.
    @inlinable
    @discardableResult
    public func removeValue<Failure: Error>(
        forKey key: Key,
        where isToBeRemoved: (borrowing Value) throws(Failure) -> Bool
    ) throws(Failure) -> Value? {
        let hash = Self.hash(of: key)
        while true {
            let place = locate(key, hash: hash)
            // SAFETY: the hazard of the place is on the entry until `leave`.
            guard let entry = unsafe UnsafePointer<Entry<Key, Value>>(bitPattern: place.entry) else { return nil }
            do throws(Failure) {
                guard try unsafe isToBeRemoved(entry.pointee.value) else {
                    place.record.leave()
                    return nil
                }
            } catch {
                place.record.leave()
                throw error
            }
            let outcome = core.replace(at: place, with: 0, promptly: Self.isReleasedPromptly)
            let old = unsafe entry.pointee.value
            place.record.leave()
            if finish(outcome) { return old }
        }
    }

    /// Removes all keys, in one step. Releases the values that nobody is reading before it returns.
    @inlinable
    public func removeAll() {
        core.removeAll { Entry<Key, Value>.free($0) }
    }

    /// Releases the values that were replaced or removed before the call and that nobody is reading. Writers do so now
    /// and then by themselves: this is for the time after the last write. Takes a few microseconds.
    @inlinable
    public func reclaim() {
        core.reclaim { Entry<Key, Value>.free($0) }
    }
}

/// What writers are made of.
extension ConcurrentMap {
    @inlinable
    @inline(__always)
    static func hash(of key: borrowing Key) -> UInt { UInt(bitPattern: key.hashValue) }

    /// Whether it can be observed when keys and values are released; if so, it is done soon.
    @inlinable
    @inline(__always)
    static var isReleasedPromptly: Bool { !(_isPOD(Key.self) && _isPOD(Value.self)) }

    /// Adds an entry, or replaces the one that was found. The entry stays the caller's if another was faster.
    @inlinable
    @inline(__always)
    func put(_ entry: UnsafeMutablePointer<Entry<Key, Value>>, at place: Place) -> Outcome {
        let address = UInt(bitPattern: entry)
        return place.entry == 0
            ? core.insert(address, at: place)
            : core.replace(at: place, with: address, promptly: Self.isReleasedPromptly)
    }

    /// Adds an entry for a key that was not found, if it still has none; frees the entry and answers false if it has.
    @inlinable
    func insert(_ entry: UnsafeMutablePointer<Entry<Key, Value>>, at first: Place) -> Bool {
        var place = first
        while true {
            // SAFETY: the entry is the caller's until it is in the map, and then is not used any more.
            if finish(unsafe put(entry, at: place)) { return true }
            place = unsafe locate(entry.pointee.key, hash: place.hash)
            if place.entry != 0 {
                place.record.leave()
                Entry<Key, Value>.free(UInt(bitPattern: entry))
                return false
            }
        }
    }

    /// Replaces or removes the entry that was found, and gives up the hazard on it; false if another was faster.
    @inlinable
    func replace(at place: Place, with value: consuming Value?) -> Bool {
        // SAFETY: the hazard of the place is on the old entry until `leave`; the new one is this function's until it is
        // in the map.
        guard let old = unsafe UnsafePointer<Entry<Key, Value>>(bitPattern: place.entry) else { return false }
        var entry: UInt = 0
        if let value { entry = unsafe UInt(bitPattern: Entry.allocate(key: old.pointee.key, value: value)) }
        let outcome = core.replace(at: place, with: entry, promptly: Self.isReleasedPromptly)
        place.record.leave()
        if outcome == .overtaken { Entry<Key, Value>.free(entry) }
        return finish(outcome)
    }

    /// The value that was found, while there is a hazard on it.
    @inlinable
    @inline(__always)
    static func value(at place: Place) -> Value? {
        // SAFETY: the hazard of the place is on the entry.
        unsafe UnsafePointer<Entry<Key, Value>>(bitPattern: place.entry)?.pointee.value
    }

    /// Ends a change, for which no hazard is held any more; false if it has to be tried again.
    @inlinable
    @inline(__always)
    func finish(_ outcome: Outcome) -> Bool {
        if outcome == .doneAndReclaim { reclaim() }
        return outcome != .overtaken
    }
}
