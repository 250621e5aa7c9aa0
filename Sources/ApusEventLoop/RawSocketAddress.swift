package import ApusBase
internal import Glibc

/// A socket address as the kernel has it: cheap to copy and to keep, no String until someone asks for one.
package struct RawSocketAddress: Sendable {
    // SAFETY: `storage` is a local copy for every pointer taken here, which none outlives; sockaddr_storage is large
    // enough, and aligned, for each of the structures it is read and written as.

    private var storage = sockaddr_storage()
    private var length = socklen_t(0)

    /// The longest path of a unix socket, or name in the abstract namespace, in bytes.
    package static let unixPathBytesMax = 107

    /// Where the path starts in `sockaddr_un`.
    private static let unixPathOffset = 2

    /// An address of no family, to be filled.
    init() {}

    /// - Throws: EINVAL if the host is not an address in numbers or a path is empty, too long or has a NUL in it.
    package init(_ address: SocketAddress) throws(SystemError) {
        switch address {
        case .ipv4(let host, let port): try self.init(ipv4: host, port)
        case .ipv6(let host, let port): try self.init(ipv6: host, port)
        case .unix(let path): try self.init(unix: path, isAbstract: false)
        case .unixAbstract(let name): try self.init(unix: name, isAbstract: true)
        case .unnamed: throw Self.invalid("an unnamed socket has no address to use")
        }
    }

    private init(ipv4 host: String, _ port: UInt16) throws(SystemError) {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        guard !host.utf8.contains(0), unsafe inet_pton(AF_INET, host, &address.sin_addr) == 1 else {
            throw Self.invalid("not an IPv4 address: \"\(host)\"")
        }
        store(address)
    }

    private init(ipv6 host: String, _ port: UInt16) throws(SystemError) {
        var address = sockaddr_in6()
        address.sin6_family = sa_family_t(AF_INET6)
        address.sin6_port = port.bigEndian
        let parts = host.split(separator: "%", maxSplits: 1, omittingEmptySubsequences: false)
        let number = String(parts[0])
        guard !host.utf8.contains(0), unsafe inet_pton(AF_INET6, number, &address.sin6_addr) == 1 else {
            throw Self.invalid("not an IPv6 address: \"\(host)\"")
        }
        if parts.count == 2 {
            let zone = String(parts[1])
            let index = unsafe UInt32(zone) ?? if_nametoindex(zone)
            if index == 0 { throw Self.invalid("no network interface \"\(zone)\" for IPv6 address \"\(host)\"") }
            address.sin6_scope_id = index
        }
        store(address)
    }

    private init(unix path: String, isAbstract: Bool) throws(SystemError) {
        let bytes = path.utf8
        let object = isAbstract ? "name of an abstract unix socket" : "path of a unix socket"
        if bytes.isEmpty { throw Self.invalid("the \(object) is empty") }
        if bytes.count > Self.unixPathBytesMax {
            let limit = Self.unixPathBytesMax
            throw Self.invalid("the \(object) has \(bytes.count) bytes, more than \(limit): \"\(path)\"")
        }
        if !isAbstract && bytes.contains(0) { throw Self.invalid("the \(object) has a NUL in it") }
        storage.ss_family = sa_family_t(AF_UNIX)
        // An abstract name starts with a NUL and ends where the length says; a path ends with one, which is there.
        let start = Self.unixPathOffset + (isAbstract ? 1 : 0)
        unsafe withUnsafeMutableBytes(of: &storage) { raw in
            let target = unsafe UnsafeMutableRawBufferPointer(rebasing: raw[start...])
            unsafe target.copyBytes(from: bytes)
        }
        length = socklen_t(start + bytes.count + (isAbstract ? 0 : 1))
    }

    private static func invalid(_ operation: String) -> SystemError {
        SystemError(errno: EINVAL, operation: operation)
    }

    private mutating func store<Address>(_ address: Address) {
        unsafe withUnsafeMutableBytes(of: &storage) { raw in
            unsafe withUnsafeBytes(of: address) { unsafe raw.copyMemory(from: $0) }
        }
        length = socklen_t(MemoryLayout<Address>.size)
    }

    // MARK: For system calls

    /// AF_INET, AF_INET6, AF_UNIX, or AF_UNSPEC of one that was never filled.
    package var family: CInt { CInt(storage.ss_family) }

    /// Whether this is an address of the Internet, and so its socket one of TCP.
    package var isInternet: Bool { family == AF_INET || family == AF_INET6 }

    /// The address without its port, 4 bytes or 16 in network order; empty if it is not one of the Internet.
    package var ipBytes: [UInt8] {
        switch family {
        case AF_INET:
            var address = sockaddr_in()
            load(into: &address)
            return unsafe withUnsafeBytes(of: address.sin_addr) { unsafe Array($0) }
        case AF_INET6:
            var address = sockaddr_in6()
            load(into: &address)
            return unsafe withUnsafeBytes(of: address.sin6_addr) { unsafe Array($0) }
        default: return []
        }
    }

    func withSocketAddress<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
        unsafe withUnsafePointer(to: storage) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe body($0, length) }
        }
    }

    /// Lets a system call write the address.
    mutating func fill(_ body: (UnsafeMutablePointer<sockaddr_storage>, UnsafeMutablePointer<socklen_t>) -> Int) -> Int
    {
        length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = unsafe body(&storage, &length)
        if result < 0 { length = 0 }
        return result
    }

    /// From what getaddrinfo gives; nil if it does not fit.
    init?(copying address: UnsafePointer<sockaddr>, length: socklen_t) {
        guard Int(length) <= MemoryLayout<sockaddr_storage>.size else { return nil }
        unsafe withUnsafeMutableBytes(of: &storage) { raw in
            unsafe raw.copyMemory(from: UnsafeRawBufferPointer(start: address, count: Int(length)))
        }
        self.length = length
    }

    // MARK: In words

    /// This address in words and numbers. Allocates. An address of another family is `.unnamed`.
    package var address: SocketAddress {
        if length < socklen_t(MemoryLayout<sa_family_t>.size) { return .unnamed }
        switch family {
        case AF_INET:
            var address = sockaddr_in()
            load(into: &address)
            return .ipv4(host: Self.text(AF_INET, of: address.sin_addr), port: UInt16(bigEndian: address.sin_port))
        case AF_INET6:
            var address = sockaddr_in6()
            load(into: &address)
            let host = Self.text(AF_INET6, of: address.sin6_addr)
            let port = UInt16(bigEndian: address.sin6_port)
            return .ipv6(host: host + Self.zone(address.sin6_scope_id), port: port)
        case AF_UNIX: return unixAddress
        default: return .unnamed
        }
    }

    private func load<Address>(into address: inout Address) {
        unsafe withUnsafeMutableBytes(of: &address) { target in
            unsafe withUnsafeBytes(of: storage) { unsafe target.copyMemory(from: .init(rebasing: $0[..<target.count])) }
        }
    }

    private static func text<Address>(_ family: CInt, of address: Address) -> String {
        unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(INET6_ADDRSTRLEN)) { buffer in
            unsafe withUnsafeBytes(of: address) { raw in
                let size = socklen_t(buffer.count)
                guard let text = unsafe inet_ntop(family, raw.baseAddress, buffer.baseAddress, size) else { return "" }
                return unsafe String(cString: text)
            }
        }
    }

    private static func zone(_ index: UInt32) -> String {
        if index == 0 { return "" }
        return unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(IF_NAMESIZE)) { buffer in
            guard let start = buffer.baseAddress, let name = unsafe if_indextoname(index, start) else {
                return "%\(index)"
            }
            return unsafe "%" + String(cString: name)
        }
    }

    private var unixAddress: SocketAddress {
        unsafe withUnsafeBytes(of: storage) { raw in
            let end = min(Int(length), raw.count)
            guard end > Self.unixPathOffset else { return .unnamed }
            let bytes = unsafe raw[Self.unixPathOffset..<end]
            if unsafe bytes.first == 0 {
                return unsafe .unixAbstract(name: String(decoding: bytes.dropFirst(), as: UTF8.self))
            }
            return unsafe .unix(path: String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self))
        }
    }
}

extension RawSocketAddress: CustomStringConvertible {
    package var description: String { address.description }
}
