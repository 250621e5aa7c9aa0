import COpenSSL
import TestSupport
import Testing

@testable import ApusTLS

@Suite("A peer that does not do as TLS and HTTP/2 demand is refused")
struct PeerFaultTests {
    @Test(
        "plaintext is told from TLS",
        arguments: [
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "the client speaks plaintext: it sent HTTP/2 without TLS"),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "the client speaks plaintext: it sent a request of HTTP/1"),
            ("hello\r\nthere", "the client speaks plaintext: it began with “hello”"),
            ("\u{0}\u{1}\u{2}", "the client speaks plaintext: it began with the bytes 00 01 02"),
        ]
    )
    func plaintextClient(text: String, message: String) throws {
        let server = SessionEnd(try TLSSession(server: try TLSContext(.test("server"))))
        server.receive(text.utf8)
        #expect(server.error == TLSError(.plaintextPeer, message))
        #expect(server.output() == [])
        server.receive(text.utf8)
        #expect(server.error == TLSError(.plaintextPeer, message))
    }

    @Test("a client tells plaintext servers too")
    func plaintextServer() throws {
        let answers: [([UInt8], String)] = [
            (Array("HTTP/1.1 400 Bad Request\r\n".utf8), "the server speaks plaintext: it answered with HTTP/1"),
            ([0, 0, 6, 4, 0, 0, 0, 0, 0], "the server speaks plaintext: it sent HTTP/2 without TLS"),
        ]
        for (bytes, message) in answers {
            let client = SessionEnd(try TLSSession(client: try TLSContext(.test()), host: "localhost"))
            _ = client.session.startHandshake()
            client.receive(bytes)
            #expect(client.error == TLSError(.plaintextPeer, message))
        }
    }

    @Test("what is no TLS record ends the handshake, whatever it is")
    func garbage() throws {
        var random = SystemRandomNumberGenerator()
        let context = try TLSContext(.test("server"))
        for count in [1, 5, 6, 100, 20_000] {
            for _ in 0..<20 {
                let server = SessionEnd(try TLSSession(server: context))
                server.receive([22, 3, 1] + (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) })
                server.receive((0..<20_000).map { _ in UInt8.random(in: 0...255, using: &random) })
                #expect(server.error?.reason == .protocolFailure || server.error?.reason.isAlert == true)
                #expect(server.received.isEmpty)
            }
        }
    }

    @Test("chains of certificates are long, or too long", arguments: [100, 400])
    func longChain(certificates: Int) throws {
        let chain = try TestCertificates.bytes("server-chain.pem")
        let intermediate = try TestCertificates.bytes("intermediate.pem")
        let long = chain + repeatElement(intermediate, count: certificates).joined()
        let key = TLSSource.file(TestCertificates.path("server-chain.key"))
        let pair = try SessionPair(.test(), ServerTLS(credentials: [.pem(chain: .bytes(long), key: key)]))
        pair.handshake()
        if certificates == 100 {
            #expect(pair.client.isEstablished && pair.server.isEstablished)
        } else {
            #expect(pair.client.error?.reason == .protocolFailure)
            #expect(pair.client.error?.message.contains("excessive message size") == true)
            #expect(!pair.server.isEstablished)
        }
    }

    @Test("a record that was changed on its way ends the connection", arguments: [TLSVersion.tls12, .tls13])
    func tampering(version: TLSVersion) throws {
        let pair = try SessionPair(.test { $0.maximumVersion = version }, .test("server"))
        pair.handshake()
        let whole = pair.client.output(of: [1, 2, 3])
        var broken = pair.client.output(of: [4, 5, 6])
        broken[broken.count - 1] ^= 1
        pair.server.receive(whole + broken)
        #expect(pair.server.received == [1, 2, 3])
        #expect(pair.server.error?.reason == .protocolFailure)
        pair.exchange()
        #expect(pair.client.error?.reason == .alert(20))
        #expect(pair.client.output(of: [7]) == [])
    }

    @Test("every handshake that is cut short says so")
    func cutHandshake() throws {
        let context = try TLSContext(.test("server"))
        let client = SessionEnd(try TLSSession(client: try TLSContext(.test()), host: "localhost"))
        _ = client.session.startHandshake()
        let hello = client.output()
        for count in stride(from: 0, to: hello.count, by: 13) {
            let server = SessionEnd(try TLSSession(server: context))
            server.receive(hello[..<count])
            _ = server.session.endOfInput()
            #expect(server.error?.reason == .truncated)
            #expect(server.error?.message == "the client closed the connection during the TLS handshake")
        }
    }

    private func clientOffering(_ protocols: [UInt8]) throws -> SessionEnd {
        let session = try TLSSession(client: try TLSContext(.test()), host: "localhost")
        // SAFETY: the handle lives as long as the session; OpenSSL copies the list.
        _ = unsafe SSL_set_alpn_protos(session.handle, protocols, UInt32(protocols.count))
        return SessionEnd(session)
    }

    private func exchange(_ client: SessionEnd, _ server: SessionEnd) {
        _ = client.session.startHandshake()
        for _ in 0..<4 {
            server.receive(client.output())
            client.receive(server.output())
        }
    }

    @Test("a client that does not offer h2 is refused, with the alert that is made for it")
    func noProtocol() throws {
        let other = Array("\u{8}http/1.1\u{2}h3".utf8)
        for (offer, message) in [
            (other, "the client did not agree on h2 (ALPN): it offers http/1.1, h3"),
            ([], "the client did not agree on h2 (ALPN): it offers no protocol"),
        ] {
            let client = try clientOffering(offer)
            let server = SessionEnd(try TLSSession(server: try TLSContext(.test("server"))))
            exchange(client, server)
            #expect(server.error == TLSError(.noApplicationProtocol, message))
            #expect(client.error?.reason == .noApplicationProtocol)
            #expect(client.error?.message.contains("no_application_protocol (120)") == true)
        }
    }

    @Test("a server that selects nothing is refused by the client", arguments: [TLSVersion.tls12, .tls13])
    func noSelection(version: TLSVersion) throws {
        let context = try TLSContext(.test("server"))
        // SAFETY: nobody else uses the context yet.
        unsafe SSL_CTX_set_alpn_select_cb(context.primary, nil, nil)
        let pair = try SessionPair(try TLSContext(.test { $0.maximumVersion = version }), context)
        pair.handshake()
        #expect(pair.client.error == TLSError(.noApplicationProtocol, "the server did not agree on h2 (ALPN)"))
        #expect(!pair.server.isEstablished)
    }

    @Test("versions before TLS 1.2 are refused")
    func oldVersions() throws {
        for version in [TLS1_VERSION, TLS1_1_VERSION] {
            let client = try clientOffering([2, 104, 50])
            // SAFETY: the handle lives as long as the session.
            unsafe SSL_set_security_level(client.session.handle, 0)
            #expect(unsafe copenssl_set_min_version(client.session.handle, CInt(version)) == 1)
            #expect(unsafe copenssl_set_max_version(client.session.handle, CInt(version)) == 1)
            #expect(unsafe SSL_set_cipher_list(client.session.handle, "ALL:@SECLEVEL=0") == 1)
            let server = SessionEnd(try TLSSession(server: try TLSContext(.test("server"))))
            exchange(client, server)
            #expect(server.error?.message.contains("no version of TLS that is accepted here") == true)
            #expect(client.error?.reason == .alert(70))
        }
    }

    @Test("a minimum version is kept on both ends")
    func minimumVersion() throws {
        let server = try SessionPair(
            .test { $0.maximumVersion = .tls12 },
            .test("server") { $0.minimumVersion = .tls13 }
        )
        server.handshake()
        #expect(server.server.error?.reason == .protocolFailure)
        #expect(server.client.error?.reason == .alert(70))
        let client = try SessionPair(
            .test { $0.minimumVersion = .tls13 },
            .test("server") { $0.maximumVersion = .tls12 }
        )
        client.handshake()
        #expect(!client.client.isEstablished && !client.server.isEstablished)
    }

    @Test("suites without forward secrecy or AEAD are not spoken")
    func suites() throws {
        for suite in ["AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA256"] {
            let client = try clientOffering([2, 104, 50])
            // SAFETY: the handle lives as long as the session.
            #expect(unsafe copenssl_set_max_version(client.session.handle, CInt(TLS1_2_VERSION)) == 1)
            #expect(unsafe SSL_set_cipher_list(client.session.handle, suite) == 1)
            let server = SessionEnd(try TLSSession(server: try TLSContext(.test("server"))))
            exchange(client, server)
            #expect(server.error?.message.contains("no cipher suite that is accepted here") == true)
        }
    }

    @Test("renegotiation is declined with an alert in place of a handshake")
    func renegotiation() throws {
        let pair = try SessionPair(.test { $0.maximumVersion = .tls12 }, .test("server"))
        pair.handshake()
        // SAFETY: the handle lives as long as the session.
        let handle = unsafe pair.client.session.handle
        unsafe copenssl_allow_renegotiation(handle)
        #expect(unsafe SSL_renegotiate(handle) == 1)
        #expect(unsafe SSL_do_handshake(handle) == -1)
        let hello = pair.client.output()
        #expect(hello.count > 100)
        pair.server.receive(hello)
        #expect(pair.server.isEstablished)
        // An alert of two bytes, in one record.
        let answer = pair.server.output()
        #expect(answer.count == 31 && answer.first == 21)
        #expect(unsafe SSL_is_init_finished(pair.server.session.handle) == 1)
    }

    @Test("a peer may not make us keep more than a bound while it is being verified")
    func heldBytes() throws {
        let server = ServerTLS.test("server") {
            $0.clientCertificates = .required(TestCertificates.roots)
            $0.verifyPeer = { _ in }
        }
        let pair = try SessionPair(.test { $0.credentials = TestCertificates.credentials("client") }, server)
        pair.handshake()
        #expect(pair.server.peerToVerify != nil)
        pair.server.receive(pair.client.output(of: [UInt8](repeating: 1, count: 300_000)))
        #expect(pair.server.error?.message == "the client sent too much before it was verified")
    }
}

extension TLSError.Reason {
    fileprivate var isAlert: Bool { if case .alert = self { true } else { false } }
}
