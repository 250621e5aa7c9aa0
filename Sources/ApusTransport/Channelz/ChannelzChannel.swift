internal import ApusBase
internal import ApusEventLoop

/// A channel as channelz knows it: its calls, and as its one subchannel the connections that they go over.
///
/// It does not keep the channel alive, which is looked for on its own loop alone and let go of before anything else
/// runs there. Thread-safe.
package final class ChannelzChannel: ChannelzEntry {
    package let id: Int64
    package let subchannelID: Int64
    let loop: EventLoop
    private let target: String
    private let trace: EventTrace
    private let subchannelTrace: EventTrace
    private weak let channel: ClientChannel?

    init(_ channel: ClientChannel) {
        id = channel.channelzID
        subchannelID = channel.subchannelID
        loop = channel.loop
        target = channel.target.text
        trace = channel.trace
        subchannelTrace = channel.subchannelTrace
        self.channel = channel
    }

    private struct Findings: Sendable {
        var state: ConnectivityState
        var calls = CallCounts()
        var sockets: [SocketReference] = []
    }

    /// What the channel says on its loop; when that has stopped, all that is left to say. `nil` if the channel is gone.
    private func find(_ body: @escaping @Sendable (ClientChannel) -> Findings) async -> Findings? {
        let found = await loop.ask { () -> Findings? in self.channel.map(body) }
        return found ?? channel.map { Findings(state: $0.connectivity) }
    }

    /// `nil` if the channel is gone.
    package func snapshot() async -> ChannelSnapshot? {
        guard let found = await find({ Findings(state: $0.connectivity, calls: $0.callCounts) }) else { return nil }
        return ChannelSnapshot(
            id: id,
            subchannelID: subchannelID,
            target: target,
            state: found.state,
            calls: found.calls,
            trace: trace.snapshot()
        )
    }

    /// `nil` if the channel is gone.
    package func subchannelSnapshot() async -> SubchannelSnapshot? {
        let found = await find { channel in
            let sockets = channel.connections.map { SocketReference(id: $0.channelzID, name: "\($0.address)") }
            return Findings(state: channel.connectivity, calls: channel.attemptCounts, sockets: sockets)
        }
        guard let found else { return nil }
        return SubchannelSnapshot(
            id: subchannelID,
            target: target,
            state: found.state,
            calls: found.calls,
            trace: subchannelTrace.snapshot(),
            sockets: found.sockets.sorted { $0.id < $1.id }
        )
    }
}

extension ChannelzChannel: SocketOwner {
    func connection(_ id: Int64) -> HTTP2Connection? { channel?.connections.first { $0.channelzID == id } }
}
