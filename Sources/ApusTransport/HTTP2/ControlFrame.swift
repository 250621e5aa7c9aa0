/// A frame that carries nothing of a call.
enum ControlFrame {
    case ping, settings, windowUpdate
    /// DATA without a byte of a body, which does not end its stream.
    case emptyData
    /// PRIORITY, GOAWAY, an answer to a PING.
    case other
}

/// What a peer did so much of that its connection is ended (GOAWAY with ENHANCE_YOUR_CALM, RFC 9113 §10.5).
enum PeerExcess: Equatable {
    /// It cancelled calls that it could not have an answer of (CVE-2023-44487).
    case cancellations
    /// It had streams reset by breaking HTTP/2's rules on them (CVE-2025-8671).
    case violations
    /// It sent frames that carry nothing of a call (CVE-2019-9512, -9513, -9515, -9518).
    case emptyFrames
    /// It asked more often whether we are there than it may (gRFC A8).
    case pings
    /// It began a block of header fields and did not end it in time.
    case slowHeaders

    /// What GOAWAY says; a client of gRPC knows `too_many_pings`.
    var debugData: String {
        switch self {
        case .cancellations: "too_many_cancellations"
        case .violations: "too_many_stream_errors"
        case .emptyFrames: "too_many_empty_frames"
        case .pings: "too_many_pings"
        case .slowHeaders: "header_timeout"
        }
    }
}

extension PeerExcess: CustomStringConvertible {
    var description: String {
        switch self {
        case .cancellations: "it cancelled too many calls before they were answered"
        case .violations: "it broke the rules of HTTP/2 on too many streams"
        case .emptyFrames: "it sent too many frames that carry nothing"
        case .pings: "it sent PINGs more often than it may"
        case .slowHeaders: "it did not end a block of header fields in time"
        }
    }
}
