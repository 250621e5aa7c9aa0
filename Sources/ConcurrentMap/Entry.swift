/// A key and its value, in memory of its own. Neither changes while the entry is in the map: a new value is a new
/// entry.
@usableFromInline
@safe
struct Entry<Key, Value> {
    /// The next entry of a list of entries that were taken out of the map. The first field, so that such a list can be
    /// handled without knowing keys and values.
    @usableFromInline var nextRetired: UInt
    @usableFromInline let key: Key
    @usableFromInline let value: Value

    @inlinable
    init(key: consuming Key, value: consuming Value) {
        nextRetired = 0
        self.key = key
        self.value = value
    }

    /// An entry on the heap, which `free` ends.
    @inlinable
    static func allocate(key: consuming Key, value: consuming Value) -> UnsafeMutablePointer<Entry> {
        // SAFETY: memory that was just allocated, for one.
        let entry = UnsafeMutablePointer<Entry>.allocate(capacity: 1)
        unsafe entry.initialize(to: Entry(key: key, value: value))
        return unsafe entry
    }

    /// Releases key and value, and gives the memory back.
    @inlinable
    static func free(_ address: UInt) {
        // SAFETY: the address is from `allocate`, and the caller knows that nobody has it any more.
        guard let entry = unsafe UnsafeMutablePointer<Entry>(bitPattern: address) else { return }
        unsafe entry.deinitialize(count: 1)
        unsafe entry.deallocate()
    }
}
