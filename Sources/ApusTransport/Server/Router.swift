internal import ApusBase

/// Finds the method that a `:path` names, from the bytes of the path. Immutable, shared by every loop of a server.
package final class Router: Sendable {
    /// Open addressing at a load of at most one half: a path that is not served is known after a probe or two.
    private let slots: [ServedMethod?]
    private let services: Set<String>
    package let methods: [ServedMethod]
    let fallback: Fallback?

    package init(_ methods: [ServedMethod], fallback: Fallback? = nil) {
        self.methods = methods
        self.fallback = fallback
        self.services = Set(methods.map(\.descriptor.service))
        var capacity = 8
        while capacity < methods.count * 2 { capacity *= 2 }
        var slots = [ServedMethod?](repeating: nil, count: capacity)
        for method in methods {
            let path = method.path
            var index = Self.hash(path.span) & (capacity - 1)
            while slots[index] != nil { index = (index + 1) & (capacity - 1) }
            slots[index] = method
        }
        self.slots = slots
    }

    func find(_ path: Span<UInt8>) -> ServedMethod? {
        var index = Self.hash(path) & (slots.count - 1)
        while let method = slots[index] {
            let served = method.path
            if path.elementsEqual(served.span) { return method }
            index = (index + 1) & (slots.count - 1)
        }
        return nil
    }

    /// Why a path is not served, for the message that the client reads.
    func explainMissing(_ path: String) -> String {
        let parts = path.split(separator: "/", maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count == 3, parts[0].isEmpty else { return "the path \"\(path)\" does not name a method" }
        let service = String(parts[1])
        return services.contains(service)
            ? "service \(service) has no method \(parts[2])" : "service \(service) is not served here"
    }

    /// FNV-1a. The table holds what the program registered, so a peer can make look-ups miss but not collide.
    private static func hash(_ bytes: Span<UInt8>) -> Int {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for index in 0..<bytes.count { hash = (hash ^ UInt64(bytes[index])) &* 0x100_0000_01B3 }
        return Int(truncatingIfNeeded: hash ^ hash >> 32)
    }
}
