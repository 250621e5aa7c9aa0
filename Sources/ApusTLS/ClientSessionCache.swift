internal import ApusBase
internal import COpenSSL

/// The sessions that a client may resume, a few for each server name. Used by all loops.
///
/// A session of TLS 1.3 is used once, so that nobody who watches can link two connections (RFC 8446 §C.4).
final class ClientSessionCache: Sendable {
    static let serversMax = 256
    static let sessionsPerServerMax = 4

    private struct Contents {
        var sessions: [String: [ResumableSession]] = [:]
        /// The names in the order in which they came; the first is forgotten first.
        var order: [String] = []
    }

    private let contents = Lock(Contents())

    /// The number of sessions kept.
    var count: Int { contents.withLock { $0.sessions.values.reduce(0) { $0 + $1.count } } }

    func insert(_ session: ResumableSession, for server: String) {
        contents.withLock { contents in
            if contents.sessions[server] == nil {
                if contents.order.count == Self.serversMax { contents.sessions[contents.order.removeFirst()] = nil }
                contents.order.append(server)
            }
            var sessions = contents.sessions[server] ?? []
            if sessions.count == Self.sessionsPerServerMax { sessions.removeFirst() }
            sessions.append(session)
            contents.sessions[server] = sessions
        }
    }

    /// The newest session for a server that can still be resumed.
    func take(for server: String) -> ResumableSession? {
        contents.withLock { contents in
            while let session = contents.sessions[server]?.last {
                let isResumable = session.isResumable
                if isResumable, !session.isForOneUse { return session }
                contents.sessions[server]?.removeLast()
                if isResumable { return session }
            }
            return nil
        }
    }
}

/// A session that OpenSSL has handed out, and when the server proved who it is.
///
/// SAFETY: the reference is this object's own, given back in deinit.
// OpenSSL counts references atomically and changes a session that it has handed out no more, but for a flag.
@safe
final class ResumableSession: @unchecked Sendable {
    let pointer: OpaquePointer
    /// Seconds since 1970.
    let authenticatedAt: Int64
    private let secondsMax: Int

    /// Takes over a reference.
    ///
    /// - Parameters:
    ///   - authenticatedAt: when the session began that this one continues; `nil` if it continues none.
    ///   - secondsMax: how long after that it may be resumed.
    init(_ pointer: OpaquePointer, authenticatedAt: Int64?, secondsMax: Int) {
        unsafe self.pointer = unsafe pointer
        self.authenticatedAt = authenticatedAt ?? Int64(unsafe SSL_SESSION_get_time(pointer))
        self.secondsMax = secondsMax
    }

    var isResumable: Bool {
        unsafe SSL_SESSION_is_resumable(pointer) == 1
            && !SessionLifetime.isOver(pointer, authenticatedAt: authenticatedAt, secondsMax: secondsMax)
    }
    var isForOneUse: Bool { unsafe SSL_SESSION_get_protocol_version(pointer) == TLS1_3_VERSION }

    deinit { unsafe SSL_SESSION_free(pointer) }
}
