internal import COpenSSL

/// What a client wants to reach: a DNS name, or an IP address.
struct ServerName {
    /// Without the brackets and the zone of an IPv6 address, and without the dot of DNS' root.
    let text: String
    let isAddress: Bool

    init(_ host: String) {
        var host = Substring(host)
        if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
        let address = String(host.prefix { $0 != "%" })
        // SAFETY: what OpenSSL makes of the text is freed at once.
        let parsed = unsafe a2i_IPADDRESS(address)
        defer { unsafe ASN1_OCTET_STRING_free(parsed) }
        isAddress = unsafe parsed != nil
        text = isAddress ? address : CertificateNames.normalized(host)
    }

    /// OpenSSL takes a name that begins with a dot for all names below it, and a NUL for the end.
    var isWellFormed: Bool {
        isAddress || text.isEmpty
            || text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
                .allSatisfy { !$0.isEmpty && !$0.contains(0) }
    }
}

/// What a peer sends that does not speak TLS.
enum ForeignBytes {
    private static let handshakeRecord: UInt8 = 22
    private static let alertRecord: UInt8 = 21
    private static let shownBytesMax = 16

    /// What the first bytes of a connection seem to be; `nil` if they may be TLS.
    static func description(of bytes: UnsafeRawBufferPointer) -> String? {
        // SAFETY: `bytes` is the caller's for the length of this call.
        // The highest bit begins a hello of SSL 2 or 3, which OpenSSL itself refuses.
        guard let first = unsafe bytes.first, first != handshakeRecord, first != alertRecord, first < 0x80 else {
            return nil
        }
        if unsafe bytes.starts(with: "PRI * HTTP/2.0".utf8) { return "it sent HTTP/2 without TLS" }
        if unsafe bytes.starts(with: "HTTP/1.".utf8) { return "it answered with HTTP/1" }
        // The first frame of an HTTP/2 server is SETTINGS, of type 4 and with a length below 2^16.
        if bytes.count > 4, first == 0, unsafe bytes[3] == 4 { return "it sent HTTP/2 without TLS" }
        let methods = ["GET ", "POST ", "HEAD ", "PUT ", "OPTIONS ", "CONNECT ", "DELETE ", "PATCH "]
        if methods.contains(where: { unsafe bytes.starts(with: $0.utf8) }) { return "it sent a request of HTTP/1" }
        let shown = unsafe bytes.prefix(shownBytesMax)
        if unsafe shown.allSatisfy({ (0x20..<0x7f).contains($0) || $0 == 0x0d || $0 == 0x0a }) {
            let text = unsafe String(decoding: shown, as: UTF8.self).split(whereSeparator: \.isNewline).first ?? ""
            return "it began with “\(text)”"
        }
        return "it began with the bytes "
            + (unsafe shown.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) })
            .joined(separator: " ")
    }
}
