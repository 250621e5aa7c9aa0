import Apus
import ApusServices
import Foundation
import Logging
import Testing

@Suite(.timeLimit(.minutes(2))) struct ChannelzServiceTests {
    private func makeServer(_ eventLoops: EventLoopGroup = .shared) throws -> Server {
        try Server(
            .tcp(host: "127.0.0.1", port: 0),
            services: [Watched()],
            eventLoops: eventLoops,
            logger: ChannelzView.logger
        )
    }

    /// A server to look at, where it listens, and who looks.
    private func withWatched(_ body: (Server, String, ChannelzView) async throws -> Void) async throws {
        let server = try makeServer()
        let address = "\(try await server.listen())"
        let view = try await ChannelzView()
        try await body(server, address, view)
        server.stop()
        await server.waitUntilStopped()
        await view.stop()
    }

    /// Cancels a call of which the server has the request.
    private func cancelACall(_ channel: Channel, _ view: ChannelzView, of server: Int64) async throws {
        let socket = try #require(try await view.sockets(of: server).first).socketID
        let received = try await view.socket(socket).data.messagesReceived
        let task = Task { try await channel.call("Wait") }
        try await eventually("the request arrives") {
            try await view.socket(socket).data.messagesReceived == received + 1
        }
        task.cancel()
        #expect(await code { try await task.value } == .cancelled)
    }

    // MARK: Counts

    @Test func `calls are counted on the server, the channel, the subchannel and both sockets`() async throws {
        try await withWatched { _, address, view in
            let channel = try Channel(address, logger: ChannelzView.logger)
            let began = Date()
            for _ in 0..<5 { try await channel.call("Get") }
            for _ in 0..<3 { #expect(await code { try await channel.call("Fail") } == .failedPrecondition) }
            #expect(await code { try await channel.call("NoSuch") } == .unimplemented)
            let serverID = try #require(try await view.server(at: address)).ref.serverID
            try await cancelACall(channel, view, of: serverID)

            try await eventually("the server learns of the cancellation") {
                try await view.server(at: address)?.data.callsFailed == 5
            }
            let server = try #require(try await view.server(at: address))
            #expect(server.data.callsStarted == 10 && server.data.callsSucceeded == 5)
            #expect((began...Date()).contains(server.data.lastCallStartedTimestamp.date))
            let seen = try await view.channel(to: address).data
            #expect(seen.callsStarted == 10 && seen.callsSucceeded == 5 && seen.callsFailed == 5)
            #expect((began...Date()).contains(seen.lastCallStartedTimestamp.date))
            #expect(seen.state.state == .ready)
            let subchannel = try await view.subchannel(to: address)
            #expect(subchannel.data.callsStarted == 10 && subchannel.data.callsSucceeded == 5)
            #expect(subchannel.data.callsFailed == 5)

            // 5 requests were answered, 3 + 1 + 1 were not, all of them were sent.
            let theirID = try #require(try await view.sockets(of: serverID).first).socketID
            let theirs = try await view.socket(theirID)
            #expect(theirs.data.streamsStarted == 10 && theirs.data.streamsSucceeded == 9)
            #expect(theirs.data.streamsFailed == 1)
            #expect(theirs.data.messagesReceived == 9 && theirs.data.messagesSent == 5)
            let ours = try await view.socket(try #require(subchannel.socketRef.first).socketID)
            #expect(ours.data.streamsStarted == 10 && ours.data.streamsSucceeded == 9 && ours.data.streamsFailed == 1)
            #expect(ours.data.messagesSent == 10 && ours.data.messagesReceived == 5)
            #expect(ours.local == theirs.remote && ours.remote == theirs.local)
            #expect(ours.data.hasLastLocalStreamCreatedTimestamp && !ours.data.hasLastRemoteStreamCreatedTimestamp)
            #expect(!theirs.data.hasLastLocalStreamCreatedTimestamp && theirs.data.hasLastRemoteStreamCreatedTimestamp)
            for socket in [ours, theirs] {
                #expect((began...Date()).contains(socket.data.lastMessageSentTimestamp.date))
                #expect((began...Date()).contains(socket.data.lastMessageReceivedTimestamp.date))
                #expect(socket.data.localFlowControlWindow.value > 0 && socket.data.remoteFlowControlWindow.value > 0)
                #expect(!socket.hasSecurity)
                #expect(socket.data.option.contains { $0.name == "TCP_NODELAY" && $0.value == "1" })
                let info = try #require(socket.data.option.first { $0.name == "TCP_INFO" })
                #expect(try Grpc_Channelz_V1_SocketOptionTcpInfo(unpackingAny: info.additional).tcpiState == 1)
            }
            channel.close()
        }
    }

    @Test func `a stream that is open has not ended either way`() async throws {
        try await withWatched { _, address, view in
            let channel = try Channel(address, logger: ChannelzView.logger)
            let call = channel.bidirectionalStreaming(
                Watched.method("Update"),
                requestCodec: BytesCodec(),
                responseCodec: BytesCodec()
            )
            for _ in 0..<7 {
                try await call.requests.write([1])
                #expect(try await call.responses.next() == [1])
            }
            let server = try #require(try await view.server(at: address))
            #expect(server.data.callsStarted == 1 && server.data.callsSucceeded == 0 && server.data.callsFailed == 0)
            let id = try #require(try await view.sockets(of: server.ref.serverID).first).socketID
            let open = try await view.socket(id).data
            #expect(open.streamsStarted == 1 && open.streamsSucceeded == 0 && open.streamsFailed == 0)
            #expect(open.messagesSent == 7 && open.messagesReceived == 7)
            call.requests.finish()
            #expect(try await call.responses.next() == nil)
            try await eventually("the call's end") { try await view.socket(id).data.streamsSucceeded == 1 }
            #expect(try await view.channel(to: address).data.callsSucceeded == 1)
        }
    }

    // MARK: Channels

    @Test func `a channel that cannot connect says why`() async throws {
        let view = try await ChannelzView()
        // Bound and closed: nobody listens there.
        let server = try makeServer()
        let address = "\(try await server.listen())"
        server.stop()
        await server.waitUntilStopped()
        let channel = try Channel(address, logger: ChannelzView.logger)
        let before = try await view.channel(to: address)
        #expect(before.data.state.state == .idle && before.data.callsStarted == 0)
        #expect(!before.data.hasLastCallStartedTimestamp)
        #expect(await code { try await channel.call("Get") } == .unavailable)
        let after = try await view.channel(to: address)
        #expect(after.ref.channelID == before.ref.channelID)
        #expect(after.data.callsStarted == 1 && after.data.callsFailed == 1)
        // After the back-off it is idle again.
        let events = after.data.trace.events.prefix(2)
        #expect(events.map(\.description_p) == ["connecting", "transientFailure"])
        #expect(events.map(\.severity) == [.ctInfo, .ctWarning])
        let subchannel = try await view.subchannel(to: address)
        #expect(subchannel.data.callsStarted == 0)
        #expect(subchannel.data.trace.events.last?.description_p.contains("Connection refused") == true)
        channel.close()
        try await eventually("the end of the channel") {
            try await view.channel(to: address).data.state.state == .shutdown
        }
        await view.stop()
    }

    @Test func `channels and servers that nobody uses vanish, and their ids do not come back`() async throws {
        let view = try await ChannelzView()
        let server = try makeServer()
        let address = "\(try await server.listen())"
        var ids: Set<Int64> = []
        for round in 0..<3 {
            var channels: [Channel] = []
            for _ in 0..<50 { channels.append(try Channel(address, logger: ChannelzView.logger)) }
            // Some connect, some make calls, some are never used.
            for channel in channels[..<10] { channel.connect() }
            for channel in channels[10..<20] { try await channel.call("Get") }
            if round == 1 { for channel in channels { channel.close() } }
            let found = try await view.channels(to: address)
            #expect(found.count == 50)
            let new = Set(found.flatMap { [$0.ref.channelID] + $0.subchannelRef.map(\.subchannelID) })
            #expect(new.count == 100 && ids.isDisjoint(with: new))
            ids.formUnion(new)
            channels = []
            try await eventually("the end of the channels") { try await view.channels(to: address).isEmpty }
        }
        let id = try #require(try await view.server(at: address)).ref.serverID
        server.stop()
        await server.waitUntilStopped()
        #expect(await code { _ = try await view.client.getServer(.with { $0.serverID = id }) } == .notFound)
        let gone = Grpc_Channelz_V1_GetChannelRequest.with { $0.channelID = ids.min() ?? 0 }
        #expect(await code { _ = try await view.client.getChannel(gone) } == .notFound)
        await view.stop()
    }

    @Test func `a server that never listened is known as long as it is kept`() async throws {
        let view = try await ChannelzView()
        var server: Server? = try makeServer()
        // Other tests have servers as well, of which some do not listen yet.
        let silent = try await view.servers().filter { $0.listenSocket.isEmpty }.map(\.ref.serverID)
        #expect(!silent.isEmpty)
        withExtendedLifetime(server) {}
        server = nil
        try await eventually("the end of the server") {
            try await view.servers().filter { $0.listenSocket.isEmpty && silent.contains($0.ref.serverID) }.isEmpty
        }
        await view.stop()
    }
}
