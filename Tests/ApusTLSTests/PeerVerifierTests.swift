import TestSupport
import Testing

@testable import ApusTLS

@Suite("A custom verification decides in its own time")
struct PeerVerifierTests {
    private let askServer = ClientTLS.test { $0.verifyPeer = { _ in } }
    private let askClient = ServerTLS.test("server") {
        $0.clientCertificates = .optional(TestCertificates.roots)
        $0.verifyPeer = { _ in }
    }

    private func withCertificate(_ version: TLSVersion = .tls13) -> ClientTLS {
        .test {
            $0.credentials = TestCertificates.credentials("client")
            $0.maximumVersion = version
        }
    }

    @Test("on a client, which sends nothing until then", arguments: [TLSVersion.tls12, .tls13])
    func client(version: TLSVersion) throws {
        var configuration = askServer
        configuration.maximumVersion = version
        let pair = try SessionPair(configuration, .test("server-chain"), pieceBytes: 77)
        pair.handshake()
        let peer = try #require(pair.client.peerToVerify)
        #expect(peer.subject == "CN=localhost")
        #expect(peer.certificateChain.count == 2)
        #expect(peer.isVerified)
        #expect(!pair.client.session.hasOutput && !pair.server.isEstablished)
        #expect(pair.client.output(of: [1]) == [])
        pair.client.decide(nil)
        pair.exchange()
        #expect(pair.client.isEstablished && pair.server.isEstablished)
        #expect(pair.client.session.info?.peer?.isVerified == true)
    }

    @Test("on a client that refuses, which tells the server", arguments: [TLSVersion.tls12, .tls13])
    func clientRefuses(version: TLSVersion) throws {
        var configuration = askServer
        configuration.maximumVersion = version
        let pair = try SessionPair(configuration, .test("server"))
        pair.handshake()
        pair.client.decide("the pin differs")
        #expect(pair.client.error == TLSError(.refusedByVerifier, "the server was refused: the pin differs"))
        pair.exchange()
        if case .alert = pair.server.error?.reason {} else { Issue.record("the server got no alert") }
        #expect(!pair.server.isEstablished)
    }

    @Test("on a client that verifies nothing else")
    func pins() throws {
        var configuration = askServer
        configuration.verification = .none
        let pair = try SessionPair(configuration, .test("unknown"))
        pair.handshake()
        #expect(pair.client.peerToVerify?.isVerified == false)
        pair.client.decide(nil)
        pair.exchange()
        #expect(pair.client.isEstablished && pair.server.isEstablished)
    }

    @Test("and is not asked about a peer whose certificate is not acceptable anyway")
    func notAsked() throws {
        let pair = try SessionPair(askServer, .test("expired"))
        pair.handshake()
        #expect(pair.client.error?.reason == .certificateExpired)
    }

    @Test("on a server, which delivers nothing until then", arguments: [TLSVersion.tls12, .tls13])
    func server(version: TLSVersion) throws {
        let pair = try SessionPair(withCertificate(version), askClient)
        _ = pair.client.session.startHandshake()
        // The client sends data as soon as it may, so that some is behind the handshake in the same piece.
        for _ in 0..<3 {
            pair.server.receive(pair.client.output(of: pair.client.isEstablished ? [1, 2, 3] : []))
            pair.client.receive(pair.server.output())
        }
        let peer = try #require(pair.server.peerToVerify)
        #expect(peer.spiffeID == "spiffe://test.example/client")
        pair.server.receive(pair.client.output(of: [4]))
        #expect(pair.server.received == [])
        #expect(pair.server.output(of: [9]) == [])
        pair.server.decide(nil)
        #expect(pair.server.isEstablished)
        #expect(pair.server.received.suffix(4) == [1, 2, 3, 4])
        pair.deliver(pair.server.output(of: [5]), to: pair.client)
        #expect(pair.client.received == [5])
    }

    @Test("on a server that refuses: nothing is delivered, the client sees the end")
    func serverRefuses() throws {
        let pair = try SessionPair(withCertificate(), askClient)
        pair.handshake()
        pair.server.receive(pair.client.output(of: [1]))
        pair.server.decide("not on the list")
        #expect(pair.server.error == TLSError(.refusedByVerifier, "the client was refused: not on the list"))
        #expect(pair.server.received == [])
        pair.exchange()
        #expect(pair.client.isClosed)
    }

    @Test("on a server anew for each connection, resumed or not; not for a client without a certificate")
    func serverAsksAgain() throws {
        let client = try TLSContext(withCertificate())
        let server = try TLSContext(askClient)
        for round in 0..<2 {
            let pair = try SessionPair(client, server)
            pair.handshake()
            #expect(pair.server.peerToVerify?.spiffeID == "spiffe://test.example/client")
            pair.server.decide(nil)
            pair.exchange()
            #expect(pair.server.isEstablished)
            #expect(pair.server.session.info?.isResumed == (round == 1))
        }
        let anonymous = try SessionPair(try TLSContext(.test()), server)
        anonymous.handshake()
        #expect(anonymous.server.isEstablished)
    }

    @Test("while the peer may leave")
    func peerLeaves() throws {
        let pair = try SessionPair(withCertificate(), askClient)
        pair.handshake()
        _ = pair.server.session.endOfInput()
        #expect(pair.server.error?.reason == .truncated)
        pair.server.decide(nil)
        #expect(pair.server.error?.reason == .truncated)
    }
}
