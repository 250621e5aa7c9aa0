internal import ApusBase
internal import ApusEventLoop

/// A server as channelz knows it. Each of its loops is asked in turn; one that has stopped has nothing to say.
///
/// It does not keep the server alive, but for the time of a question. Thread-safe.
package final class ChannelzServer: ChannelzEntry {
    package let id: Int64
    private weak let core: ServerCore?

    init(_ core: ServerCore) {
        id = core.channelzID
        self.core = core
    }

    var shards: [ServerShard] { core?.shards ?? [] }

    /// `nil` if the server is gone.
    package func snapshot() async -> ServerSnapshot? {
        guard let core else { return nil }
        var calls = CallCounts()
        for shard in core.shards {
            if let counts = await shard.loop.ask({ shard.callCounts }) { calls.add(counts) }
        }
        let listening = core.listenSockets.map { SocketReference(id: $0.channelzID, name: $0.address.description) }
        return ServerSnapshot(id: id, calls: calls, trace: core.trace.snapshot(), listenSockets: listening)
    }

    /// The connections with the lowest ids from one on, in order, and whether there are none beyond them.
    package func sockets(from first: Int64, countMax: Int) async -> (sockets: [SocketReference], isLast: Bool) {
        var found: [SocketReference] = []
        for shard in shards {
            found += await shard.loop.ask { shard.sockets(from: first, countMax: countMax + 1) } ?? []
        }
        found.sort { $0.id < $1.id }
        return (Array(found.prefix(countMax)), found.count <= countMax)
    }

    func listenSocket(_ id: Int64) -> ListenSocket? { core?.listenSockets.first { $0.channelzID == id } }
}

// MARK: - On a loop

extension ServerShard: SocketOwner {
    func connection(_ id: Int64) -> HTTP2Connection? { connections[id] }

    fileprivate func sockets(from first: Int64, countMax: Int) -> [SocketReference] {
        var lowest = LowestIDs(from: first, countMax: countMax)
        for id in connections.keys { lowest.consider(id) }
        return lowest.ids.compactMap { id in
            connections[id].map { SocketReference(id: id, name: $0.peer.address.description) }
        }
    }
}
