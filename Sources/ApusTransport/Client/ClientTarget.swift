package import ApusBase
internal import ApusEventLoop

/// What a channel is to reach: a host to look up, or addresses (gRPC's naming.md).
package struct ClientTarget: Hashable, Sendable {
    enum Destination: Hashable, Sendable {
        case host(String, port: UInt16)
        case addresses([SocketAddress])
    }

    let destination: Destination
    /// What the requests name as the host that they are for (`:authority`).
    let authority: String
    /// As the user wrote it.
    package let text: String

    /// The host that a certificate has to be for: a name or an address; of a unix socket, `localhost`.
    var host: String {
        switch destination {
        case .host(let host, _): return host
        case .addresses(let addresses):
            switch addresses.first {
            case .ipv4(let host, _), .ipv6(let host, _): return host
            default: return "localhost"
            }
        }
    }

    /// Whether no byte for it leaves the machine: a unix socket, a loopback address, or `localhost` (RFC 6761 §6.3).
    package var isLocal: Bool {
        switch destination {
        case .host(let host, let port):
            if host.lowercased() == "localhost" { return true }
            return NameResolver.numericAddress(host: host, port: port)?.isLoopback ?? false
        case .addresses(let addresses): return addresses.allSatisfy(\.isLoopback)
        }
    }

    /// Reads `HOST:PORT`, `dns:HOST:PORT`, `dns:///HOST:PORT`, `ipv4:A.B.C.D:PORT`, `ipv6:[ADDRESS]:PORT` (of these
    /// two a list, separated by commas), `unix:PATH`, `unix:///PATH` or `unix-abstract:NAME`.
    ///
    /// - Throws: `INVALID_ARGUMENT` with what is wrong.
    package init(_ text: String) throws(RPCError) {
        if let rest = Self.rest(of: text, after: "unix-abstract:") {
            guard !rest.isEmpty else { throw Self.invalid(text, "the name is missing") }
            self.init(text, .addresses([.unixAbstract(name: rest)]), authority: "localhost")
        } else if let rest = Self.rest(of: text, after: "unix:") {
            let path = rest.hasPrefix("///") ? String(rest.dropFirst(2)) : rest
            guard !path.isEmpty else { throw Self.invalid(text, "the path is missing") }
            self.init(text, .addresses([.unix(path: path)]), authority: "localhost")
        } else if let rest = Self.rest(of: text, after: "ipv4:") ?? Self.rest(of: text, after: "ipv6:") {
            let isForIPv6 = text.hasPrefix("ipv6:")
            var addresses: [SocketAddress] = []
            for part in rest.split(separator: ",", omittingEmptySubsequences: false) {
                let (host, port) = try Self.split(String(part), of: text)
                guard let address = NameResolver.numericAddress(host: host, port: port), address.isIPv6 == isForIPv6
                else { throw Self.invalid(text, "\"\(host)\" is not an \(isForIPv6 ? "IPv6" : "IPv4") address") }
                addresses.append(address)
            }
            self.init(text, .addresses(addresses), authority: addresses.first?.description ?? "")
        } else {
            var rest = Self.rest(of: text, after: "dns:") ?? text
            if rest.hasPrefix("//") {
                // The authority of a dns target would name the name server to ask; there is no way to.
                guard rest.hasPrefix("///") else {
                    throw Self.invalid(text, "a name server cannot be chosen; write dns:///HOST:PORT")
                }
                rest.removeFirst(3)
            }
            let (host, port) = try Self.split(rest, of: text)
            let authority = host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
            self.init(text, .host(host, port: port), authority: authority)
        }
    }

    private init(_ text: String, _ destination: Destination, authority: String) {
        self.text = text
        self.destination = destination
        self.authority = authority
    }

    private static func rest(of text: String, after scheme: String) -> String? {
        text.hasPrefix(scheme) ? String(text.dropFirst(scheme.count)) : nil
    }

    private static func split(_ hostAndPort: String, of text: String) throws(RPCError) -> (String, UInt16) {
        guard let colon = hostAndPort.lastIndex(of: ":") else {
            throw invalid(text, "the port is missing; write HOST:PORT")
        }
        let digits = hostAndPort[hostAndPort.index(after: colon)...]
        // The standard library takes a sign.
        guard let port = UInt16(digits), port > 0, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
            throw invalid(text, "the port is not a number from 1 to 65535")
        }
        var host = hostAndPort[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = host.dropFirst().dropLast()
        } else if host.contains(":") {
            throw invalid(text, "an IPv6 address stands in brackets, such as [::1]:50051")
        }
        guard !host.isEmpty else { throw invalid(text, "the host is missing") }
        guard !host.utf8.contains(where: { $0 <= 0x20 || $0 == 0x7F || $0 == UInt8(ascii: "/") }) else {
            throw invalid(text, "the host has a character that no host has")
        }
        return (String(host), port)
    }

    private static func invalid(_ text: String, _ why: String) -> RPCError {
        RPCError(code: .invalidArgument, message: "\"\(text)\" is not a target: \(why)")
    }
}
