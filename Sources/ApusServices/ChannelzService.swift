public import Apus
internal import ApusServiceProtos

/// channelz, `grpc.channelz.v1` (gRFC A14): shows the servers and channels of the process with their calls, and the
/// connections of each with streams, messages, flow control, TLS and what the kernel says of the socket.
///
///     let server = try Server(.tcp(host: "127.0.0.1", port: 9001), services: [ChannelzService()])
///
/// It shows all of the process, whichever server it is registered with, and wants no set-up: servers and channels are
/// known from when they are made until they have stopped or nobody uses them any more, and it keeps none of them alive.
///
/// - Warning: Whoever can call it sees the addresses of all peers and targets, the certificates in use, how busy each
///   is, and why connections failed. It belongs on a port that strangers do not reach, such as a second server on a
///   loopback address or a unix socket.
///
/// Lists come in pages of at most 100. A method throws `NOT_FOUND` for an id that there is not (any more), and
/// `INVALID_ARGUMENT` for a negative number where a page begins or how long it is. What is shown was true at one moment
/// of each event loop that was asked, not at one moment of all: a loop that is held up holds an answer up. A channel
/// has one subchannel, whose calls are the attempts at the channel's.
///
/// Thread-safe.
public struct ChannelzService: RPCService {
    public init() {}

    public func register(with registry: inout MethodRegistry) { Handler().register(with: &registry) }

    private struct Handler: Grpc_Channelz_V1_Channelz.Handler {
        func getTopChannels(
            _ request: Grpc_Channelz_V1_GetTopChannelsRequest,
            context: CallContext
        ) async throws -> Grpc_Channelz_V1_GetTopChannelsResponse {
            var page = try Page(from: request.startChannelID, countMax: request.maxResults)
            var response = Grpc_Channelz_V1_GetTopChannelsResponse()
            repeat {
                let (channels, isLast) = ChannelzRegistry.channels.page(from: page.first, countMax: page.countMax)
                for channel in channels {
                    if let snapshot = await channel.snapshot() { response.channel.append(.init(snapshot)) }
                }
                response.end = isLast
                page.goOn(after: channels.last?.id)
                // All of a page may have gone meanwhile, and only the end may be empty.
            } while response.channel.isEmpty && !response.end
            return response
        }

        func getServers(
            _ request: Grpc_Channelz_V1_GetServersRequest,
            context: CallContext
        ) async throws -> Grpc_Channelz_V1_GetServersResponse {
            var page = try Page(from: request.startServerID, countMax: request.maxResults)
            var response = Grpc_Channelz_V1_GetServersResponse()
            repeat {
                let (servers, isLast) = ChannelzRegistry.servers.page(from: page.first, countMax: page.countMax)
                for server in servers {
                    if let snapshot = await server.snapshot() { response.server.append(.init(snapshot)) }
                }
                response.end = isLast
                page.goOn(after: servers.last?.id)
            } while response.server.isEmpty && !response.end
            return response
        }

        func getServer(
            _ request: Grpc_Channelz_V1_GetServerRequest,
            context: CallContext
        ) async throws -> Grpc_Channelz_V1_GetServerResponse {
            guard let snapshot = await ChannelzRegistry.servers.member(request.serverID)?.snapshot() else {
                throw notFound("server", request.serverID)
            }
            return .with { $0.server = .init(snapshot) }
        }

        func getServerSockets(
            _ request: Grpc_Channelz_V1_GetServerSocketsRequest,
            context: CallContext
        ) async throws -> Grpc_Channelz_V1_GetServerSocketsResponse {
            let page = try Page(from: request.startSocketID, countMax: request.maxResults)
            guard let server = ChannelzRegistry.servers.member(request.serverID) else {
                throw notFound("server", request.serverID)
            }
            let (sockets, isLast) = await server.sockets(from: page.first, countMax: page.countMax)
            return .with { response in
                response.socketRef = sockets.map { .init($0) }
                response.end = isLast
            }
        }

        func getChannel(
            _ request: Grpc_Channelz_V1_GetChannelRequest,
            context: CallContext
        ) async throws -> Grpc_Channelz_V1_GetChannelResponse {
            guard let snapshot = await ChannelzRegistry.channels.member(request.channelID)?.snapshot() else {
                throw notFound("channel", request.channelID)
            }
            return .with { $0.channel = .init(snapshot) }
        }

        func getSubchannel(
            _ request: Grpc_Channelz_V1_GetSubchannelRequest,
            context: CallContext
        ) async throws -> Grpc_Channelz_V1_GetSubchannelResponse {
            let channel = ChannelzRegistry.channel(ofSubchannel: request.subchannelID)
            guard let snapshot = await channel?.subchannelSnapshot() else {
                throw notFound("subchannel", request.subchannelID)
            }
            return .with { $0.subchannel = .init(snapshot) }
        }

        func getSocket(
            _ request: Grpc_Channelz_V1_GetSocketRequest,
            context: CallContext
        ) async throws -> Grpc_Channelz_V1_GetSocketResponse {
            let found = await ChannelzRegistry.socket(request.socketID, withOptions: !request.summary)
            guard let found else { throw notFound("socket", request.socketID) }
            return .with { $0.socket = .init(found) }
        }
    }
}

/// What part of a list is asked for.
private struct Page {
    /// The longest page, and the usual one.
    private static let countMax: Int64 = 100

    private(set) var first: Int64
    let countMax: Int

    init(from first: Int64, countMax: Int64) throws(RPCError) {
        guard first >= 0, countMax >= 0 else {
            throw RPCError(code: .invalidArgument, message: "a page cannot begin at or have a negative number")
        }
        self.first = first
        self.countMax = Int(countMax == 0 ? Self.countMax : min(countMax, Self.countMax))
    }

    /// Behind an id that there was; without one there is nothing to go on to. A request's numbers may be any, and are
    /// not calculated with.
    mutating func goOn(after last: Int64?) {
        if let last { first = last + 1 }
    }
}

private func notFound(_ what: String, _ id: Int64) -> RPCError {
    RPCError(code: .notFound, message: "there is no \(what) \(id)")
}
