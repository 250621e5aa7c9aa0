import ApusBase
import Foundation
import TestSupport
import Testing

@testable import ApusTLS

@Suite("A configuration is loaded")
struct ContextTests {
    private static func failure(_ configuration: ServerTLS) -> TLSError? {
        do {
            _ = try TLSContext(configuration)
            return nil
        } catch {
            return error
        }
    }

    @Test("what is wrong with it is said")
    func mistakes() throws {
        let path = TestCertificates.path
        let pem: (String, String, String?) -> ServerTLS = {
            ServerTLS(credentials: [.pem(chainFile: path($0), keyFile: path($1), passphrase: $2)])
        }
        let pkcs12: (String, String?) -> ServerTLS = {
            ServerTLS(credentials: [.pkcs12(.file(path($0)), passphrase: $1)])
        }
        let cases: [(ServerTLS, TLSError.Reason, String)] = [
            (ServerTLS(credentials: []), .invalidConfiguration, "needs a certificate"),
            (pem("none.pem", "server.key", nil), .unreadableFile, "none.pem (OpenSSL: No such file or directory)"),
            (pem("", "server.key", nil), .unreadableFile, "(OpenSSL: Is a directory)"),
            (pem("server.key", "server.key", nil), .malformedCredentials, "there is no certificate in"),
            (pem("server.pem", "server.pem", nil), .malformedCredentials, "there is no private key in"),
            (pem("server.pem", "client.key", nil), .keyMismatch, "the private key does not match the certificate"),
            (pem("server.pem", "one.key", nil), .keyMismatch, "the private key does not match the certificate"),
            (pem("server.pem", "server-encrypted.key", nil), .wrongPassphrase, "no passphrase was given"),
            (pem("server.pem", "server-encrypted.key", "x"), .wrongPassphrase, "was given a wrong passphrase"),
            (pkcs12("server-chain.p12", nil), .wrongPassphrase, "needs a passphrase"),
            (pkcs12("server-chain.p12", "x"), .wrongPassphrase, "was given a wrong passphrase"),
            (pkcs12("server.pem", nil), .malformedCredentials, "is not a PKCS#12 bundle"),
            (
                .test("server") { $0.clientCertificates = .required(.file(path("server.key"))) },
                .malformedCredentials, "there is no certificate in"
            ),
            (
                .test("server") { $0.clientCertificates = .required(.pem([])) },
                .invalidConfiguration, "no trust roots were given"
            ),
            (
                .test("server") { $0.cipherSuites = "ECDHE-RSA-AES128-GCM-SHA256:AES128-SHA" },
                .invalidConfiguration, "HTTP/2 forbids AES128-SHA (RFC 9113 §9.2.2)"
            ),
            (
                .test("server") { $0.cipherSuites = "ADH-AES128-GCM-SHA256:@SECLEVEL=0" },
                .invalidConfiguration, "HTTP/2 forbids ADH-AES128-GCM-SHA256 (RFC 9113 §9.2.2)"
            ),
            (.test("server") { $0.cipherSuites = "nonsense" }, .invalidConfiguration, "“nonsense”"),
            (.test("server") { $0.cipherSuitesTLS13 = "nonsense" }, .invalidConfiguration, "“nonsense”"),
            (
                .test("server") {
                    $0.minimumVersion = .tls13
                    $0.maximumVersion = .tls12
                }, .invalidConfiguration, "above the maximum version"
            ),
        ]
        for (configuration, reason, words) in cases {
            let error = try #require(Self.failure(configuration))
            #expect(error.reason == reason, "\(error)")
            #expect(error.message.contains(words), "\(error.message)")
        }
    }

    @Test("a certificate with bytes missing is told from none")
    func malformed() throws {
        var bytes = try TestCertificates.bytes("server.pem")
        bytes.removeSubrange(200..<300)
        let key = TLSSource.file(TestCertificates.path("server.key"))
        let error = Self.failure(ServerTLS(credentials: [.pem(chain: .bytes(bytes), key: key)]))
        #expect(error?.reason == .malformedCredentials)
        #expect(error?.message.contains("cannot read the certificates in bytes (OpenSSL: ") == true)
    }

    @Test("no secret is in what it prints")
    func secrets() throws {
        let key = try TestCertificates.bytes("server.key")
        let credentials = TLSCredentials.pem(chain: .bytes([1]), key: .bytes(key), passphrase: "hunter2")
        for text in ["\(credentials)", String(reflecting: credentials), "\(ServerTLS(credentials: [credentials]))"] {
            #expect(!text.contains("hunter2") && !text.contains("\(key[0]), \(key[1])"))
        }
        var dumped = ""
        dump(ServerTLS(credentials: [credentials]), to: &dumped)
        #expect(!dumped.contains("hunter2"))
    }

    @Test(
        "of several certificates the name that is asked for chooses",
        arguments: [
            ("one.example", "CN=one.example"), ("ONE.EXAMPLE", "CN=one.example"), ("two.example", "CN=two.example"),
            ("a.wild.example", "CN=wild.example"), ("a.b.wild.example", "CN=localhost"),
            ("wild.example", "CN=localhost"), ("other", "CN=localhost"), ("127.0.0.1", "CN=localhost"),
        ]
    )
    func serverNames(host: String, subject: String) throws {
        for version in [TLSVersion.tls12, .tls13] {
            let client = ClientTLS.test {
                $0.verification = .chain
                $0.maximumVersion = version
            }
            let pair = try SessionPair(client, .test("server", "one", "two", "wild"), host: host)
            pair.handshake()
            #expect(pair.client.session.info?.peer?.subject == subject)
        }
    }

