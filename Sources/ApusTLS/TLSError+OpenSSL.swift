internal import COpenSSL

extension TLSError {
    /// What OpenSSL says ended a handshake or a connection.
    init(_ errors: OpenSSLErrors, from peer: String, isClient: Bool) {
        if let alert = errors.alertReceived {
            let name = OpenSSLErrors.alertName(alert)
            if alert == UInt8(SSL_AD_NO_APPLICATION_PROTOCOL) {
                self.init(.noApplicationProtocol, "\(peer) did not agree on h2 (ALPN): it sent the alert \(name)")
            } else {
                let hint = Self.hint(alert, isClient: isClient).map { ": \($0)" } ?? ""
                self.init(.alert(alert), "\(peer) ended TLS with the alert \(name)\(hint)")
            }
        } else if errors.contains(library: ERR_LIB_SSL, reason: SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
            self.init(.noCertificate, "\(peer) showed no certificate, and must\(errors.suffix)")
        } else if errors.contains(library: ERR_LIB_SSL, reason: SSL_R_UNSUPPORTED_PROTOCOL) {
            self.init(.protocolFailure, "\(peer) speaks no version of TLS that is accepted here\(errors.suffix)")
        } else if errors.contains(library: ERR_LIB_SSL, reason: SSL_R_NO_SHARED_CIPHER) {
            self.init(.protocolFailure, "\(peer) speaks no cipher suite that is accepted here\(errors.suffix)")
        } else {
            self.init(.protocolFailure, "TLS with \(peer) failed\(errors.suffix)")
        }
    }

    /// What an alert usually means to the end that receives it.
    private static func hint(_ alert: UInt8, isClient: Bool) -> String? {
        let ours = isClient ? "this client's certificate" : "this server's certificate"
        switch CInt(alert) {
        case SSL_AD_UNKNOWN_CA: return "it does not know the authority of \(ours)"
        case SSL_AD_CERTIFICATE_EXPIRED: return "\(ours) has expired"
        case SSL_AD_BAD_CERTIFICATE, SSL_AD_CERTIFICATE_UNKNOWN, SSL_AD_CERTIFICATE_REVOKED,
            SSL_AD_UNSUPPORTED_CERTIFICATE:
            return "it does not accept \(ours)"
        case 116: return "it demands a certificate of this client"  // certificate_required (RFC 8446 §6.2)
        case SSL_AD_PROTOCOL_VERSION: return "it speaks no version of TLS that this end offers"
        case SSL_AD_HANDSHAKE_FAILURE: return "there is no cipher suite, or no kind of key, that both accept"
        default: return nil
        }
    }

    /// What OpenSSL found wrong with a certificate.
    ///
    /// SAFETY: the pointer is the caller's for the length of the call.
    init(verificationOf storeContext: OpaquePointer, from peer: String, serverName: String?) {
        let code = unsafe X509_STORE_CTX_get_error(storeContext)
        let words = unsafe String(cString: X509_verify_cert_error_string(Int(code)))
        let depth = unsafe X509_STORE_CTX_get_error_depth(storeContext)
        let leaf = unsafe X509_STORE_CTX_get0_cert(storeContext)
        let culprit = unsafe X509_STORE_CTX_get_current_cert(storeContext) ?? leaf
        let subject = unsafe culprit.map { unsafe TLSPeer.text(of: X509_get_subject_name($0)) } ?? ""
        let whose =
            depth == 0 ? "\(peer)'s certificate (\(subject))" : "the certificate of \(subject), above \(peer)'s,"
        let end = " (OpenSSL: \(words))"
        switch code {
        case X509_V_ERR_CERT_HAS_EXPIRED:
            let time = unsafe culprit.map { unsafe Self.text(X509_get0_notAfter($0)) } ?? ""
            self.init(.certificateExpired, "\(whose) has expired: it was valid until \(time)\(end)")
        case X509_V_ERR_CERT_NOT_YET_VALID:
            let time = unsafe culprit.map { unsafe Self.text(X509_get0_notBefore($0)) } ?? ""
            self.init(.certificateNotYetValid, "\(whose) is not valid yet: it will be from \(time)\(end)")
        case X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH:
            let names = unsafe leaf.map {
                unsafe TLSPeer(certificate: $0, chain: nil, isVerified: false).alternativeNames
            }
            let presented = names.flatMap { $0.isEmpty ? nil : "it is for \($0)" } ?? "it names no host"
            self.init(.wrongHost, "\(whose) is not for “\(serverName ?? "")”: \(presented)\(end)")
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
            X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,
            X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, X509_V_ERR_CERT_UNTRUSTED:
            let issuer = unsafe culprit.map { unsafe TLSPeer.text(of: X509_get_issuer_name($0)) } ?? ""
            self.init(
                .unknownAuthority,
                "\(whose) leads to no authority that is trusted; its issuer is \(issuer)\(end)"
            )
        default: self.init(.certificateRejected, "\(whose) is not acceptable\(end)")
        }
    }

    private static func text(_ time: UnsafePointer<ASN1_TIME>?) -> String {
        // SAFETY: the memory BIO lives until the end of the function, and its bytes are copied before.
        guard let output = unsafe BIO_new(BIO_s_mem()) else { return "" }
        defer { unsafe BIO_free(output) }
        unsafe ASN1_TIME_print(output, time)
        return unsafe TLSPeer.text(in: output)
    }
}
