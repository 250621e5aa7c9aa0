internal import COpenSSL

/// Who is at the other end, by the certificate it showed.
public struct TLSPeer: Hashable, Sendable {
    /// The subject's distinguished name, the most specific part first (RFC 4514), for example `CN=client,O=Example`.
    public var subject = ""
    /// The DNS names of the certificate (subject alternative names).
    public var dnsNames: [String] = []
    /// The IP addresses of the certificate, in text.
    public var ipAddresses: [String] = []
    /// The URIs of the certificate.
    public var uris: [String] = []
    /// The mail addresses of the certificate.
    public var emailAddresses: [String] = []
    /// The certificates as the peer sent them, its own first, in DER. On a session that a server resumed only the first
    /// is known.
    public var certificateChain: [[UInt8]] = []
    /// Whether the chain was found to lead to a root that is trusted.
    public var isVerified = false

    /// The SPIFFE ID: the URI of a certificate that has exactly one, if its scheme is `spiffe` (X.509-SVID §2).
    public var spiffeID: String? {
        guard uris.count == 1, let uri = uris.first, uri.hasPrefix("spiffe://") else { return nil }
        return uri
    }
}

/// What a handshake has agreed on.
public struct TLSConnectionInfo: Hashable, Sendable {
    /// `TLSv1.3` or `TLSv1.2`.
    public var version: String
    /// The cipher suite, in OpenSSL's notation.
    public var cipherSuite: String
    /// What ALPN selected: `h2`.
    public var applicationProtocol: String
    /// The name that the client asked for (SNI), if it asked for one.
    public var serverName: String?
    /// Whether the session is an earlier one, resumed.
    public var isResumed: Bool
    /// Who the peer is; `nil` if it showed no certificate.
    public var peer: TLSPeer?
}

extension TLSPeer {
    /// Reads a certificate, and the chain that it came with, if that is known.
    ///
    /// SAFETY: the pointers are the caller's for the length of the call, and what is read is copied.
    init(certificate: OpaquePointer, chain: OpaquePointer?, isVerified: Bool) {
        self.isVerified = isVerified
        unsafe subject = Self.text(of: X509_get_subject_name(certificate))
        unsafe readAlternativeNames(of: certificate)
        unsafe certificateChain.append(Self.der(of: certificate))
        guard let chain = unsafe chain else { return }
        for index in 0..<(unsafe copenssl_certificate_count(chain)) {
            let link = unsafe copenssl_certificate(chain, index)
            // OpenSSL's chain of a server begins with the certificate, that of a client behind it.
            if index == 0, unsafe X509_cmp(link, certificate) == 0 { continue }
            unsafe certificateChain.append(Self.der(of: link))
        }
    }

    private mutating func readAlternativeNames(of certificate: OpaquePointer) {
        // SAFETY: the list is ours until it is freed; the bytes of its names are copied before that.
        guard let names = unsafe copenssl_alternative_names(certificate) else { return }
        defer { unsafe copenssl_alternative_names_free(names) }
        for index in 0..<(unsafe copenssl_alternative_name_count(names)) {
            var start: UnsafePointer<UInt8>?
            var count: CInt = 0
            let kind = unsafe copenssl_alternative_name(names, index, &start, &count)
            let bytes = unsafe UnsafeBufferPointer(start: start, count: Int(count))
            switch kind {
            case copenssl_name_ip: unsafe ipAddresses.append(IPAddressText.text(of: Array(bytes)))
            case copenssl_name_dns: unsafe dnsNames.append(String(decoding: bytes, as: UTF8.self))
            case copenssl_name_uri: unsafe uris.append(String(decoding: bytes, as: UTF8.self))
            case copenssl_name_email: unsafe emailAddresses.append(String(decoding: bytes, as: UTF8.self))
            default: break
            }
        }
    }

    static func der(of certificate: OpaquePointer?) -> [UInt8] {
        // SAFETY: i2d allocates what it writes, which is copied and freed here.
        var start: UnsafeMutablePointer<UInt8>?
        let count = unsafe i2d_X509(certificate, &start)
        defer { unsafe copenssl_free(start) }
        return count > 0 ? unsafe Array(UnsafeBufferPointer(start: start, count: Int(count))) : []
    }

    /// A distinguished name in the order and with the escapes of RFC 4514, in UTF-8.
    static func text(of name: OpaquePointer?) -> String {
        // SAFETY: the memory BIO lives until the end of the function, and its bytes are copied before.
        guard let name = unsafe name, let output = unsafe BIO_new(BIO_s_mem()) else { return "" }
        defer { unsafe BIO_free(output) }
        unsafe X509_NAME_print_ex(output, name, 0, copenssl_name_format)
        return unsafe text(in: output)
    }

    /// What was printed into a memory BIO.
    static func text(in output: OpaquePointer) -> String {
        // SAFETY: the bytes are the BIO's, which the caller keeps, and are copied.
        var start: UnsafeMutablePointer<CChar>?
        let count = unsafe copenssl_bio_memory(output, &start)
        return unsafe String(decoding: UnsafeRawBufferPointer(start: start, count: max(0, count)), as: UTF8.self)
    }

    /// All alternative names, for a person to read: `DNS:localhost, IP:127.0.0.1`.
    var alternativeNames: String {
        let names =
            dnsNames.map { "DNS:\($0)" } + ipAddresses.map { "IP:\($0)" } + uris.map { "URI:\($0)" }
            + emailAddresses.map { "email:\($0)" }
        return names.joined(separator: ", ")
    }
}

/// IP addresses as text, without the C library.
enum IPAddressText {
    /// The text of an address of 4 or 16 bytes (RFC 5952); hexadecimal for any other number of them.
    static func text(of bytes: [UInt8]) -> String {
        switch bytes.count {
        case 4: return bytes.map { String($0) }.joined(separator: ".")
        case 16:
            let groups = stride(from: 0, to: 16, by: 2).map { UInt16(bytes[$0]) << 8 | UInt16(bytes[$0 + 1]) }
            return textOfIPv6(groups)
        default: return bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        }
    }

    private static func textOfIPv6(_ groups: [UInt16]) -> String {
        // The longest run of two or more zeros, the first of equals, becomes `::`.
        var best = 0..<0
        var start = 0
        for index in 0...groups.count where index == groups.count || groups[index] != 0 {
            if index - start > max(1, best.count) { best = start..<index }
            start = index + 1
        }
        let hex: (ArraySlice<UInt16>) -> String = { $0.map { String($0, radix: 16) }.joined(separator: ":") }
        if best.isEmpty { return hex(groups[...]) }
        return hex(groups[..<best.lowerBound]) + "::" + hex(groups[best.upperBound...])
    }
}