    @Test("of an RSA and an EC certificate for the same names the client's algorithms choose")
    func keyTypes() throws {
        let server = try TLSContext(.test("server", "server-ec"))
        for (algorithm, subject) in [("ECDSA", "server-ec.pem"), ("RSA", "server.pem")] {
            let client = try TLSContext(
                .test {
                    $0.maximumVersion = .tls12
                    $0.cipherSuites = "ECDHE-\(algorithm)-AES128-GCM-SHA256"
                }
            )
            let pair = try SessionPair(client, server)
            pair.handshake()
            let shown = try #require(pair.client.session.info?.peer?.certificateChain.first)
            let expected = try LoadedCredentials(
                .pem(
                    chainFile: TestCertificates.path(subject),
                    keyFile: TestCertificates.path(subject.replacing(".pem", with: ".key"))
                )
            )
            // SAFETY: the certificate is alive as long as the credentials.
            let peer = unsafe TLSPeer(certificate: expected.certificate, chain: nil, isVerified: true)
            withExtendedLifetime(expected) { #expect(shown == peer.certificateChain.first) }
        }
    }

    @Test("again: new connections see the new certificate, others go on with theirs")
    func reload() throws {
        let name = Holder("server")
        let source = try TLSContextSource { () throws(TLSError) in
            try TLSContext(ServerTLS(credentials: [TestCertificates.credentials(name.value)]))
        }
        let client = try TLSContext(.test { $0.verification = .chain })
        let before = try SessionPair(client, source.current)
        before.handshake()
        let underWay = try SessionPair(client, source.current)
        name.value = "one"
        try source.reload()
        let after = try SessionPair(client, source.current)
        after.handshake()
        underWay.handshake()
        #expect(before.client.session.info?.peer?.subject == "CN=localhost")
        #expect(underWay.client.session.info?.peer?.subject == "CN=localhost")
        #expect(after.client.session.info?.peer?.subject == "CN=one.example")
        #expect(after.client.session.info?.isResumed == false)
        before.deliver(before.client.output(of: [1, 2]), to: before.server)
        #expect(before.server.received == [1, 2])

        name.value = "none"
        #expect(throws: TLSError.self) { try source.reload() }
        let still = try SessionPair(client, source.current)
        still.handshake()
        #expect(still.client.session.info?.peer?.subject == "CN=one.example")
    }

    @Test("and one that loads slowly does not undo a later one")
    func slowReload() async throws {
        let (entered, gate, replaced) = (Holder(0), Holder(0), Holder(0))
        let source = try TLSContextSource { () throws(TLSError) in
            entered.value += 1
            // The second load takes until the test lets it go on.
            while entered.value > 1, gate.value == 0 { usleep(1000) }
            return try TLSContext(.test("server"))
        }
        async let slow: Void = Self.onThread { try? source.reload() }
        while entered.value < 2 { try await Task.sleep(for: .milliseconds(1)) }
        async let later: Void = Self.onThread {
            try? source.replaceLoader { () throws(TLSError) in try TLSContext(.test("one")) }
            replaced.value = 1
        }
        // It may wait for the first, or not.
        for _ in 0..<300 where replaced.value == 0 { try await Task.sleep(for: .milliseconds(1)) }
        gate.value = 1
        _ = await (slow, later)
        let pair = try SessionPair(try TLSContext(.test { $0.verification = .chain }), source.current)
        pair.handshake()
        #expect(pair.client.session.info?.peer?.subject == "CN=one.example")
    }

    private static func onThread(_ body: @escaping @Sendable () -> Void) async {
        await withCheckedContinuation { continuation in
            Thread {
                body()
                continuation.resume()
            }.start()
        }
    }

    @Test("and used by many threads at once, while it is loaded again")
    func threads() async throws {
        let server = try TLSContextSource { () throws(TLSError) in try TLSContext(.test("server-ec", "one")) }
        let client = try TLSContextSource { () throws(TLSError) in try TLSContext(.test()) }
        let established = await withTaskGroup(of: Int.self) { group in
            for task in 0..<4 {
                group.addTask { Self.connect(client, server, host: task < 2 ? "localhost" : "one.example") }
            }
            group.addTask {
                for _ in 0..<20 {
                    try? server.reload()
                    try? client.reload()
                }
                return 0
            }
            return await group.reduce(0, +)
        }
        #expect(established == 200)
    }

    private static func connect(_ client: TLSContextSource, _ server: TLSContextSource, host: String) -> Int {
        (0..<50).count { _ in
            guard let pair = try? SessionPair(client.current, server.current, host: host) else { return false }
            pair.handshake()
            pair.deliver(pair.client.output(of: [1, 2, 3]), to: pair.server)
            return pair.server.received == [1, 2, 3]
        }
    }

    /// A value that a test changes under a closure.
    private final class Holder<Value: Sendable>: Sendable {
        private let storage: Lock<Value>
        init(_ value: Value) { storage = Lock(value) }
        var value: Value {
            get { storage.withLock { $0 } }
            set { storage.withLock { $0 = newValue } }
        }
    }
}
