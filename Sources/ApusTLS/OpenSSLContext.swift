internal import COpenSSL

/// A context of OpenSSL, set up as strictly for servers as for clients.
///
/// SAFETY: the pointer is this object's own reference, given back in deinit.
@safe
final class OpenSSLContext {
    let pointer: OpaquePointer

    /// Keys under 112 bits of security and SHA-1 signatures are refused, as Debian's OpenSSL does by itself.
    private static let securityLevel: CInt = 2
    /// Intermediates between a peer's certificate and a root.
    private static let chainDepthMax: CInt = 10
    /// A client that resumes gets a new one, so that one is enough for a connection at a time.
    private static let ticketsPerHandshake = 1
    /// `h2`, with its length in front (RFC 7301 §3.1).
    static let protocols: [UInt8] = [2, UInt8(ascii: "h"), UInt8(ascii: "2")]

    private init(
        versions: (minimum: TLSVersion, maximum: TLSVersion?),
        suites: (tls12: String, tls13: String)
    ) throws(TLSError) {
        OpenSSLErrors.clear()
        guard copenssl_start() == 1, let context = unsafe SSL_CTX_new(TLS_method()) else {
            throw TLSError(.protocolFailure, "OpenSSL gives no context\(OpenSSLErrors.take().suffix)")
        }
        unsafe pointer = context
        unsafe copenssl_ctx_set_options(context)
        unsafe SSL_CTX_set_security_level(context, Self.securityLevel)
        unsafe SSL_CTX_set_verify_depth(context, Self.chainDepthMax)
        unsafe SSL_CTX_set_cert_verify_callback(context, TLSCallbacks.verify, nil)
        unsafe SSL_CTX_set_info_callback(context, TLSCallbacks.step)
        unsafe _ = SSL_CTX_set_timeout(context, SessionLifetime.secondsMax)
        let maximum = versions.maximum?.number ?? 0
        guard versions.minimum <= versions.maximum ?? .tls13,
            unsafe copenssl_ctx_set_versions(context, versions.minimum.number, maximum) == 1
        else {
            throw TLSError(.invalidConfiguration, "TLS: the minimum version is above the maximum version")
        }
        try setSuites(suites)
    }

    convenience init(server: ServerTLS, trust: TrustStore?) throws(TLSError) {
        try self.init(
            versions: (server.minimumVersion, server.maximumVersion),
            suites: (server.cipherSuites, server.cipherSuitesTLS13)
        )
        unsafe SSL_CTX_set_client_hello_cb(pointer, TLSCallbacks.clientHello, nil)
        unsafe copenssl_ctx_set_server_name_callback(pointer, TLSCallbacks.serverName)
        unsafe SSL_CTX_set_alpn_select_cb(pointer, TLSCallbacks.selectProtocol, nil)
        // Tickets are all there is to resume by: nothing is kept for clients that have gone. A context says which
        // sessions are its own; tickets are bound to it by their key.
        unsafe copenssl_ctx_set_session_cache_mode(pointer, copenssl_session_cache_off)
        let name = Array("apus".utf8)
        unsafe SSL_CTX_set_session_id_context(pointer, name, UInt32(name.count))
        if server.sessionTickets {
            unsafe SSL_CTX_set_num_tickets(pointer, Self.ticketsPerHandshake)
            unsafe SSL_CTX_set_session_ticket_cb(pointer, TLSCallbacks.makeTicket, TLSCallbacks.useTicket, nil)
            unsafe SSL_CTX_set_tlsext_ticket_key_evp_cb(pointer, TLSCallbacks.ticketKey)
        } else {
            unsafe copenssl_ctx_disable_tickets(pointer)
        }
        switch server.clientCertificates {
        case .none: unsafe SSL_CTX_set_verify(pointer, SSL_VERIFY_NONE, nil)
        case .optional: unsafe SSL_CTX_set_verify(pointer, SSL_VERIFY_PEER, nil)
        case .required: unsafe SSL_CTX_set_verify(pointer, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nil)
        }
        if let trust { try use(trust, nameAuthorities: true) }
    }

    convenience init(client: ClientTLS) throws(TLSError) {
        try self.init(
            versions: (client.minimumVersion, client.maximumVersion),
            suites: (client.cipherSuites, client.cipherSuitesTLS13)
        )
        // What is verified is up to the callback.
        unsafe SSL_CTX_set_verify(pointer, SSL_VERIFY_PEER, nil)
        if client.verification != .none { try use(try TrustStore(client.trustRoots), nameAuthorities: false) }
        guard unsafe SSL_CTX_set_alpn_protos(pointer, Self.protocols, UInt32(Self.protocols.count)) == 0 else {
            throw Self.outOfMemory
        }
        if client.sessionResumption {
            unsafe copenssl_ctx_set_session_cache_mode(pointer, copenssl_session_cache_client)
            unsafe SSL_CTX_sess_set_new_cb(pointer, TLSCallbacks.newSession)
        } else {
            unsafe copenssl_ctx_set_session_cache_mode(pointer, copenssl_session_cache_off)
            unsafe copenssl_ctx_disable_tickets(pointer)
        }
    }

