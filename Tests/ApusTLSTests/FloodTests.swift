import COpenSSL
import Testing

@testable import ApusTLS

@Suite("A peer that sends handshake messages without end is refused")
struct FloodTests {
    /// Records of an end that asks for new keys each time (RFC 8446 §4.6.3).
    private func keyUpdates(_ count: Int, by end: SessionEnd) -> [UInt8] {
        (0..<count).flatMap { _ in
            // SAFETY: the handle lives as long as the session.
            #expect(unsafe SSL_key_update(end.session.handle, SSL_KEY_UPDATE_REQUESTED) == 1)
            #expect(unsafe SSL_do_handshake(end.session.handle) == 1)
            return end.output()
        }
    }

    @Test("by new keys, on both ends, and soon", arguments: [TLSContext.Role.server, .client])
    func keyUpdateFlood(role: TLSContext.Role) throws {
        let pair = try SessionPair(.test(), .test("server"))
        pair.handshake()
        let (victim, attacker) = role == .server ? (pair.server, pair.client) : (pair.client, pair.server)
        let flood = keyUpdates(1000, by: attacker)
        var read = 0
        while read < flood.count, victim.error == nil {
            victim.receive(flood[read..<min(read + 27, flood.count)])
            read += 27
        }
        let peer = role == .server ? "the client" : "the server"
        #expect(victim.error?.message == "\(peer) sent handshake messages and no data, without end")
        // OpenSSL takes four or five steps for each, with its answer.
        #expect(read <= 27 * 40)
    }

    @Test("in one piece as in many: nothing behind the bound is read")
    func onePiece() throws {
        let pair = try SessionPair(.test(), .test("server"))
        pair.handshake()
        pair.server.receive(keyUpdates(1000, by: pair.client) + pair.client.output(of: [1, 2, 3]))
        #expect(pair.server.error?.reason == .protocolFailure)
        #expect(pair.server.received == [])
    }

    @Test("by new handshakes of TLS 1.2, which a server may ask for")
    func renegotiationFlood() throws {
        let pair = try SessionPair(.test { $0.maximumVersion = .tls12 }, .test("server"))
        pair.handshake()
        // SAFETY: the handle lives as long as the session.
        let handle = unsafe pair.server.session.handle
        unsafe copenssl_allow_renegotiation(handle)
        var asked = 0
        while asked < 1000, pair.client.error == nil {
            // HelloRequest; a client that declines answers each by an alert (RFC 5246 §7.4.1.1).
            #expect(unsafe SSL_renegotiate(handle) == 1)
            #expect(unsafe SSL_do_handshake(handle) == 1)
            pair.client.receive(pair.server.output())
            asked += 1
        }
        #expect(pair.client.error?.message.contains("without end") == true)
        #expect(asked <= TLSSession.stepsWithoutDataMax / 2)
    }

    @Test("but not one that sends data as well")
    func honest() throws {
        let pair = try SessionPair(.test(), .test("server"))
        pair.handshake()
        for round in 0..<1000 {
            pair.server.receive(keyUpdates(1, by: pair.client) + pair.client.output(of: [UInt8(round & 0xff)]))
            pair.client.receive(keyUpdates(1, by: pair.server) + pair.server.output(of: [1]))
        }
        #expect(pair.server.error == nil && pair.client.error == nil)
        #expect(pair.server.received.count == 1000 && pair.client.received.count == 1000)
    }
}
