import Apus
import ApusServices
import Logging
import Testing

/// channelz while what it looks at comes to its end.
@Suite(.timeLimit(.minutes(2))) struct ChannelzClosingTests {
    private func makeServer(_ eventLoops: EventLoopGroup = .shared) throws -> Server {
        try Server(
            .tcp(host: "127.0.0.1", port: 0),
            services: [Watched()],
            eventLoops: eventLoops,
            logger: ChannelzView.logger
        )
    }

    @Test func `a server that drains is shown without its listening socket, until it has stopped`() async throws {
        let view = try await ChannelzView()
        let server = try makeServer()
        let address = "\(try await server.listen())"
        let channel = try Channel(address, logger: ChannelzView.logger)
        let call = Task { try await channel.call("Wait") }
        var id: Int64 = 0
        try await eventually("the call reaches the server") {
            let found = try await view.server(at: address)
            id = found?.ref.serverID ?? 0
            return found?.data.callsStarted == 1
        }
        let listening = try #require(try await view.server(at: address)?.listenSocket.first).socketID
        let socket = try await view.socket(listening)
        #expect(socket.local.tcpipAddress.ipAddress.elementsEqual([127, 0, 0, 1]) && !socket.hasRemote)
        let connection = try #require(try await view.sockets(of: id).first).socketID

        server.beginGracefulShutdown()
        let draining = try await view.client.getServer(.with { $0.serverID = id }).server
        #expect(draining.listenSocket.isEmpty && draining.data.callsStarted == 1)
        #expect(draining.data.trace.events.count == 2)
        #expect(await code { _ = try await view.socket(listening) } == .notFound)
        #expect(try await view.sockets(of: id).map(\.socketID) == [connection])
        #expect(try await view.socket(connection).data.streamsStarted == 1)
        // The channel's connection takes no more calls, and has one.
        try await eventually("the channel learns of it") {
            try await view.channel(to: address).data.state.state == .idle
        }
        #expect(try await view.subchannel(to: address).socketRef.count == 1)

        server.stop()
        await server.waitUntilStopped()
        #expect(await code { _ = try await view.client.getServer(.with { $0.serverID = id }) } == .notFound)
        #expect(await code { _ = try await view.sockets(of: id) } == .notFound)
        #expect(await code { _ = try await view.socket(connection) } == .notFound)
        #expect(await code { try await call.value } != nil)
        await view.stop()
    }

    @Test func `what lives on loops that have stopped is shown, and does not hold an answer up`() async throws {
        let view = try await ChannelzView()
        let group = try EventLoopGroup(threads: 2, logger: ChannelzView.logger)
        let server = try makeServer(group)
        let address = "\(try await server.listen())"
        let channel = try Channel(address, eventLoops: group, logger: ChannelzView.logger)
        let unused = try Channel(address, eventLoops: group, logger: ChannelzView.logger)
        try await channel.call("Get")
        let id = try #require(try await view.server(at: address)).ref.serverID
        let socket = try #require(try await view.sockets(of: id).first).socketID
        group.shutdown()
        #expect(await code { _ = try await view.client.getServer(.with { $0.serverID = id }) } == .notFound)
        #expect(await code { _ = try await view.socket(socket) } == .notFound)
        let found = try await view.channels(to: address)
        #expect(found.count == 2 && found.contains { $0.data.state.state == .shutdown })
        let subchannelID = try #require(found.first?.subchannelRef.first).subchannelID
        let subchannel = try await view.client.getSubchannel(.with { $0.subchannelID = subchannelID }).subchannel
        #expect(subchannel.socketRef.isEmpty)
        withExtendedLifetime((server, channel, unused)) {}
        await view.stop()
    }

    @Test func `questions while connections, channels and servers come and go are all answered`() async throws {
        let view = try await ChannelzView()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<4 {
                group.addTask {
                    for round in 0..<15 {
                        let server = try makeServer()
                        let address = "\(try await server.listen())"
                        let channels = try (0..<4).map { _ in try Channel(address, logger: ChannelzView.logger) }
                        for channel in channels { try await channel.call("Get") }
                        if round.isMultiple(of: 2) { server.beginGracefulShutdown() } else { server.stop() }
                        for channel in channels where round.isMultiple(of: 3) { channel.close() }
                        await server.waitUntilStopped()
                    }
                }
            }
            group.addTask {
                for _ in 0..<60 {
                    for server in try await view.servers() {
                        let id = server.ref.serverID
                        guard let sockets = try? await view.sockets(of: id) else { continue }
                        // What was there may be gone.
                        for socket in sockets { _ = try? await view.socket(socket.socketID) }
                    }
                    for channel in try await view.client.getTopChannels(.init()).channel {
                        for subchannel in channel.subchannelRef {
                            let request = Grpc_Channelz_V1_GetSubchannelRequest.with {
                                $0.subchannelID = subchannel.subchannelID
                            }
                            _ = try? await view.client.getSubchannel(request)
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        await view.stop()
    }

    @Test func `pages that make no sense are refused`() async throws {
        let view = try await ChannelzView()
        let client = view.client
        #expect(await code { _ = try await client.getServers(.with { $0.maxResults = -1 }) } == .invalidArgument)
        #expect(await code { _ = try await client.getServers(.with { $0.startServerID = -1 }) } == .invalidArgument)
        #expect(await code { _ = try await client.getTopChannels(.with { $0.maxResults = -1 }) } == .invalidArgument)
        #expect(await code { _ = try await client.getServerSockets(.with { $0.maxResults = -1 }) } == .invalidArgument)
        let last = try await client.getServers(.with { $0.startServerID = .max })
        #expect(last.server.isEmpty && last.end)
        let lastChannels = try await client.getTopChannels(.with { $0.startChannelID = .max })
        #expect(lastChannels.channel.isEmpty && lastChannels.end)
        let id = try #require(try await view.server(at: view.address)).ref.serverID
        let lastSockets = try await client.getServerSockets(
            .with { request in
                request.serverID = id
                request.startSocketID = .max
                request.maxResults = .max
            }
        )
        #expect(lastSockets.socketRef.isEmpty && lastSockets.end)
        let one = try await client.getServers(.with { $0.maxResults = 1 })
        #expect(one.server.count == 1)
        #expect(await code { _ = try await client.getSubchannel(.with { $0.subchannelID = .min }) } == .notFound)
        #expect(await code { _ = try await client.getSocket(.with { $0.socketID = 0 }) } == .notFound)
        await view.stop()
    }
}
