internal import COpenSSL

/// How long a session may be resumed: for two hours after the handshake in which the peers proved who they are, and not
/// beyond the end of the peer's certificate.
///
/// Each connection that resumes a session of TLS 1.3 brings a new ticket. OpenSSL counts a session's age from its last
/// ticket, so that whoever comes back in time would never have to prove anything again, with a certificate that has
/// long expired; RFC 8446 §4.6.1 recommends to limit the whole.
enum SessionLifetime {
    /// From the handshake with certificates to the last resumption.
    static let secondsMax = 2 * 60 * 60

    /// Whether a session may no longer be resumed.
    ///
    /// SAFETY: the pointer is the caller's for the length of the call.
    static func isOver(_ session: OpaquePointer, authenticatedAt: Int64, secondsMax: Int) -> Bool {
        if copenssl_now() - authenticatedAt > Int64(secondsMax) { return true }
        guard let certificate = unsafe SSL_SESSION_get0_peer(session) else { return false }
        return unsafe X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0
    }

    // MARK: Tickets of a server

    /// A server makes a ticket: when the client proved who it is goes into it, unless the session is a resumed one and
    /// brought that along.
    ///
    /// SAFETY: the pointer is the caller's for the length of the call. OpenSSL copies the bytes.
    static func note(in session: OpaquePointer) -> Bool {
        if unsafe authenticationTime(in: session) != nil { return true }
        let time = Int64(unsafe SSL_SESSION_get_time(session))
        let bytes = (0..<MemoryLayout<Int64>.size).map { UInt8(truncatingIfNeeded: time >> (8 * $0)) }
        return unsafe SSL_SESSION_set1_ticket_appdata(session, bytes, bytes.count) == 1
    }

    /// A client came with a ticket: is it still good?
    ///
    /// SAFETY: as for ``note(in:)``.
    static func allows(_ session: OpaquePointer, secondsMax: Int) -> Bool {
        guard let time = unsafe authenticationTime(in: session) else { return false }
        return unsafe !isOver(session, authenticatedAt: time, secondsMax: secondsMax)
    }

    /// Seconds since 1970.
    private static func authenticationTime(in session: OpaquePointer) -> Int64? {
        // SAFETY: the bytes are the session's, and are copied.
        var bytes: UnsafeMutableRawPointer?
        var count = 0
        guard unsafe SSL_SESSION_get0_ticket_appdata(session, &bytes, &count) == 1, let bytes = unsafe bytes,
            count == MemoryLayout<Int64>.size
        else { return nil }
        return Int64(littleEndian: unsafe bytes.loadUnaligned(as: Int64.self))
    }
}
