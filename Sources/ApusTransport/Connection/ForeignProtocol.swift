internal import ApusBase

/// What a peer seems to speak that opened a connection with something other than HTTP/2.
struct ForeignProtocol {
    let description: String
    /// What tells the peer, in its own protocol.
    let answer: [UInt8]?

    private static let http1Answer: String = {
        let body = "This is a gRPC server: it speaks HTTP/2 only.\n"
        return "HTTP/1.1 505 HTTP Version Not Supported\r\nConnection: close\r\nContent-Type: text/plain\r\n"
            + "Content-Length: \(body.utf8.count)\r\n\r\n\(body)"
    }()

    /// `nil` when the bytes look like HTTP/2.
    init?(firstBytes: UnsafeRawBufferPointer) {
        // SAFETY: the bytes are the caller's for the length of this call, and are copied.
        let bytes = unsafe [UInt8](firstBytes.prefix(64))
        if bytes.starts(with: "PRI * HTTP/2.0".utf8) { return nil }
        let firstLine = bytes.prefix { $0 != 0x0D && $0 != 0x0A }
        if firstLine.contains(subsequence: " HTTP/1.") || Self.methods.contains(where: { bytes.starts(with: $0.utf8) })
        {
            description = "the peer speaks HTTP/1: \"\(String(peerText: firstLine))\""
            answer = Array(Self.http1Answer.utf8)
        } else if bytes.starts(with: [0x16, 0x03]) {
            description = "the peer speaks TLS, and this port does not"
            // A fatal alert, handshake_failure (RFC 8446 §6), so that the peer need not guess.
            answer = [0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x28]
        } else {
            let hex = bytes.prefix(16).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: " ")
            description = "the peer does not speak HTTP/2; its first bytes: \(hex)"
            answer = nil
        }
    }

    /// What a server speaks that answered a client's preface with something other than HTTP/2; `nil` when the bytes
    /// look like HTTP/2, or are too few to tell.
    init?(answer firstBytes: UnsafeRawBufferPointer) {
        // SAFETY: the bytes are the caller's for the length of this call, and are copied.
        let bytes = unsafe [UInt8](firstBytes.prefix(64))
        if bytes.starts(with: "HTTP/1.".utf8) {
            let firstLine = bytes.prefix { $0 != 0x0D && $0 != 0x0A }
            description = "the server speaks HTTP/1: \"\(String(peerText: firstLine))\""
        } else if bytes.count >= 3, bytes[0] == 0x15 || bytes[0] == 0x16, bytes[1] == 0x03, bytes[2] <= 0x04 {
            description = "the server speaks TLS, and this channel does not"
        } else if bytes.count >= 4, bytes[3] != 0x04 {
            // The first frame of a server is SETTINGS, type 4 (RFC 9113 §3.4).
            let hex = bytes.prefix(16).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: " ")
            description = "the server does not speak HTTP/2; its first bytes: \(hex)"
        } else {
            return nil
        }
        answer = nil
    }

    private static let methods = [
        "GET ", "POST ", "HEAD ", "PUT ", "DELETE ", "OPTIONS ", "PATCH ", "CONNECT ", "TRACE ",
    ]
}

extension ArraySlice where Element == UInt8 {
    fileprivate func contains(subsequence text: String) -> Bool {
        let text = Array(text.utf8)
        guard count >= text.count else { return false }
        return (startIndex...(endIndex - text.count)).contains { self[$0..<($0 + text.count)].elementsEqual(text) }
    }
}
