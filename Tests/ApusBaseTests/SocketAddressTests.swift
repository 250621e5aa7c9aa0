import Testing

@testable import ApusBase

@Suite struct SocketAddressTests {
    @Test(arguments: [
        (SocketAddress.ipv4(host: "127.0.0.1", port: 50051), "127.0.0.1:50051"),
        (.ipv4(host: "0.0.0.0", port: 0), "0.0.0.0:0"),
        (.ipv6(host: "::1", port: 65_535), "[::1]:65535"),
        (.ipv6(host: "fe80::1%eth0", port: 1), "[fe80::1%eth0]:1"),
        (.unix(path: "/run/echo.sock"), "unix:/run/echo.sock"),
        (.unix(path: "relative"), "unix:relative"),
        (.unixAbstract(name: "echo"), "unix-abstract:echo"),
        (.unnamed, "unix:"),
    ])
    func `an address reads as it is written`(address: SocketAddress, text: String) {
        #expect("\(address)" == text)
    }
}

@Suite struct MethodDescriptorTests {
    @Test func `its path is what :path names`() {
        let method = MethodDescriptor(service: "echo.v1.EchoService", method: "Get")
        #expect(method.path == "/echo.v1.EchoService/Get")
        #expect("\(method)" == "echo.v1.EchoService/Get")
    }
}
