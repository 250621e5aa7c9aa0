/// The one error that a call throws, and that a handler throws to end its call with a status.
public struct RPCError: Error, Sendable {
    /// Who decided that the call failed.
    public enum Origin: Hashable, Sendable {
        /// The other end sent this status.
        case peer
        /// It was made here: a lost connection, a deadline, a broken protocol, a handler that threw.
        case local
    }

    /// The status code. ``StatusCode/ok`` makes no sense in an error: sent by a server it becomes
    /// ``StatusCode/unknown``.
    public var code: StatusCode

    /// What happened, for a person to read. Any Unicode text; it travels percent-encoded in `grpc-message`.
    public var message: String

    /// Trailing metadata that travels with the status.
    public var metadata: Metadata

    /// The error that led to this one. Never sent to the peer.
    public var cause: (any Error)?

    /// Who decided that the call failed.
    public var origin: Origin

    public init(
        code: StatusCode,
        message: String,
        metadata: Metadata = [:],
        cause: (any Error)? = nil,
        origin: Origin = .local
    ) {
        self.code = code
        self.message = message
        self.metadata = metadata
        self.cause = cause
        self.origin = origin
    }
}

extension RPCError: CustomStringConvertible {
    /// For example `NOT_FOUND: no such key`.
    public var description: String {
        var text = "\(code): \(message)"
        // Some messages quote their cause.
        if let cause, !message.contains("\(cause)") { text += " (cause: \(cause))" }
        return text
    }
}
