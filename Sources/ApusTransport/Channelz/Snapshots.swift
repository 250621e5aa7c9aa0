package import ApusBase
package import ApusEventLoop
package import ApusTLS

// What channelz shows, as it was at one moment of the loop that it lives on.

/// Calls of a server, a channel or a subchannel.
package struct CallCounts: Sendable {
    package var started = 0
    /// Ended with OK.
    package var succeeded = 0
    /// Ended with another status, or without one.
    package var failed = 0
    package var lastStarted: WallTime?

    /// Adds those of another loop, or of another connection.
    mutating func add(_ other: CallCounts) {
        started += other.started
        succeeded += other.succeeded
        failed += other.failed
        if let time = other.lastStarted { lastStarted = max(lastStarted ?? time, time) }
    }
}

package struct TraceSnapshot: Sendable {
    package struct Event: Sendable {
        package var text: String
        package var severity: EventTrace.Severity
        package var time: WallTime
    }

    /// How many events there were; the last of them are in `events`.
    package var logged: Int
    package var created: WallTime
    package var events: [Event]
}

package struct ServerSnapshot: Sendable {
    package var id: Int64
    package var calls: CallCounts
    package var trace: TraceSnapshot
    package var listenSockets: [SocketReference]
}

package struct ChannelSnapshot: Sendable {
    package var id: Int64
    package var subchannelID: Int64
    package var target: String
    package var state: ConnectivityState
    package var calls: CallCounts
    package var trace: TraceSnapshot
}

/// A channel's one subchannel: the connections that it has or had.
package struct SubchannelSnapshot: Sendable {
    package var id: Int64
    package var target: String
    package var state: ConnectivityState
    /// Attempts at calls: of a call that is tried again, each.
    package var calls: CallCounts
    package var trace: TraceSnapshot
    package var sockets: [SocketReference]
}

package struct SocketReference: Sendable {
    package var id: Int64
    /// For people: where it listens, or the peer.
    package var name: String
}

package struct SocketSnapshot: Sendable {
    package var id: Int64
    package var name: String
    package var local: SocketEndpoint?
    /// `nil` of a socket that listens.
    package var remote: SocketEndpoint?
    package var remoteName: String?
    package var counts = SocketCounts()
    /// What the peer lets us send on the connection, and what we let it send, in bytes; `nil` when HTTP/2 has ended.
    package var sendWindowBytes: Int?
    package var receiveWindowBytes: Int?
    package var security: TLSSummary?
    package var options: [(name: String, value: String)] = []
    package var tcp: TCPInfo?
}

/// What happened on one connection.
package struct SocketCounts: Sendable {
    package var streamsStarted = 0
    /// Ended with END_STREAM of the server.
    package var streamsSucceeded = 0
    package var streamsFailed = 0
    package var messagesSent = 0
    package var messagesReceived = 0
    package var keepalivesSent = 0
    package var lastStreamStartedHere: WallTime?
    package var lastStreamStartedByPeer: WallTime?
    package var lastMessageSent: WallTime?
    package var lastMessageReceived: WallTime?
}

/// An address in words, and in bytes if it is one of the Internet.
package struct SocketEndpoint: Sendable {
    package var address: SocketAddress
    /// 4 bytes or 16; empty for a unix socket.
    package var ipBytes: [UInt8]

    init(_ address: RawSocketAddress) {
        self.address = address.address
        ipBytes = address.ipBytes
    }

    init(_ address: SocketAddress) {
        self.address = address
        ipBytes = (try? RawSocketAddress(address))?.ipBytes ?? []
    }
}
