import TestSupport
import Testing

@testable import ApusTLS

@Suite("A peer's certificate is checked")
struct VerificationTests {
    @Test(
        "by the client: what is wrong is said",
        arguments: [
            ("expired", TLSError.Reason.certificateExpired, "has expired: it was valid until", UInt8(45)),
            ("future", .certificateNotYetValid, "is not valid yet: it will be from", 42),
            ("wrong-host", .wrongHost, "is not for “localhost”: it is for DNS:elsewhere.example", 42),
            ("common-name", .wrongHost, "is not for “localhost”: it names no host", 42),
            ("unknown", .unknownAuthority, "its issuer is CN=Authority that nobody trusts", 48),
            ("self-signed", .unknownAuthority, "self-signed certificate", 48),
            ("client", .certificateRejected, "(OpenSSL: un", 43),
        ]
    )
    func server(name: String, reason: TLSError.Reason, words: String, alert: UInt8) throws {
        for version in [TLSVersion.tls12, .tls13] {
            let pair = try SessionPair(.test { $0.maximumVersion = version }, .test(name))
            pair.handshake()
            let error = try #require(pair.client.error)
            #expect(error.reason == reason)
            #expect(error.message.contains(words), "\(error.message)")
            #expect(error.message.contains("(OpenSSL: "), "\(error.message)")
            #expect(!pair.server.isEstablished)
            if case .alert(let received) = pair.server.error?.reason {
                if name != "client" { #expect(received == alert) }
            } else {
                Issue.record("no alert came: \(String(describing: pair.server.error))")
            }
        }
    }

    @Test(
        "by name or address, if it is one of the certificate's",
        arguments: [
            ("localhost", true), ("LOCALHOST.", true), ("a.test.example", true), ("a.b.test.example", false),
            ("test.example", false), ("127.0.0.1", true), ("127.0.0.2", false), ("::1", true), ("[::1]", true),
            ("::2", false),
        ]
    )
    func hosts(host: String, isAccepted: Bool) throws {
        let pair = try SessionPair(.test(), .test("server-ec"), host: host)
        pair.handshake()
        #expect(pair.client.isEstablished == isAccepted)
        if !isAccepted { #expect(pair.client.error?.reason == .wrongHost) }
    }

    @Test(
        "and a name that OpenSSL would take for many, or for another, is none",
        arguments: [
            ".test.example", ".", "..", "a..test.example", "localhost\0.elsewhere.example", "",
        ]
    )
    func malformedNames(host: String) throws {
        let context = try TLSContext(.test())
        #expect(throws: TLSError.self) { try TLSSession(client: context, host: host) }
    }

    @Test("by the name of the configuration in place of the target's")
    func serverName() throws {
        let pair = try SessionPair(.test { $0.serverName = "one.example" }, .test("one"), host: "192.0.2.1")
        pair.handshake()
        #expect(pair.client.isEstablished)
        #expect(pair.server.session.info?.serverName == "one.example")
    }

    @Test("less strictly if one asks for it")
    func leniency() throws {
        let chain = try SessionPair(.test { $0.verification = .chain }, .test("wrong-host"))
        chain.handshake()
        #expect(chain.client.isEstablished)
        #expect(chain.client.session.info?.peer?.isVerified == true)
        let expired = try SessionPair(.test { $0.verification = .chain }, .test("expired"))
        expired.handshake()
        #expect(expired.client.error?.reason == .certificateExpired)
        let none = try SessionPair(.test { $0.verification = .none }, .test("unknown"))
        none.handshake()
        #expect(none.client.isEstablished)
        #expect(none.client.session.info?.peer?.isVerified == false)
    }

    @Test("against an intermediate or a leaf, if that is what is trusted")
    func partialChain() throws {
        for root in ["intermediate.pem", "server-chain.pem"] {
            let client = ClientTLS.test { $0.trustRoots = .file(TestCertificates.path(root)) }
            let pair = try SessionPair(client, .test("server-chain"))
            pair.handshake()
            #expect(pair.client.isEstablished, "\(root)")
        }
    }

    @Test("against the system's roots by default, which do not know ours")
    func systemRoots() throws {
        let pair = try SessionPair(ClientTLS(), .test("server"))
        pair.handshake()
        #expect(pair.client.error?.reason == .unknownAuthority)
    }

    private static func asking(_ mode: ServerTLS.ClientCertificates) -> ServerTLS {
        .test("server") { $0.clientCertificates = mode }
    }

    @Test("by the server: a client that shows one is known by it", arguments: ["client", "client-ec"])
    func mutual(name: String) throws {
        for mode in [ServerTLS.ClientCertificates.optional(TestCertificates.roots), .required(TestCertificates.roots)] {
            for version in [TLSVersion.tls12, .tls13] {
                let client = ClientTLS.test {
                    $0.credentials = TestCertificates.credentials(name)
                    $0.maximumVersion = version
                }
                let pair = try SessionPair(client, Self.asking(mode), pieceBytes: 50)
                pair.handshake()
                #expect(pair.client.isEstablished && pair.server.isEstablished)
                let peer = try #require(pair.server.session.info?.peer)
                #expect(peer.subject == "CN=Test client")
                #expect(peer.uris == ["spiffe://test.example/client"])
                #expect(peer.spiffeID == "spiffe://test.example/client")
                #expect(peer.dnsNames == ["client.test.example"])
                #expect(peer.certificateChain.count == 1)
                #expect(peer.isVerified)
            }
        }
    }

    @Test("by the server: a client without one is refused only where one is required")
    func withoutCertificate() throws {
        let optional = try SessionPair(.test(), Self.asking(.optional(TestCertificates.roots)))
        optional.handshake()
        #expect(optional.server.isEstablished)
        #expect(optional.server.session.info?.peer == nil)
        let required = try SessionPair(.test(), Self.asking(.required(TestCertificates.roots)))
        required.handshake()
        #expect(required.server.error?.reason == .noCertificate)
        #expect(required.client.error?.reason == .alert(116))
        #expect(required.client.error?.message.contains("it demands a certificate") == true)
    }

    @Test(
        "by the server: a certificate that is not acceptable is refused, also where none is needed",
        arguments: [
            ("client-expired", TLSError.Reason.certificateExpired), ("client-unknown", .unknownAuthority),
            ("server", .certificateRejected),
        ]
    )
    func clients(name: String, reason: TLSError.Reason) throws {
        for mode in [ServerTLS.ClientCertificates.optional(TestCertificates.roots), .required(TestCertificates.roots)] {
            let client = ClientTLS.test { $0.credentials = TestCertificates.credentials(name) }
            let pair = try SessionPair(client, Self.asking(mode))
            pair.handshake()
            #expect(pair.server.error?.reason == reason)
            if case .alert = pair.client.error?.reason {} else { Issue.record("the client got no alert") }
        }
    }

    @Test("and a server that asks for none gets none")
    func unasked() throws {
        let client = ClientTLS.test { $0.credentials = TestCertificates.credentials("client") }
        let pair = try SessionPair(client, .test("server"))
        pair.handshake()
        #expect(pair.server.isEstablished)
        #expect(pair.server.session.info?.peer == nil)
    }
}
