internal import COpenSSL

// The handshake, and what it has agreed on.

// SAFETY: see `TLSSession`; what a call is given is the caller's for its length.
extension TLSSession {
    func handshake() {
        OpenSSLErrors.clear()
        let result = unsafe SSL_do_handshake(handle)
        if result == 1 { return handshakeEnded() }
        switch unsafe SSL_get_error(handle, result) {
        case SSL_ERROR_WANT_READ: break
        case SSL_ERROR_WANT_RETRY_VERIFY: state = .awaitingVerification(peerToVerify ?? TLSPeer())
        case SSL_ERROR_ZERO_RETURN:
            fail(TLSError(.truncated, "\(peerRole) closed TLS (close_notify) in the middle of the handshake"))
        default: fail(describe(OpenSSLErrors.take()))
        }
    }

    private func handshakeEnded() {
        guard let selected = selectedProtocol, selected == "h2" else {
            unsafe SSL_shutdown(handle)
            return fail(describeMissingProtocol())
        }
        state = .established
        isHandshakeOver = true
        guard context.role == .server, context.verifyPeer != nil, let peer = makePeer() else { return }
        state = .awaitingVerification(peer)
    }

    func fail(_ error: TLSError) {
        state = .failed(error)
        held = []
    }

    func describe(_ errors: OpenSSLErrors) -> TLSError {
        if let verificationError { return verificationError }
        if protocolsOffered != nil { return describeMissingProtocol() }
        return TLSError(errors, from: peerRole, isClient: context.role == .client)
    }

    private func describeMissingProtocol() -> TLSError {
        var text = "\(peerRole) did not agree on h2 (ALPN)"
        if let offered = protocolsOffered {
            text += offered.isEmpty ? ": it offers no protocol" : ": it offers \(offered.joined(separator: ", "))"
        }
        return TLSError(.noApplicationProtocol, text)
    }

    /// Asks OpenSSL to look for a name, and to demand it of the server's certificate.
    func expect(_ name: ServerName) throws(TLSError) {
        OpenSSLErrors.clear()
        guard name.isWellFormed else {
            throw TLSError(.invalidConfiguration, "“\(name.text)” is no server name: it has an empty label or a NUL")
        }
        if !name.isAddress, !name.text.isEmpty, unsafe copenssl_set_server_name(handle, name.text) != 1 {
            throw TLSError(.invalidConfiguration, "“\(name.text)” is no server name\(OpenSSLErrors.take().suffix)")
        }
        guard context.verification == .full else { return }
        let flags = UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT)
        unsafe SSL_set_hostflags(handle, flags)
        let isSet =
            name.isAddress
            ? unsafe X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(handle), name.text)
            : unsafe name.text.isEmpty ? 0 : SSL_set1_host(handle, name.text)
        guard isSet == 1 else {
            throw TLSError(.invalidConfiguration, "there is no server name to verify: “\(name.text)”")
        }
    }

    /// From OpenSSL: is this peer's certificate acceptable?
    func verify(_ storeContext: OpaquePointer) -> Bool {
        switch decision {
        case .accepted:
            unsafe X509_STORE_CTX_set_error(storeContext, X509_V_OK)
            return true
        case .refused(let error):
            unsafe X509_STORE_CTX_set_error(storeContext, X509_V_ERR_APPLICATION_VERIFICATION)
            verificationError = error
            return false
        case .open: break
        }
        if context.verification == .none {
            unsafe X509_STORE_CTX_set_error(storeContext, X509_V_OK)
        } else if unsafe X509_verify_cert(storeContext) != 1 {
            verificationError = unsafe TLSError(verificationOf: storeContext, from: peerRole, serverName: serverName)
            return false
        }
        guard context.role == .client, context.verifyPeer != nil else { return true }
        guard let certificate = unsafe X509_STORE_CTX_get0_cert(storeContext) else { return false }
        peerToVerify = unsafe TLSPeer(
            certificate: certificate,
            chain: X509_STORE_CTX_get0_untrusted(storeContext),
            isVerified: context.verification != .none
        )
        return unsafe copenssl_set_retry_verify(handle) == 1
    }

    /// From OpenSSL: a session that may be resumed later; the reference is ours.
    func keep(_ session: OpaquePointer) {
        let isContinued = unsafe SSL_session_reused(handle) == 1
        let session = unsafe ResumableSession(
            session,
            authenticatedAt: isContinued ? resumedAuthentication : nil,
            secondsMax: SSL_CTX_get_timeout(context.primary)
        )
        guard let serverName, let resumable = context.resumable else { return }
        if case .failed = state { return }
        resumable.insert(session, for: serverName)
    }
}

// MARK: - What was agreed

// SAFETY: see `TLSSession`; what a call is given is the caller's for its length.
extension TLSSession {
    /// Who is at the other end, for messages.
    var peerRole: String { context.role == .client ? "the server" : "the client" }

    private var selectedProtocol: String? {
        var bytes: UnsafePointer<UInt8>?
        var count: UInt32 = 0
        unsafe SSL_get0_alpn_selected(handle, &bytes, &count)
        guard let bytes = unsafe bytes, count > 0 else { return nil }
        return unsafe String(decoding: UnsafeBufferPointer(start: bytes, count: Int(count)), as: UTF8.self)
    }

    private func makePeer() -> TLSPeer? {
        guard let certificate = unsafe SSL_get0_peer_certificate(handle) else { return nil }
        let isVerified = unsafe context.verification != .none && SSL_get_verify_result(handle) == Int(X509_V_OK)
        return unsafe TLSPeer(certificate: certificate, chain: SSL_get_peer_cert_chain(handle), isVerified: isVerified)
    }

    func makeInfo() -> TLSConnectionInfo? {
        guard unsafe SSL_is_init_finished(handle) == 1, let selected = selectedProtocol else { return nil }
        let asked = unsafe SSL_get_servername(handle, TLSEXT_NAMETYPE_host_name).map { unsafe String(cString: $0) }
        let suite = unsafe SSL_CIPHER_get_name(SSL_get_current_cipher(handle)).map { unsafe String(cString: $0) }
        return TLSConnectionInfo(
            version: unsafe String(cString: SSL_get_version(handle)),
            cipherSuite: suite ?? "",
            applicationProtocol: selected,
            serverName: asked,
            isResumed: unsafe SSL_session_reused(handle) == 1,
            peer: makePeer()
        )
    }
}
