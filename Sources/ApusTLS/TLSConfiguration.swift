/// A version of TLS that this library speaks. Older ones are forbidden (RFC 8996).
public enum TLSVersion: Hashable, Sendable, Comparable {
    /// TLS 1.2 (RFC 5246).
    case tls12
    /// TLS 1.3 (RFC 8446).
    case tls13
}

/// Bytes of a certificate, key or bundle: in a file, which is read whenever the configuration is loaded, or at hand.
public enum TLSSource: Hashable, Sendable {
    /// The path of a file.
    case file(String)
    /// The content itself.
    case bytes([UInt8])
}

/// The authorities that a peer's certificate has to lead to.
public enum TLSTrustRoots: Hashable, Sendable {
    /// What the system trusts: OpenSSL's default file and directory, which the environment's `SSL_CERT_FILE` and
    /// `SSL_CERT_DIR` override.
    case system
    /// The certificates in these PEM texts and no others. One that is not self-signed is trusted all the same.
    case pem([TLSSource])

    /// The certificates of a PEM file and no others.
    public static func file(_ path: String) -> TLSTrustRoots { .pem([.file(path)]) }
}

/// A certificate, those that lead from it to an authority, and its private key: what one end shows to the other.
public struct TLSCredentials: Hashable, Sendable {
    enum Form: Hashable, Sendable {
        case pem(chain: TLSSource, key: TLSSource)
        case pkcs12(TLSSource)
    }

    let form: Form
    let passphrase: String?

    /// PEM texts: the certificate followed by its intermediates, and the private key (PKCS#8, PKCS#1 or SEC 1). Both
    /// may be in the same file.
    ///
    /// - Parameter passphrase: what the key is encrypted with.
    public static func pem(chain: TLSSource, key: TLSSource, passphrase: String? = nil) -> TLSCredentials {
        TLSCredentials(form: .pem(chain: chain, key: key), passphrase: passphrase)
    }

    /// PEM files, as ``pem(chain:key:passphrase:)``.
    public static func pem(chainFile: String, keyFile: String, passphrase: String? = nil) -> TLSCredentials {
        pem(chain: .file(chainFile), key: .file(keyFile), passphrase: passphrase)
    }

    /// A PKCS#12 bundle with one key, its certificate and intermediates in any order.
    public static func pkcs12(_ source: TLSSource, passphrase: String? = nil) -> TLSCredentials {
        TLSCredentials(form: .pkcs12(source), passphrase: passphrase)
    }
}

extension TLSCredentials: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// Where they come from, without secrets.
    public var description: String {
        switch form {
        case .pem(let chain, let key): "PEM, \(chain.name) and \(key.name)"
        case .pkcs12(let source): "PKCS#12, \(source.name)"
        }
    }

    /// The same as ``description``.
    public var debugDescription: String { description }

    /// Nothing: what reflection prints must not hold keys.
    public var customMirror: Mirror { Mirror(self, children: []) }
}

extension TLSSource {
    /// The path, or that there is none.
    var name: String {
        switch self {
        case .file(let path): path
        case .bytes: "bytes"
        }
    }
}

/// Decides about a peer beyond what the certificates' chain and names say: returns to accept it, throws to refuse it.
///
/// It is called once for each connection on which the peer showed a certificate, after the other checks have passed,
/// and may suspend; until it returns no byte of HTTP/2 is read or sent. A client calls it within the handshake, and
/// not when a session that it accepted is resumed. A server calls it after the handshake, resumed or not, because
/// OpenSSL 3.0 cannot suspend a server's: a client that is refused sees its connection close.
///
/// Its task is cancelled when the connection ends, for instance because it took longer than the time for handshakes.
public typealias TLSPeerVerifier = @Sendable (TLSPeer) async throws -> Void

/// The TLS of a server.
///
/// `h2` is the only protocol that it agrees on (ALPN); a client without it is refused.
public struct ServerTLS: Sendable {
    /// Whether clients are asked for a certificate.
    public enum ClientCertificates: Hashable, Sendable {
        /// They are not.
        case none
        /// They are, and may have none. One that is shown must lead to these roots.
        case optional(TLSTrustRoots)
        /// They are, and must show one that leads to these roots.
        case required(TLSTrustRoots)
    }

