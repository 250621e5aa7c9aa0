import ApusBase
import Testing

@testable import ApusTransport

@Suite struct ClientTargetTests {
    private static let hosts: [(String, host: String, port: UInt16, authority: String)] = [
        ("localhost:50051", "localhost", 50051, "localhost:50051"),
        ("dns:example.org:443", "example.org", 443, "example.org:443"),
        ("dns:///example.org:1", "example.org", 1, "example.org:1"),
        ("127.0.0.1:65535", "127.0.0.1", 65535, "127.0.0.1:65535"),
        ("[::1]:80", "::1", 80, "[::1]:80"),
        ("dns:///[fe80::1%eth0]:80", "fe80::1%eth0", 80, "[fe80::1%eth0]:80"),
        ("host_with-odd.name:80", "host_with-odd.name", 80, "host_with-odd.name:80"),
    ]

    @Test(arguments: hosts)
    func `a host and a port are looked up`(text: String, host: String, port: UInt16, authority: String) throws {
        let target = try ClientTarget(text)
        #expect(target.destination == .host(host, port: port))
        #expect(target.authority == authority)
        #expect(target.text == text)
    }

    private static let addresses: [(String, addresses: [SocketAddress], authority: String)] = [
        ("ipv4:127.0.0.1:1", [.ipv4(host: "127.0.0.1", port: 1)], "127.0.0.1:1"),
        (
            "ipv4:10.0.0.1:80,10.0.0.2:81",
            [.ipv4(host: "10.0.0.1", port: 80), .ipv4(host: "10.0.0.2", port: 81)], "10.0.0.1:80"
        ),
        ("ipv6:[::1]:50051", [.ipv6(host: "::1", port: 50051)], "[::1]:50051"),
        ("ipv6:[::1]:1,[::2]:2", [.ipv6(host: "::1", port: 1), .ipv6(host: "::2", port: 2)], "[::1]:1"),
        ("unix:relative.sock", [.unix(path: "relative.sock")], "localhost"),
        ("unix:/run/echo.sock", [.unix(path: "/run/echo.sock")], "localhost"),
        ("unix:///run/echo.sock", [.unix(path: "/run/echo.sock")], "localhost"),
        ("unix-abstract:echo", [.unixAbstract(name: "echo")], "localhost"),
        ("unix-abstract:a:b,c", [.unixAbstract(name: "a:b,c")], "localhost"),
    ]

    @Test(arguments: addresses)
    func `addresses stand for themselves`(text: String, addresses: [SocketAddress], authority: String) throws {
        let target = try ClientTarget(text)
        #expect(target.destination == .addresses(addresses))
        #expect(target.authority == authority)
        #expect(target.text == text)
    }

    private static let mistakes = [
        ("", "the port is missing"),
        ("localhost", "the port is missing"),
        ("dns:localhost", "the port is missing"),
        ("dns:///", "the port is missing"),
        ("dns://8.8.8.8/localhost:1", "a name server cannot be chosen"),
        ("dns://localhost:1", "a name server cannot be chosen"),
        ("localhost:", "the port is not a number"),
        ("localhost:0", "the port is not a number"),
        ("localhost:65536", "the port is not a number"),
        ("localhost:+80", "the port is not a number"),
        ("localhost:-1", "the port is not a number"),
        ("localhost:80 ", "the port is not a number"),
        ("localhost:http", "the port is not a number"),
        ("localhost:८०", "the port is not a number"),
        (":80", "the host is missing"),
        ("[]:80", "the host is missing"),
        ("::1:80", "an IPv6 address stands in brackets"),
        ("ipv6:::1:80", "an IPv6 address stands in brackets"),
        ("a b:80", "a character that no host has"),
        ("http://localhost:80", "brackets"),
        ("a/b:80", "a character that no host has"),
        ("a\u{0}b:80", "a character that no host has"),
        ("a\u{7F}:80", "a character that no host has"),
        ("ipv4:localhost:80", "address"),
        ("ipv4:127.0.0.1", "the port is missing"),
        ("ipv4:127.0.0.1:1,", "the port is missing"),
        ("ipv4:", "the port is missing"),
        ("ipv4:1.2.3.256:80", "address"),
        ("ipv6:[localhost]:80", "address"),
        ("unix:", "the path is missing"),
        ("unix-abstract:", "the name is missing"),
    ]

    @Test(arguments: mistakes)
    func `what cannot be read is refused, and the error says why`(text: String, why: String) {
        let error = #expect(throws: RPCError.self) { try ClientTarget(text) }
        #expect(error?.code == .invalidArgument)
        #expect(error?.message.contains(why) == true, "\(error?.message ?? "none")")
        #expect(error?.message.contains("\"\(text)\"") == true)
    }

    @Test(arguments: ["ipv4:[::1]:80", "ipv6:127.0.0.1:80"])
    func `a scheme takes the addresses of its own family alone`(text: String) {
        let error = #expect(throws: RPCError.self) { try ClientTarget(text) }
        #expect(error?.code == .invalidArgument)
    }

    // MARK: The order of addresses

    private static let four = (1...4).map { SocketAddress.ipv4(host: "10.0.0.\($0)", port: 1) }
    private static let six = (1...4).map { SocketAddress.ipv6(host: "::\($0)", port: 1) }

    @Test func `the families take turns, beginning with that of the first address`() {
        let (four, six) = (Self.four, Self.six)
        #expect(Connector.interleaved([]) == [])
        #expect(Connector.interleaved([four[0]]) == [four[0]])
        #expect(Connector.interleaved(four) == four)
        #expect(Connector.interleaved(six) == six)
        let sixFirst = Connector.interleaved(six + four)
        #expect(sixFirst == [six[0], four[0], six[1], four[1], six[2], four[2], six[3], four[3]])
        let fourFirst = Connector.interleaved([four[0], six[0], six[1], six[2], four[1]])
        #expect(fourFirst == [four[0], six[0], four[1], six[1], six[2]])
        let paths: [SocketAddress] = [.unix(path: "a"), .unix(path: "b")]
        #expect(Connector.interleaved(paths) == paths)
    }
}
