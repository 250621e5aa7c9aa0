/// How a call ended, by gRPC's numbering (statuscodes.md of the gRPC specification).
public enum StatusCode: Int, Hashable, Sendable, CaseIterable {
    /// The call succeeded.
    case ok = 0
    /// The caller gave the call up.
    case cancelled = 1
    /// An error that fits no other code, or came without one.
    case unknown = 2
    /// An argument is wrong whatever state the system is in.
    case invalidArgument = 3
    /// The deadline passed before the call ended; it may have had its effect all the same.
    case deadlineExceeded = 4
    /// What was asked for does not exist.
    case notFound = 5
    /// What was to be made exists.
    case alreadyExists = 6
    /// The caller is known and may not do this.
    case permissionDenied = 7
    /// A quota, a limit of size, or memory is used up.
    case resourceExhausted = 8
    /// The system is not in a state for this; trying again without a change is no use.
    case failedPrecondition = 9
    /// The operation was given up, for instance for a conflict between transactions; a higher level may try again.
    case aborted = 10
    /// Past the valid range, such as reading past the end of a file.
    case outOfRange = 11
    /// The method is not served here.
    case unimplemented = 12
    /// An invariant is broken: a bug, or a peer that breaks the protocol.
    case `internal` = 13
    /// Not reachable at present; trying again may help.
    case unavailable = 14
    /// Data is lost or corrupted for good.
    case dataLoss = 15
    /// The caller did not say who it is, or its proof does not hold.
    case unauthenticated = 16
}

extension StatusCode: CustomStringConvertible {
    /// The name in the specification, such as `DEADLINE_EXCEEDED`.
    public var description: String {
        switch self {
        case .ok: "OK"
        case .cancelled: "CANCELLED"
        case .unknown: "UNKNOWN"
        case .invalidArgument: "INVALID_ARGUMENT"
        case .deadlineExceeded: "DEADLINE_EXCEEDED"
        case .notFound: "NOT_FOUND"
        case .alreadyExists: "ALREADY_EXISTS"
        case .permissionDenied: "PERMISSION_DENIED"
        case .resourceExhausted: "RESOURCE_EXHAUSTED"
        case .failedPrecondition: "FAILED_PRECONDITION"
        case .aborted: "ABORTED"
        case .outOfRange: "OUT_OF_RANGE"
        case .unimplemented: "UNIMPLEMENTED"
        case .internal: "INTERNAL"
        case .unavailable: "UNAVAILABLE"
        case .dataLoss: "DATA_LOSS"
        case .unauthenticated: "UNAUTHENTICATED"
        }
    }
}
