import Apus
import Glibc
import Testing

private struct WhoAmI: RPCService {
    static let method = MethodDescriptor(service: "test.v1.Who", method: "AmI")

    func register(with registry: inout MethodRegistry) {
        registry.unary(Self.method, request: BytesCodec(), response: BytesCodec()) { _, context in
            guard let credentials = context.peerCredentials else { return [] }
            return Array("\(credentials.processID) \(credentials.userID) \(credentials.groupID)".utf8)
        }
    }
}

@Suite struct PeerCredentialsTests {
    private func ask(_ address: ListenAddress) async throws -> String {
        let server = try Server(address, services: [WhoAmI()])
        let listening = try await server.listen()
        defer { server.stop() }
        let channel = try Channel("\(listening)")
        let answer = try await channel.unary(
            WhoAmI.method,
            [],
            requestCodec: BytesCodec(),
            responseCodec: BytesCodec()
        )
        return String(decoding: answer, as: UTF8.self)
    }

    @Test func `on a unix socket a handler knows the process that calls`() async throws {
        let answer = try await ask(.unixAbstract(name: "apus-credentials-\(getpid())"))
        #expect(answer == "\(getpid()) \(getuid()) \(getgid())")
    }

    @Test func `on TCP there is no process to know`() async throws {
        #expect(try await ask(.tcp(host: "127.0.0.1", port: 0)) == "")
    }
}
