/// Where a socket is: an IP address and port, or a path of a unix socket.
public enum SocketAddress: Hashable, Sendable {
    /// An IPv4 address in dotted form, and a port.
    case ipv4(host: String, port: UInt16)
    /// An IPv6 address without brackets (a zone such as `%eth0` may follow), and a port.
    case ipv6(host: String, port: UInt16)
    /// A unix socket in the file system.
    case unix(path: String)
    /// A unix socket in Linux's abstract namespace; `name` is without the leading NUL.
    case unixAbstract(name: String)
    /// The other end of a unix socket that is bound to no name, or of a socket pair.
    case unnamed
}

extension SocketAddress: CustomStringConvertible {
    /// `127.0.0.1:50051`, `[::1]:50051`, `unix:/run/echo.sock`, `unix-abstract:echo` or `unix:`.
    public var description: String {
        switch self {
        case .ipv4(let host, let port): "\(host):\(port)"
        case .ipv6(let host, let port): "[\(host)]:\(port)"
        case .unix(let path): "unix:\(path)"
        case .unixAbstract(let name): "unix-abstract:\(name)"
        case .unnamed: "unix:"
        }
    }
}

extension SocketAddress {
    package var isIPv6: Bool { if case .ipv6 = self { true } else { false } }

    /// Whether it is reached without a network.
    package var isLoopback: Bool {
        switch self {
        case .ipv4(let host, _): host.hasPrefix("127.")
        case .ipv6(let host, _): host == "::1" || host.hasPrefix("::ffff:127.")
        case .unix, .unixAbstract, .unnamed: true
        }
    }
}
