import Apus
import Testing

@Suite struct ListenAddressTests {
    @Test(arguments: [
        ("127.0.0.1:50051", ListenAddress.tcp(host: "127.0.0.1", port: 50051)),
        ("localhost:0", .tcp(host: "localhost", port: 0)),
        ("0.0.0.0:65535", .tcp(host: "0.0.0.0", port: 65_535)), ("[::1]:50051", .tcp(host: "::1", port: 50051)),
        ("[::]:1", .tcp(host: "::", port: 1)), ("[fe80::1%eth0]:80", .tcp(host: "fe80::1%eth0", port: 80)),
        ("[127.0.0.1]:80", .tcp(host: "127.0.0.1", port: 80)), ("unix:/run/a.sock", .unix(path: "/run/a.sock")),
        ("unix:a.sock", .unix(path: "a.sock")), ("unix:///run/a.sock", .unix(path: "/run/a.sock")),
        ("unix:with:colon", .unix(path: "with:colon")), ("unix-abstract:a", .unixAbstract(name: "a")),
        ("unix-abstract:a:1", .unixAbstract(name: "a:1")), ("unix:/ü", .unix(path: "/ü")),
    ])
    func `an address is read`(text: String, address: ListenAddress) throws {
        #expect(try ListenAddress(text) == address)
    }

    @Test(arguments: [
        "", ":", "host", "host:", ":50051", "host:port", "host:65536", "host:-1", "host:+80", "host:-0", "host: 80",
        "host:80 ", "host:8_0", "host:0x50", "host:٨٠", "::1:50051", "::1", "[::1]", "[::1]:", "[]:80", "[::1:50051",
        "::1]:50051", "[::1]x:80", "[host:80", "host]:80", "unix:", "unix-abstract:",
    ])
    func `what is no address is INVALID_ARGUMENT, with the text and the reason`(text: String) throws {
        let error = #expect(throws: RPCError.self) { try ListenAddress(text) }
        #expect(error?.code == .invalidArgument)
        #expect(error?.message.hasPrefix("\"\(text)\" is not an address to listen on: ") == true)
    }

    @Test(arguments: [
        ListenAddress.tcp(host: "127.0.0.1", port: 1), .tcp(host: "::1", port: 2), .tcp(host: "a.b", port: 3),
        .unix(path: "/a/b"), .unix(path: "a"), .unixAbstract(name: "a:b"),
    ])
    func `its description reads back as the same`(address: ListenAddress) throws {
        #expect(try ListenAddress("\(address)") == address)
    }
}
