internal import ApusBase
internal import CLinux

/// What the kernel knows of a TCP connection (TCP_INFO), in its own units: round trips in microseconds, times since
/// something happened in milliseconds.
package struct TCPInfo: Hashable, Sendable {
    package var state: UInt32
    package var congestionState: UInt32
    package var retransmits: UInt32
    package var probes: UInt32
    package var backoff: UInt32
    package var options: UInt32
    package var sendWindowScale: UInt32
    package var receiveWindowScale: UInt32
    package var retransmitTimeout: UInt32
    package var ackTimeout: UInt32
    package var sendMSS: UInt32
    package var receiveMSS: UInt32
    package var unacked: UInt32
    package var sacked: UInt32
    package var lost: UInt32
    package var retransmitted: UInt32
    package var forwardAcked: UInt32
    package var lastDataSent: UInt32
    package var lastAckSent: UInt32
    package var lastDataReceived: UInt32
    package var lastAckReceived: UInt32
    package var pathMTU: UInt32
    package var receiveSlowStartThreshold: UInt32
    package var rtt: UInt32
    package var rttVariance: UInt32
    package var sendSlowStartThreshold: UInt32
    package var sendCongestionWindow: UInt32
    package var advertisedMSS: UInt32
    package var reordering: UInt32
}

extension SystemCalls {
    /// What the kernel knows of a connection; `nil` if it is not TCP's.
    package static func tcpInfo(of descriptor: CInt) -> TCPInfo? {
        // SAFETY: the structure is a local, which the call fills.
        var info = clinux_tcp_info()
        guard unsafe clinux_tcp_info(descriptor, &info) == 0 else { return nil }
        return TCPInfo(
            state: info.state,
            congestionState: info.ca_state,
            retransmits: info.retransmits,
            probes: info.probes,
            backoff: info.backoff,
            options: info.options,
            sendWindowScale: info.snd_wscale,
            receiveWindowScale: info.rcv_wscale,
            retransmitTimeout: info.rto,
            ackTimeout: info.ato,
            sendMSS: info.snd_mss,
            receiveMSS: info.rcv_mss,
            unacked: info.unacked,
            sacked: info.sacked,
            lost: info.lost,
            retransmitted: info.retrans,
            forwardAcked: info.fackets,
            lastDataSent: info.last_data_sent,
            lastAckSent: info.last_ack_sent,
            lastDataReceived: info.last_data_recv,
            lastAckReceived: info.last_ack_recv,
            pathMTU: info.pmtu,
            receiveSlowStartThreshold: info.rcv_ssthresh,
            rtt: info.rtt,
            rttVariance: info.rttvar,
            sendSlowStartThreshold: info.snd_ssthresh,
            sendCongestionWindow: info.snd_cwnd,
            advertisedMSS: info.advmss,
            reordering: info.reordering
        )
    }
}
