@testable import ApusTLS

/// One end of a connection in memory: what it has received, and how it stands.
final class SessionEnd {
    let session: TLSSession
    private(set) var received: [UInt8] = []
    private(set) var deliveries = 0
    private var plaintext: [UInt8]

    init(_ session: TLSSession, plaintextBytes: Int = 32 * 1024) {
        self.session = session
        plaintext = [UInt8](repeating: 0, count: plaintextBytes)
    }

    var isEstablished: Bool { if case .established = session.state { true } else { false } }
    var isClosed: Bool { if case .closed = session.state { true } else { false } }
    var error: TLSError? { if case .failed(let error) = session.state { error } else { nil } }
    var peerToVerify: TLSPeer? { if case .awaitingVerification(let peer) = session.state { peer } else { nil } }

    /// All that the session wants to send, and `bytes` behind it.
    func output(of bytes: [UInt8] = [], roomBytes: Int = 40_000) -> [UInt8] {
        var output: [UInt8] = []
        var room = [UInt8](repeating: 0, count: roomBytes)
        var start = 0
        while true {
            let (consumed, written) = encrypt(bytes[start...], into: &room)
            start += consumed
            output += room[..<written]
            if consumed == 0, written == 0 { return output }
        }
    }

    /// One call of the session.
    func encrypt(_ bytes: ArraySlice<UInt8>, into room: inout [UInt8]) -> (consumed: Int, written: Int) {
        // SAFETY: the arrays outlive the call.
        unsafe bytes.withUnsafeBytes { bytes in
            unsafe room.withUnsafeMutableBytes { unsafe session.encrypt(bytes, into: $0) }
        }
    }

    func receive(_ bytes: some Collection<UInt8>) {
        // SAFETY: the arrays outlive the call.
        unsafe Array(bytes).withUnsafeBytes { ciphertext in
            unsafe plaintext.withUnsafeMutableBytes { room in
                _ = unsafe session.receive(ciphertext, plaintext: room) {
                    unsafe received += $0
                    deliveries += 1
                }
            }
        }
    }

    func decide(_ refusal: String?) {
        // SAFETY: the array outlives the call.
        unsafe plaintext.withUnsafeMutableBytes { room in
            _ = unsafe session.verificationEnded(refusal: refusal, plaintext: room) {
                unsafe received += $0
                deliveries += 1
            }
        }
    }
}

/// A client and a server, and the bytes between them in pieces of one size.
final class SessionPair {
    let client: SessionEnd
    let server: SessionEnd
    private let pieceBytes: Int

    init(
        _ client: TLSContext,
        _ server: TLSContext,
        host: String = "localhost",
        pieceBytes: Int = 64 * 1024
    ) throws {
        self.client = SessionEnd(try TLSSession(client: client, host: host))
        self.server = SessionEnd(try TLSSession(server: server))
        self.pieceBytes = pieceBytes
    }

    convenience init(_ client: ClientTLS, _ server: ServerTLS, host: String = "localhost", pieceBytes: Int = 65536)
        throws
    {
        try self.init(try TLSContext(client), try TLSContext(server), host: host, pieceBytes: pieceBytes)
    }

    /// Carries bytes until neither end has more to say.
    func exchange() {
        while true {
            let toServer = client.output()
            deliver(toServer, to: server)
            let toClient = server.output()
            deliver(toClient, to: client)
            if toServer.isEmpty, toClient.isEmpty { return }
        }
    }

    func deliver(_ bytes: [UInt8], to end: SessionEnd) {
        for start in stride(from: 0, to: bytes.count, by: pieceBytes) {
            end.receive(bytes[start..<min(start + pieceBytes, bytes.count)])
        }
    }

    func handshake() {
        _ = client.session.startHandshake()
        exchange()
    }
}
