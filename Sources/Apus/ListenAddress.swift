/// Where a server is to listen.
public enum ListenAddress: Hashable, Sendable {
    /// A host and a port; port 0 lets the kernel choose. A host name that stands for several addresses listens on the
    /// first that can be bound; `0.0.0.0` and `::` are every address of the machine.
    case tcp(host: String, port: UInt16)
    /// A unix socket in the file system. A file that a dead server left is replaced; it is removed at the end.
    case unix(path: String)
    /// A unix socket in Linux's abstract namespace.
    case unixAbstract(name: String)

    /// Reads `HOST:PORT`, `[IPV6]:PORT`, `unix:PATH`, `unix:///PATH` or `unix-abstract:NAME`.
    ///
    /// - Throws: `INVALID_ARGUMENT` with what is wrong.
    public init(_ text: String) throws(RPCError) {
        func invalid(_ why: String) -> RPCError {
            RPCError(code: .invalidArgument, message: "\"\(text)\" is not an address to listen on: \(why)")
        }
        if text.hasPrefix("unix-abstract:") {
            let name = text.dropFirst("unix-abstract:".count)
            guard !name.isEmpty else { throw invalid("the name is missing") }
            self = .unixAbstract(name: String(name))
            return
        }
        if text.hasPrefix("unix:") {
            let rest = text.dropFirst("unix:".count)
            let path = rest.hasPrefix("///") ? rest.dropFirst(2) : rest
            guard !path.isEmpty else { throw invalid("the path is missing") }
            self = .unix(path: String(path))
            return
        }
        guard let colon = text.lastIndex(of: ":") else { throw invalid("the port is missing; write HOST:PORT") }
        let digits = text[text.index(after: colon)...]
        // The standard library takes a sign.
        guard let port = UInt16(digits), digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
            throw invalid("the port is not a number from 0 to 65535")
        }
        var host = text[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = host.dropFirst().dropLast()
        } else if host.contains(":") {
            throw invalid("an IPv6 address stands in brackets, such as [::1]:50051")
        }
        guard !host.contains(where: { $0 == "[" || $0 == "]" }) else {
            throw invalid("brackets stand around an IPv6 address, such as [::1]:50051")
        }
        guard !host.isEmpty else { throw invalid("the host is missing; 0.0.0.0 and [::] are every address") }
        self = .tcp(host: String(host), port: port)
    }
}

extension ListenAddress: CustomStringConvertible {
    /// In the form that ``init(_:)`` reads.
    public var description: String {
        switch self {
        case .tcp(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
        case .unix(let path): "unix:\(path)"
        case .unixAbstract(let name): "unix-abstract:\(name)"
        }
    }
}
