internal import COpenSSL

/// A certificate, its chain and its key in OpenSSL's form.
///
/// SAFETY: each pointer is a reference of this object's own, given back in deinit; users take references of theirs.
@safe
final class LoadedCredentials {
    let certificate: OpaquePointer
    let key: OpaquePointer
    /// The certificates after the first.
    let intermediates: OpaquePointer
    /// The names that a client may ask for: those of the certificate, or its common name where it has none.
    let names: CertificateNames
    /// The kind of key: a context holds one certificate of each.
    let keyType: CInt
    /// Whether to sign with the key takes a millisecond or more.
    let keyIsSlow: Bool

    init(_ credentials: TLSCredentials) throws(TLSError) {
        let parts: CredentialParts
        switch credentials.form {
        case .pem(let chain, let key):
            parts = try CredentialParts(chain: chain, key: key, passphrase: credentials.passphrase)
        case .pkcs12(let source): parts = try CredentialParts(pkcs12: source, passphrase: credentials.passphrase)
        }
        guard let certificate = unsafe parts.certificate, let key = unsafe parts.key,
            let intermediates = unsafe parts.intermediates
        else { throw TLSError(.malformedCredentials, "\(credentials): no certificate and key") }
        OpenSSLErrors.clear()
        guard unsafe X509_check_private_key(certificate, key) == 1 else {
            let errors = OpenSSLErrors.take()
            throw TLSError(
                .keyMismatch,
                "the private key does not match the certificate: \(credentials)\(errors.suffix)"
            )
        }
        unsafe (self.certificate, self.key, self.intermediates) = unsafe parts.release(certificate, key, intermediates)
        keyType = unsafe EVP_PKEY_get_base_id(key)
        keyIsSlow = Self.isSlow(keyType, bits: unsafe EVP_PKEY_get_bits(key))
        names = unsafe CertificateNames(TLSPeer(certificate: certificate, chain: nil, isVerified: false))
    }

    /// To sign takes OpenSSL 3.0 0.03 ms with P-256 and 0.4 ms with RSA of 2048 bits, for which it has assembly; 3 ms
    /// with RSA of 3072 bits, 7 ms with 4096, 1.6 ms with P-384.
    private static func isSlow(_ keyType: CInt, bits: CInt) -> Bool {
        switch keyType {
        case EVP_PKEY_RSA, EVP_PKEY_RSA_PSS: bits > 2048
        case EVP_PKEY_EC: bits > 256
        default: false
        }
    }

    deinit {
        unsafe X509_free(certificate)
        unsafe EVP_PKEY_free(key)
        unsafe copenssl_certificates_free(intermediates)
    }
}

/// What was read so far of credentials; what nobody took over is freed.
///
/// SAFETY: each pointer is this object's own until ``release(_:_:_:)``.
@safe
private final class CredentialParts {
    var certificate: OpaquePointer?
    var key: OpaquePointer?
    var intermediates: OpaquePointer?

    init(chain: TLSSource, key: TLSSource, passphrase: String?) throws(TLSError) {
        let certificates = try PEMReading.certificates(in: chain)
        unsafe intermediates = certificates.release()
        // The first is what is shown; it moves out of the list.
        unsafe certificate = copenssl_certificate_take_first(intermediates)
        unsafe self.key = try PEMReading.privateKey(in: key, passphrase: passphrase)
    }

    init(pkcs12 source: TLSSource, passphrase: String?) throws(TLSError) {
        let bytes = try source.load()
        OpenSSLErrors.clear()
        let bundle = unsafe bytes.withUnsafeBytes { buffer in
            var start = unsafe buffer.baseAddress?.assumingMemoryBound(to: UInt8.self)
            return unsafe d2i_PKCS12(nil, &start, buffer.count)
        }
        guard let bundle = unsafe bundle else {
            throw TLSError(
                .malformedCredentials,
                "\(source.name) is not a PKCS#12 bundle\(OpenSSLErrors.take().suffix)"
            )
        }
        defer { unsafe PKCS12_free(bundle) }
        guard unsafe PKCS12_parse(bundle, passphrase, &key, &certificate, &intermediates) == 1 else {
            let errors = OpenSSLErrors.take()
            if errors.contains(library: ERR_LIB_PKCS12, reason: PKCS12_R_MAC_VERIFY_FAILURE) {
                let what = passphrase == nil ? "needs a passphrase" : "was given a wrong passphrase"
                throw TLSError(.wrongPassphrase, "the PKCS#12 bundle \(source.name) \(what)\(errors.suffix)")
            }
            throw TLSError(.malformedCredentials, "cannot read the PKCS#12 bundle \(source.name)\(errors.suffix)")
        }
        guard unsafe key != nil else {
            throw TLSError(.malformedCredentials, "there is no private key in the PKCS#12 bundle \(source.name)")
        }
        guard let certificate = unsafe certificate else {
            throw TLSError(
                .malformedCredentials,
                "there is no certificate for the private key in the PKCS#12 bundle \(source.name)"
            )
        }
        unsafe intermediates = copenssl_certificates_in_order(certificate, intermediates)
    }

    func release(
        _ certificate: OpaquePointer,
        _ key: OpaquePointer,
        _ intermediates: OpaquePointer
    ) -> (OpaquePointer, OpaquePointer, OpaquePointer) {
        unsafe self.certificate = nil
        unsafe self.key = nil
        unsafe self.intermediates = nil
        return unsafe (certificate, key, intermediates)
    }

    deinit {
        unsafe X509_free(certificate)
        unsafe EVP_PKEY_free(key)
        unsafe copenssl_certificates_free(intermediates)
    }
}

