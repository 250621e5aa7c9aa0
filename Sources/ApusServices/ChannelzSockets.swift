internal import Apus
internal import ApusServiceProtos
internal import SwiftProtobuf

// Sockets, as channelz's messages have them.

extension Grpc_Channelz_V1_SocketRef {
    init(_ socket: SocketReference) {
        self.init()
        socketID = socket.id
        name = socket.name
    }
}

extension Grpc_Channelz_V1_Socket {
    init(_ socket: SocketSnapshot) {
        self.init()
        ref = .with { ref in
            ref.socketID = socket.id
            ref.name = socket.name
        }
        data = .init(socket)
        if let endpoint = socket.local { local = .init(endpoint) }
        if let endpoint = socket.remote { remote = .init(endpoint) }
        if let summary = socket.security { security = .with { $0.tls = .init(summary) } }
        if let name = socket.remoteName { remoteName = name }
    }
}

extension Grpc_Channelz_V1_SocketData {
    fileprivate init(_ socket: SocketSnapshot) {
        self.init()
        let counts = socket.counts
        streamsStarted = Int64(counts.streamsStarted)
        streamsSucceeded = Int64(counts.streamsSucceeded)
        streamsFailed = Int64(counts.streamsFailed)
        messagesSent = Int64(counts.messagesSent)
        messagesReceived = Int64(counts.messagesReceived)
        keepAlivesSent = Int64(counts.keepalivesSent)
        if let time = counts.lastStreamStartedHere { lastLocalStreamCreatedTimestamp = .init(time) }
        if let time = counts.lastStreamStartedByPeer { lastRemoteStreamCreatedTimestamp = .init(time) }
        if let time = counts.lastMessageSent { lastMessageSentTimestamp = .init(time) }
        if let time = counts.lastMessageReceived { lastMessageReceivedTimestamp = .init(time) }
        if let bytes = socket.sendWindowBytes { localFlowControlWindow = .init(Int64(bytes)) }
        if let bytes = socket.receiveWindowBytes { remoteFlowControlWindow = .init(Int64(bytes)) }
        option = socket.options.map { name, value in
            .with { option in
                option.name = name
                option.value = value
            }
        }
        if let info = socket.tcp { option.append(.init(info)) }
    }
}

extension Grpc_Channelz_V1_Address {
    fileprivate init(_ endpoint: SocketEndpoint) {
        self.init()
        switch endpoint.address {
        case .ipv4(_, let port), .ipv6(_, let port):
            tcpipAddress = .with { address in
                address.ipAddress = .init(endpoint.ipBytes)
                address.port = Int32(port)
            }
        case .unix(let path): udsAddress = .with { $0.filename = path }
        case .unnamed: udsAddress = .init()
        // It is no file's name.
        case .unixAbstract: otherAddress = .with { $0.name = "\(endpoint.address)" }
        }
    }
}

extension Grpc_Channelz_V1_Security.Tls {
    fileprivate init(_ summary: TLSSummary) {
        self.init()
        if let name = summary.standardCipherSuite { standardName = name } else { otherName = summary.cipherSuite }
        localCertificate = .init(summary.localCertificate)
        remoteCertificate = .init(summary.remoteCertificate)
    }
}

extension Grpc_Channelz_V1_SocketOption {
    /// TCP_INFO, in words the round trip and in full the message that the protocol has for it.
    fileprivate init(_ info: TCPInfo) {
        self.init()
        name = "TCP_INFO"
        value = "rtt \(info.rtt) µs, \(info.retransmits) retransmits"
        // A message without required fields can always be packed.
        if let any = try? Google_Protobuf_Any(message: Grpc_Channelz_V1_SocketOptionTcpInfo(info)) { additional = any }
    }
}

extension Grpc_Channelz_V1_SocketOptionTcpInfo {
    fileprivate init(_ info: TCPInfo) {
        self.init()
        tcpiState = info.state
        tcpiCaState = info.congestionState
        tcpiRetransmits = info.retransmits
        tcpiProbes = info.probes
        tcpiBackoff = info.backoff
        tcpiOptions = info.options
        tcpiSndWscale = info.sendWindowScale
        tcpiRcvWscale = info.receiveWindowScale
        tcpiRto = info.retransmitTimeout
        tcpiAto = info.ackTimeout
        tcpiSndMss = info.sendMSS
        tcpiRcvMss = info.receiveMSS
        tcpiUnacked = info.unacked
        tcpiSacked = info.sacked
        tcpiLost = info.lost
        tcpiRetrans = info.retransmitted
        tcpiFackets = info.forwardAcked
        tcpiLastDataSent = info.lastDataSent
        tcpiLastAckSent = info.lastAckSent
        tcpiLastDataRecv = info.lastDataReceived
        tcpiLastAckRecv = info.lastAckReceived
        tcpiPmtu = info.pathMTU
        tcpiRcvSsthresh = info.receiveSlowStartThreshold
        tcpiRtt = info.rtt
        tcpiRttvar = info.rttVariance
        tcpiSndSsthresh = info.sendSlowStartThreshold
        tcpiSndCwnd = info.sendCongestionWindow
        tcpiAdvmss = info.advertisedMSS
        tcpiReordering = info.reordering
    }
}
