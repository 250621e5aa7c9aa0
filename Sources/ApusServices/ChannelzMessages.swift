internal import Apus
internal import ApusServiceProtos
internal import SwiftProtobuf

// What channelz shows, as its messages have it.

extension Grpc_Channelz_V1_Server {
    init(_ server: ServerSnapshot) {
        self.init()
        ref = .with { $0.serverID = server.id }
        data = .with { data in
            data.callsStarted = Int64(server.calls.started)
            data.callsSucceeded = Int64(server.calls.succeeded)
            data.callsFailed = Int64(server.calls.failed)
            if let time = server.calls.lastStarted { data.lastCallStartedTimestamp = .init(time) }
            data.trace = .init(server.trace)
        }
        listenSocket = server.listenSockets.map { .init($0) }
    }
}

extension Grpc_Channelz_V1_Channel {
    init(_ channel: ChannelSnapshot) {
        self.init()
        ref = .with { ref in
            ref.channelID = channel.id
            ref.name = channel.target
        }
        data = .init(channel.target, channel.state, channel.calls, channel.trace)
        subchannelRef = [
            .with { ref in
                ref.subchannelID = channel.subchannelID
                ref.name = channel.target
            }
        ]
    }
}

extension Grpc_Channelz_V1_Subchannel {
    init(_ subchannel: SubchannelSnapshot) {
        self.init()
        ref = .with { ref in
            ref.subchannelID = subchannel.id
            ref.name = subchannel.target
        }
        data = .init(subchannel.target, subchannel.state, subchannel.calls, subchannel.trace)
        socketRef = subchannel.sockets.map { .init($0) }
    }
}

extension Grpc_Channelz_V1_ChannelData {
    fileprivate init(_ target: String, _ state: ConnectivityState, _ calls: CallCounts, _ trace: TraceSnapshot) {
        self.init()
        self.target = target
        self.state = .with { $0.state = .init(state) }
        self.trace = .init(trace)
        callsStarted = Int64(calls.started)
        callsSucceeded = Int64(calls.succeeded)
        callsFailed = Int64(calls.failed)
        if let time = calls.lastStarted { lastCallStartedTimestamp = .init(time) }
    }
}

extension Grpc_Channelz_V1_ChannelConnectivityState.State {
    fileprivate init(_ state: ConnectivityState) {
        switch state {
        case .idle: self = .idle
        case .connecting: self = .connecting
        case .ready: self = .ready
        case .transientFailure: self = .transientFailure
        case .closed: self = .shutdown
        }
    }
}

extension Grpc_Channelz_V1_ChannelTrace {
    fileprivate init(_ trace: TraceSnapshot) {
        self.init()
        numEventsLogged = Int64(trace.logged)
        creationTimestamp = .init(trace.created)
        events = trace.events.map { event in
            .with { message in
                message.description_p = event.text
                message.severity = .init(event.severity)
                message.timestamp = .init(event.time)
            }
        }
    }
}

extension Grpc_Channelz_V1_ChannelTraceEvent.Severity {
    fileprivate init(_ severity: EventTrace.Severity) {
        switch severity {
        case .info: self = .ctInfo
        case .warning: self = .ctWarning
        case .error: self = .ctError
        }
    }
}

extension Google_Protobuf_Timestamp {
    init(_ time: WallTime) {
        let (seconds, nanos) = time.nanoseconds.quotientAndRemainder(dividingBy: 1_000_000_000)
        self.init(seconds: seconds, nanos: Int32(nanos))
    }
}