    deinit { unsafe SSL_CTX_free(pointer) }

    private static var outOfMemory: TLSError { TLSError(.protocolFailure, "OpenSSL has no memory") }

    private func setSuites(_ suites: (tls12: String, tls13: String)) throws(TLSError) {
        OpenSSLErrors.clear()
        guard unsafe SSL_CTX_set_cipher_list(pointer, suites.tls12) == 1 else {
            let problem = "OpenSSL knows no cipher suite of TLS 1.2 in “\(suites.tls12)”"
            throw TLSError(.invalidConfiguration, problem + OpenSSLErrors.take().suffix)
        }
        guard unsafe SSL_CTX_set_ciphersuites(pointer, suites.tls13) == 1 else {
            let problem = "OpenSSL knows no cipher suite of TLS 1.3 in “\(suites.tls13)”"
            throw TLSError(.invalidConfiguration, problem + OpenSSLErrors.take().suffix)
        }
        guard let list = unsafe SSL_CTX_get_ciphers(pointer) else { return }
        for index in 0..<(unsafe copenssl_cipher_count(list)) {
            let suite = unsafe copenssl_cipher(list, index)
            if unsafe copenssl_cipher_is_allowed(suite) == 0 {
                let name = unsafe SSL_CIPHER_get_name(suite).map { unsafe String(cString: $0) } ?? "a cipher suite"
                throw TLSError(.invalidConfiguration, "HTTP/2 forbids \(name) (RFC 9113 §9.2.2)")
            }
        }
    }

    /// Shows a certificate to peers.
    func show(_ loaded: LoadedCredentials, _ credentials: TLSCredentials) throws(TLSError) {
        OpenSSLErrors.clear()
        let result = unsafe SSL_CTX_use_cert_and_key(pointer, loaded.certificate, loaded.key, loaded.intermediates, 1)
        guard result == 1 else {
            let problem = "OpenSSL does not take the certificate: \(credentials)"
            throw TLSError(.invalidConfiguration, problem + OpenSSLErrors.take().suffix)
        }
    }

    private func use(_ trust: TrustStore, nameAuthorities: Bool) throws(TLSError) {
        unsafe SSL_CTX_set1_cert_store(pointer, trust.store)
        guard nameAuthorities, let roots = trust.roots else { return }
        // A client with several certificates chooses by the names of the authorities (RFC 8446 §4.2.4).
        guard let names = unsafe copenssl_names_new() else { throw Self.outOfMemory }
        for index in 0..<roots.count {
            guard let pointer = unsafe roots.pointer,
                unsafe copenssl_names_add(names, copenssl_certificate(pointer, index)) == 1
            else {
                unsafe copenssl_names_free(names)
                throw Self.outOfMemory
            }
        }
        // The context owns the names from here on.
        unsafe SSL_CTX_set0_CA_list(pointer, names)
    }
}

/// The authorities that are trusted.
///
/// SAFETY: the store is this object's own reference, given back in deinit; contexts have theirs.
@safe
final class TrustStore {
    let store: OpaquePointer
    /// The certificates themselves; `nil` for the system's, which OpenSSL looks up when it meets them.
    private(set) var roots: CertificateList?

    init(_ trust: TLSTrustRoots) throws(TLSError) {
        OpenSSLErrors.clear()
        guard copenssl_start() == 1, let store = unsafe X509_STORE_new() else {
            throw TLSError(.protocolFailure, "OpenSSL gives no store\(OpenSSLErrors.take().suffix)")
        }
        unsafe self.store = store
        switch trust {
        case .system:
            guard unsafe X509_STORE_set_default_paths(store) == 1 else {
                throw TLSError(.unreadableFile, "the system's roots cannot be used\(OpenSSLErrors.take().suffix)")
            }
        case .pem(let sources):
            // Whatever was given is trusted by itself, also a certificate that is not self-signed.
            unsafe X509_STORE_set_flags(store, UInt(X509_V_FLAG_PARTIAL_CHAIN))
            for source in sources { try add(try PEMReading.certificates(in: source), source) }
            guard roots != nil else { throw TLSError(.invalidConfiguration, "no trust roots were given") }
        }
    }

    deinit { unsafe X509_STORE_free(store) }

    private func add(_ list: CertificateList, _ source: TLSSource) throws(TLSError) {
        guard let certificates = unsafe list.pointer else { return }
        OpenSSLErrors.clear()
        for index in 0..<list.count {
            if unsafe X509_STORE_add_cert(store, copenssl_certificate(certificates, index)) != 1 {
                let errors = OpenSSLErrors.take()
                throw TLSError(.malformedCredentials, "cannot trust a certificate in \(source.name)\(errors.suffix)")
            }
        }
        if let roots { try roots.append(list) } else { roots = list }
    }
}

extension TLSVersion {
    var number: CInt {
        switch self {
        case .tls12: CInt(TLS1_2_VERSION)
        case .tls13: CInt(TLS1_3_VERSION)
        }
    }
}
