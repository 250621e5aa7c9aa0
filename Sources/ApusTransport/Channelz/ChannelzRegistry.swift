internal import ApusBase
internal import ApusEventLoop

/// The servers and channels of the process, as channelz looks for them: known by their ids, and not kept alive.
///
/// Connections are not listed here, because each is known to the loop that it lives on. Thread-safe.
package enum ChannelzRegistry {
    package static let servers = ChannelzDirectory<ChannelzServer>()
    package static let channels = ChannelzDirectory<ChannelzChannel>()

    /// The channel that a subchannel belongs to.
    package static func channel(ofSubchannel id: Int64) -> ChannelzChannel? {
        // Both have their ids in one go.
        guard let channel = channels.member(id &- 1), channel.subchannelID == id else { return nil }
        return channel
    }

    /// A socket that listens or is connected, of any server or channel; `nil` if there is none of that id.
    ///
    /// Each loop is asked once. One that is held up holds the answer up; one that has stopped has no sockets.
    ///
    /// - Parameter withOptions: whether the kernel is asked for the socket's options.
    package static func socket(_ id: Int64, withOptions: Bool) async -> SocketSnapshot? {
        var owners: [any SocketOwner] = channels.all
        for server in servers.all {
            if let socket = server.listenSocket(id) { return await socket.snapshot(withOptions: withOptions) }
            owners += server.shards
        }
        var loops: [ObjectIdentifier: (loop: EventLoop, owners: [any SocketOwner])] = [:]
        for owner in owners {
            loops[ObjectIdentifier(owner.loop), default: (owner.loop, [])].owners.append(owner)
        }
        for (loop, owners) in loops.values {
            let found = await loop.ask { () -> SocketSnapshot? in
                for owner in owners {
                    if let connection = owner.connection(id) { return connection.snapshot(withOptions: withOptions) }
                }
                return nil
            }
            if case .some(.some(let socket)) = found { return socket }
        }
        return nil
    }
}

/// What has connections on a loop.
protocol SocketOwner: AnyObject, Sendable {
    var loop: EventLoop { get }
    /// On the loop: the connection with that id, if it is here.
    func connection(_ id: Int64) -> HTTP2Connection?
}

/// Who stands in a directory for something that may be gone.
package protocol ChannelzEntry: AnyObject, Sendable {
    var id: Int64 { get }
}

/// Entries by their ids. Thread-safe.
package final class ChannelzDirectory<Entry: ChannelzEntry>: Sendable {
    private let entries = Lock([Int64: Entry]())

    init() {}

    func add(_ entry: Entry) { entries.withLock { $0[entry.id] = entry } }

    /// Harmless when it is gone.
    func remove(_ id: Int64) {
        // Dropped out of the lock.
        _ = entries.withLock { $0.removeValue(forKey: id) }
    }

    package func member(_ id: Int64) -> Entry? { entries.withLock { $0[id] } }

    /// All of them, in no order.
    var all: [Entry] { entries.withLock { Array($0.values) } }

    /// Those with the lowest ids from one on, in order, and whether there are none beyond them.
    package func page(from first: Int64, countMax: Int) -> (members: [Entry], isLast: Bool) {
        entries.withLock { entries in
            var lowest = LowestIDs(from: first, countMax: countMax + 1)
            for id in entries.keys { lowest.consider(id) }
            return (lowest.ids.prefix(countMax).compactMap { entries[$0] }, lowest.ids.count <= countMax)
        }
    }
}
