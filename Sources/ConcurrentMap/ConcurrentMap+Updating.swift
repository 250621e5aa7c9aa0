/// Changes that depend on what is there.
///
/// Their closures run without a lock, on a copy of the value. If another writer was faster, they run again with what
/// that one wrote, so they may run more than once; a closure that throws has changed nothing. They may use this map and
/// others. What they cannot do is write to the very key that they update, since that makes their own result stale, each
/// time: after 64 such attempts the process ends with a message that says so.
extension ConcurrentMap {
    /// Changes the value of a key in one step, and answers what the closure answers; nil if there is no value.
    @inlinable
    @discardableResult
    public func updateValue<Result, Failure: Error>(
        forKey key: Key,
        _ body: (inout Value) throws(Failure) -> Result
    ) throws(Failure) -> Result? {
        try updateOptionalValue(forKey: key) { (value: inout Value?) throws(Failure) -> Result? in
            // Taken out, so that `value` is not one more owner of what is changed.
            guard var present = value.take() else { return nil }
            let result = try body(&present)
            value = present
            return result
        }
    }

    /// Changes the value of a key in one step, beginning with a default if there is none.
    @inlinable
    @discardableResult
    public func updateValue<Result, Failure: Error>(
        forKey key: Key,
        default defaultValue: @autoclosure () -> Value,
        _ body: (inout Value) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try updateOptionalValue(forKey: key) { (value: inout Value?) throws(Failure) -> Result in
            var present = value.take() ?? defaultValue()
            let result = try body(&present)
            value = present
            return result
        }
    }

    /// Adds, changes or removes the value of a key in one step: the closure gets the value, or nil, and leaves what is
    /// to be there, or nil.
    @inlinable
    @discardableResult
    public func updateOptionalValue<Result, Failure: Error>(
        forKey key: Key,
        _ body: (inout Value?) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let hash = Self.hash(of: key)
        var overtakenByItself = 0
        while true {
            let place = locate(key, hash: hash)
            // SAFETY: the hazard of the place is on the entry until `leave`.
            guard let entry = unsafe UnsafePointer<Entry<Key, Value>>(bitPattern: place.entry) else {
                var value: Value?
                let result = try body(&value)
                guard let value else { return result }
                // Whatever was written meanwhile: if the key is still absent, the result stands.
                if unsafe insert(Entry.allocate(key: key, value: value), at: place) { return result }
                continue
            }
            place.record.beginUpdate()
            var value: Value? = unsafe entry.pointee.value
            let result: Result
            do {
                result = try body(&value)
            } catch {
                _ = place.record.endUpdate()
                place.record.leave()
                throw error
            }
            if place.record.endUpdate() { overtakenByItself += 1 }
            if replace(at: place, with: value) { return result }
            precondition(overtakenByItself < 64, "an update of ConcurrentMap writes to the key that it updates")
        }
    }

    /// The value of a key; if there is none, the one that the closure makes, which is added.
    ///
    /// If several threads do this at once, each may make a value, and all get the one that was added first.
    @inlinable
    public func value<Failure: Error>(
        forKey key: Key,
        insertingIfAbsent makeValue: () throws(Failure) -> Value
    ) throws(Failure) -> Value {
        while true {
            if let value = value(forKey: key) { return value }
            let value = try makeValue()
            if insert(value, forKey: key) { return value }
        }
    }
}

extension ConcurrentMap where Value: Equatable {
    /// Gives a key a value if it has the one that is expected, where nil stands for none, before and after. Answers
    /// whether that was so, and what was there.
    @inlinable
    @discardableResult
    public func compareExchange(
        forKey key: Key,
        expected: Value?,
        desired: Value?
    ) -> (exchanged: Bool, original: Value?) {
        let hash = Self.hash(of: key)
        while true {
            let place = locate(key, hash: hash)
            let original = Self.value(at: place)
            guard original == expected else {
                if place.entry != 0 { place.record.leave() }
                return (false, original)
            }
            let isDone: Bool
            if place.entry != 0 {
                isDone = replace(at: place, with: desired)
            } else if let desired {
                // SAFETY: the entry belongs to the call.
                isDone = unsafe insert(Entry.allocate(key: key, value: desired), at: place)
            } else {
                isDone = true
            }
            if isDone { return (true, original) }
        }
    }
}
