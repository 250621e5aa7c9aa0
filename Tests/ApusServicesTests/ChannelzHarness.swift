import Apus
import ApusServices
import Foundation
import Logging
import Testing

/// A server whose only service is channelz, and a client of it: it sees the whole process, of which a test picks what
/// is its own.
struct ChannelzView {
    typealias Client = Grpc_Channelz_V1_Channelz.Client

    let server: Server
    /// Where the server listens, as channelz names its socket.
    let address: String
    let client: Client

    static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    init() async throws {
        server = try Server(.tcp(host: "127.0.0.1", port: 0), services: [ChannelzService()], logger: Self.logger)
        address = "\(try await server.listen())"
        client = Client(try Channel(address, logger: Self.logger))
    }

    func stop() async {
        server.stop()
        await server.waitUntilStopped()
    }

    /// All servers of the process, in pages of 7.
    func servers() async throws -> [Grpc_Channelz_V1_Server] {
        var found: [Grpc_Channelz_V1_Server] = []
        while true {
            let page = try await client.getServers(
                .with { request in
                    request.startServerID = (found.last?.ref.serverID ?? 0) + 1
                    request.maxResults = 7
                }
            )
            #expect(page.server.count <= 7)
            #expect(page.end || !page.server.isEmpty)
            found += page.server
            if page.end { break }
        }
        #expect(found.map(\.ref.serverID) == found.map(\.ref.serverID).sorted())
        return found
    }

    /// The server that listens at an address.
    func server(at address: String) async throws -> Grpc_Channelz_V1_Server? {
        try await servers().first { $0.listenSocket.contains { $0.name == address } }
    }

    /// All channels of the process to a target, in pages of the usual length.
    func channels(to target: String) async throws -> [Grpc_Channelz_V1_Channel] {
        var found: [Grpc_Channelz_V1_Channel] = []
        while true {
            let page = try await client.getTopChannels(
                .with { $0.startChannelID = (found.last?.ref.channelID ?? 0) + 1 }
            )
            #expect(page.channel.count <= 100)
            found += page.channel
            if page.end { return found.filter { $0.data.target == target } }
        }
    }

    func channel(to target: String) async throws -> Grpc_Channelz_V1_Channel {
        let found = try await channels(to: target)
        #expect(found.count == 1)
        return try #require(found.first)
    }

    func subchannel(to target: String) async throws -> Grpc_Channelz_V1_Subchannel {
        let id = try #require(try await channel(to: target).subchannelRef.first).subchannelID
        return try await client.getSubchannel(.with { $0.subchannelID = id }).subchannel
    }

    func socket(_ id: Int64) async throws -> Grpc_Channelz_V1_Socket {
        try await client.getSocket(.with { $0.socketID = id }).socket
    }

    /// The sockets of a server, as far as one page.
    func sockets(of server: Int64) async throws -> [Grpc_Channelz_V1_SocketRef] {
        try await client.getServerSockets(.with { $0.serverID = server }).socketRef
    }
}

/// What the tests have channelz look at: `t/Get`, `t/Fail`, `t/Update`, and `t/Wait`, which waits for its cancellation.
struct Watched: RPCService {
    static func method(_ name: String) -> MethodDescriptor { MethodDescriptor(service: "t", method: name) }

    func register(with registry: inout MethodRegistry) {
        let bytes = BytesCodec()
        registry.synchronousUnary(Self.method("Get"), request: bytes, response: bytes) { request, _ in request }
        registry.unary(Self.method("Fail"), request: bytes, response: bytes) { _, _ in
            throw RPCError(code: .failedPrecondition, message: "as it was asked to")
        }
        registry.unary(Self.method("Wait"), request: bytes, response: bytes) { request, _ in
            try await Task.sleep(for: .seconds(600))
            return request
        }
        registry.bidirectionalStreaming(Self.method("Update"), request: bytes, response: bytes) {
            requests,
            responses,
            _ in
            for try await request in requests { try await responses.write(request) }
        }
    }
}

extension Channel {
    func call(_ name: String, options: CallOptions = CallOptions()) async throws(RPCError) {
        _ = try await unary(
            Watched.method(name),
            [1, 2, 3],
            requestCodec: BytesCodec(),
            responseCodec: BytesCodec(),
            options: options
        )
    }
}

/// The code that something fails with.
func code(_ body: () async throws -> Void) async -> StatusCode? {
    do {
        try await body()
        return nil
    } catch {
        return (error as? RPCError)?.code
    }
}

/// Waits until something is so.
func eventually(
    _ what: String,
    sourceLocation: SourceLocation = #_sourceLocation,
    _ isSo: () async throws -> Bool
) async throws {
    for _ in 0..<2000 {
        if try await isSo() { return }
        try await Task.sleep(for: .milliseconds(5))
    }
    Issue.record("it never happened: \(what)", sourceLocation: sourceLocation)
}