    /// What the server shows: the first whose names match what the client asks for (SNI, RFC 6066 §3), by name or by
    /// wildcard; the first of all if none does. Of several for the same names the client's algorithms decide.
    public var credentials: [TLSCredentials]
    /// Whether clients are asked for a certificate (mutual TLS).
    public var clientCertificates: ClientCertificates = .none
    /// A decision about clients of our own; `nil` for none.
    public var verifyPeer: TLSPeerVerifier?
    /// The oldest version that is spoken.
    public var minimumVersion = TLSVersion.tls12
    /// The newest version that is spoken; `nil` for the newest there is.
    public var maximumVersion: TLSVersion?
    /// The suites of TLS 1.2, in OpenSSL's notation. Those that RFC 9113 §9.2.2 forbids are refused.
    public var cipherSuites = TLSCipherSuites.tls12
    /// The suites of TLS 1.3, in OpenSSL's notation, the preferred one first.
    public var cipherSuitesTLS13 = TLSCipherSuites.tls13
    /// Whether clients get tickets to resume their session with (RFC 5077, RFC 8446 §4.6.1), for two hours from the
    /// handshake in which certificates were shown. The key for them never leaves memory. It is made anew each time that
    /// the configuration is loaded, and every two hours; the one before it is good for another two.
    public var sessionTickets = true

    /// A server that shows `credentials`; there must be at least one.
    public init(credentials: [TLSCredentials]) { self.credentials = credentials }
}

/// The TLS of a client.
///
/// `h2` is the only protocol that it agrees on (ALPN); a server without it is refused.
public struct ClientTLS: Sendable {
    /// What is checked of the server's certificate.
    public enum Verification: Hashable, Sendable {
        /// That it leads to a root that is trusted, and is for the host's name or IP address (RFC 9525). A common name
        /// does not count.
        case full
        /// That it leads to a root that is trusted. For whom it is, is left to ``ClientTLS/verifyPeer``.
        case chain
        /// Nothing: the connection is encrypted, to anybody. For tests, or with ``ClientTLS/verifyPeer`` for pins.
        case none
    }

    /// The authorities that the server's certificate has to lead to.
    public var trustRoots = TLSTrustRoots.system
    /// What the client shows to a server that asks for a certificate; `nil` for none.
    public var credentials: TLSCredentials?
    /// The name to ask for and to find in the server's certificate, in place of the target's host.
    public var serverName: String?
    /// What is checked of the server's certificate.
    public var verification = Verification.full
    /// A decision about the server of our own; `nil` for none.
    public var verifyPeer: TLSPeerVerifier?
    /// The oldest version that is spoken.
    public var minimumVersion = TLSVersion.tls12
    /// The newest version that is spoken; `nil` for the newest there is.
    public var maximumVersion: TLSVersion?
    /// The suites of TLS 1.2, in OpenSSL's notation. Those that RFC 9113 §9.2.2 forbids are refused.
    public var cipherSuites = TLSCipherSuites.tls12
    /// The suites of TLS 1.3, in OpenSSL's notation, the preferred one first.
    public var cipherSuitesTLS13 = TLSCipherSuites.tls13
    /// Whether sessions are resumed: a few per server name are kept in memory, each for two hours from the handshake in
    /// which the server showed its certificate, and not beyond the end of that.
    public var sessionResumption = true

    /// A client that trusts what the system trusts and shows no certificate.
    public init() {}
}

/// The cipher suites that are spoken unless one asks for others: ephemeral keys and AEAD alone, so that RFC 9113 §9.2.2
/// is obeyed, with 128 bits first because that is faster and enough.
public enum TLSCipherSuites {
    /// For TLS 1.2, the one that RFC 9113 §9.2.2 demands among them.
    public static let tls12 =
        "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
        + "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
        + "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
    /// For TLS 1.3.
    public static let tls13 = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
}
