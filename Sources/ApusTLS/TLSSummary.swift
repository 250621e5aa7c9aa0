internal import COpenSSL

/// A connection's security as channelz shows it.
package struct TLSSummary: Hashable, Sendable {
    /// The cipher suite by its name in the RFCs, such as `TLS_AES_128_GCM_SHA256`; `nil` if it has none.
    package var standardCipherSuite: String?
    /// The cipher suite in OpenSSL's notation.
    package var cipherSuite: String
    /// The certificate of this side in DER; empty if it has none. A client's is one that it has, asked for or not.
    package var localCertificate: [UInt8]
    /// The certificate of the peer in DER; empty if it showed none.
    package var remoteCertificate: [UInt8]
}

extension TLSSession {
    /// What was agreed on; `nil` before the connection is established.
    package var summary: TLSSummary? {
        // SAFETY: see `TLSSession`; the names are OpenSSL's constants, the certificate is the session's, and all are
        // copied.
        switch state {
        case .handshaking, .awaitingVerification: return nil
        case .established, .closed, .failed: break
        }
        guard let info else { return nil }
        let cipher = unsafe SSL_get_current_cipher(handle)
        let standardName = unsafe cipher.flatMap { unsafe SSL_CIPHER_standard_name($0) }
            .map { unsafe String(cString: $0) }
        let own = unsafe SSL_get_certificate(handle)
        return TLSSummary(
            standardCipherSuite: standardName,
            cipherSuite: info.cipherSuite,
            localCertificate: unsafe own.map { unsafe TLSPeer.der(of: $0) } ?? [],
            remoteCertificate: info.peer?.certificateChain.first ?? []
        )
    }
}
