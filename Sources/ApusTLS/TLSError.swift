/// Why TLS could not be set up, or a connection's handshake or its records failed.
public struct TLSError: Error, Hashable, Sendable {
    /// What kind of failure it is.
    public enum Reason: Hashable, Sendable {
        /// A file of the configuration could not be read.
        case unreadableFile
        /// There is no certificate, or no private key, in what was given as such, or it is malformed.
        case malformedCredentials
        /// The private key is not the one of the certificate.
        case keyMismatch
        /// The private key or the PKCS#12 bundle is encrypted, and the passphrase is missing or wrong.
        case wrongPassphrase
        /// A setting is not acceptable, for instance a cipher suite that HTTP/2 forbids (RFC 9113 §9.2.2).
        case invalidConfiguration

        /// The peer's certificate, or one that signed it, has expired.
        case certificateExpired
        /// The peer's certificate, or one that signed it, is not valid yet.
        case certificateNotYetValid
        /// The server's certificate is for other names than the one asked for.
        case wrongHost
        /// The peer's certificate leads to no authority that is trusted.
        case unknownAuthority
        /// The peer's certificate was rejected for another reason: its purpose, its signature, a weak key.
        case certificateRejected
        /// The custom verification refused the peer.
        case refusedByVerifier
        /// The peer was required to show a certificate and has none.
        case noCertificate
        /// The peer did not agree on `h2` (ALPN, RFC 9113 §3.2).
        case noApplicationProtocol
        /// The peer speaks something other than TLS.
        case plaintextPeer
        /// The peer ended the connection with this alert (RFC 8446 §6).
        case alert(UInt8)
        /// The connection ended without close_notify: what came may have been cut short.
        case truncated
        /// TLS failed in another way: no common version, a record that was tampered with.
        case protocolFailure
    }

    /// What kind of failure it is.
    public let reason: Reason
    /// What happened, for a person to read; it ends with OpenSSL's own words where there are any.
    public let message: String

    package init(_ reason: Reason, _ message: String) {
        self.reason = reason
        self.message = message
    }
}

extension TLSError: CustomStringConvertible {
    /// The message.
    public var description: String { message }
}