/// A list of certificates of its own.
///
/// SAFETY: the list is this object's until ``release()``.
@safe
final class CertificateList {
    private(set) var pointer: OpaquePointer?

    /// Takes over a list.
    init(_ pointer: OpaquePointer) { unsafe self.pointer = unsafe pointer }

    var count: CInt { unsafe pointer.map { unsafe copenssl_certificate_count($0) } ?? 0 }

    /// Adds the certificates of another list.
    func append(_ other: CertificateList) throws(TLSError) {
        guard unsafe copenssl_certificates_append(pointer, other.pointer) == 1 else {
            throw TLSError(.protocolFailure, "OpenSSL has no memory")
        }
    }

    func release() -> OpaquePointer? {
        defer { unsafe pointer = nil }
        return unsafe pointer
    }

    deinit { unsafe copenssl_certificates_free(pointer) }
}

/// Reads what PEM texts hold.
enum PEMReading {
    /// All certificates of a text, in their order; at least one.
    static func certificates(in source: TLSSource) throws(TLSError) -> CertificateList {
        // SAFETY: the bytes outlive the BIO that reads from them; each certificate read goes into the list, ours.
        let bytes = try source.load()
        OpenSSLErrors.clear()
        let list = unsafe bytes.withUnsafeBytes { buffer -> CertificateList? in
            guard let input = unsafe BIO_new_mem_buf(buffer.baseAddress, CInt(clamping: buffer.count)) else {
                return nil
            }
            defer { unsafe BIO_free(input) }
            return unsafe copenssl_certificates_read(input).map { unsafe CertificateList($0) }
        }
        let errors = OpenSSLErrors.take()
        // The end of the text is met as "no start line".
        let isAtEnd = errors.contains(library: ERR_LIB_PEM, reason: PEM_R_NO_START_LINE)
        guard let list, isAtEnd else {
            throw TLSError(.malformedCredentials, "cannot read the certificates in \(source.name)\(errors.suffix)")
        }
        guard list.count > 0 else {
            throw TLSError(.malformedCredentials, "there is no certificate in \(source.name)\(errors.suffix)")
        }
        return list
    }

    /// The private key of a text: a reference that is the caller's.
    static func privateKey(in source: TLSSource, passphrase: String?) throws(TLSError) -> OpaquePointer {
        let bytes = try source.load()
        OpenSSLErrors.clear()
        var request = PassphraseRequest(passphrase: passphrase.map { Array($0.utf8) })
        // SAFETY: the bytes outlive the BIO that reads from them, and `request` the call that is given its address.
        let key = unsafe bytes.withUnsafeBytes { buffer -> OpaquePointer? in
            guard let input = unsafe BIO_new_mem_buf(buffer.baseAddress, CInt(clamping: buffer.count)) else {
                return nil
            }
            defer { unsafe BIO_free(input) }
            return unsafe withUnsafeMutablePointer(to: &request) {
                unsafe PEM_read_bio_PrivateKey(input, nil, PassphraseRequest.answer, $0)
            }
        }
        let errors = OpenSSLErrors.take()
        if let key = unsafe key { return unsafe key }
        guard request.wasMade else {
            throw TLSError(.malformedCredentials, "there is no private key in \(source.name)\(errors.suffix)")
        }
        let problem = passphrase == nil ? "is encrypted, and no passphrase was given" : "was given a wrong passphrase"
        throw TLSError(.wrongPassphrase, "the private key in \(source.name) \(problem)\(errors.suffix)")
    }
}

/// What OpenSSL asks when it meets an encrypted key. Without a callback it would ask the terminal.
private struct PassphraseRequest {
    let passphrase: [UInt8]?
    var wasMade = false

    typealias Answer =
        @convention(c) (UnsafeMutablePointer<CChar>?, CInt, CInt, UnsafeMutableRawPointer?) -> CInt

    static let answer: Answer = { buffer, capacity, _, userData in
        // SAFETY: `userData` is what `privateKey` gave, and `buffer` has room for `capacity` bytes.
        guard let request = unsafe userData?.assumingMemoryBound(to: PassphraseRequest.self) else { return -1 }
        unsafe request.pointee.wasMade = true
        guard let passphrase = unsafe request.pointee.passphrase, passphrase.count <= Int(capacity) else { return -1 }
        unsafe UnsafeMutableRawBufferPointer(start: buffer, count: Int(capacity)).copyBytes(from: passphrase)
        return CInt(passphrase.count)
    }
}

extension TLSSource {
    /// More than this is no certificate, key or list of roots.
    private static var bytesMax: Int { 64 * 1024 * 1024 }

    /// The content.
    func load() throws(TLSError) -> [UInt8] {
        guard case .file(let path) = self else {
            if case .bytes(let bytes) = self { return bytes }
            return []
        }
        OpenSSLErrors.clear()
        // SAFETY: the BIO is ours until it is freed, and fills a buffer that it is told the size of.
        guard let file = unsafe BIO_new_file(path, "rb") else { throw Self.unreadable(path) }
        defer { unsafe BIO_free(file) }
        var content: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 64 * 1024)
        while content.count < Self.bytesMax {
            let count = unsafe chunk.withUnsafeMutableBytes { unsafe BIO_read(file, $0.baseAddress, CInt($0.count)) }
            if count < 0 { throw Self.unreadable(path) }
            if count == 0 { return content }
            content.append(contentsOf: chunk[..<Int(count)])
        }
        throw TLSError(.unreadableFile, "\(path) is larger than \(Self.bytesMax) bytes")
    }

    private static func unreadable(_ path: String) -> TLSError {
        TLSError(.unreadableFile, "cannot read \(path)\(OpenSSLErrors.take().suffix)")
    }
}
