import COpenSSL
import TestSupport
import Testing

@testable import ApusTLS

@Suite("A client resumes its sessions")
struct ResumptionTests {
    private func connect(_ client: TLSContext, _ server: TLSContext, host: String = "localhost") throws -> SessionPair {
        let pair = try SessionPair(client, server, host: host)
        pair.handshake()
        #expect(pair.client.isEstablished && pair.server.isEstablished)
        return pair
    }

    private func isResumed(_ pair: SessionPair) -> Bool {
        let ends = [pair.client, pair.server].map { $0.session.info?.isResumed }
        #expect(ends[0] == ends[1])
        return ends[0] == true
    }

    @Test("with the same server, time and again", arguments: [TLSVersion.tls12, .tls13])
    func resumption(version: TLSVersion) throws {
        let client = try TLSContext(.test { $0.maximumVersion = version })
        let server = try TLSContext(.test("server"))
        var resumed = 0
        for _ in 0..<10 {
            // The pair is gone before the next one begins, without close_notify.
            let pair = try connect(client, server)
            if isResumed(pair) { resumed += 1 }
            pair.deliver(pair.client.output(of: [1]), to: pair.server)
            #expect(pair.server.received == [1])
        }
        #expect(resumed == 9)
    }

    @Test("but uses a session of TLS 1.3 once")
    func once() throws {
        let client = try TLSContext(.test())
        let server = try TLSContext(.test("server"))
        _ = try connect(client, server)
        #expect(client.resumable?.count == 1)
        let second = try SessionPair(client, server)
        #expect(client.resumable?.count == 0)
        let third = try connect(client, server)
        second.handshake()
        #expect(isResumed(second) && !isResumed(third))
    }

    @Test("only under the name that it was verified for")
    func names() throws {
        let client = try TLSContext(.test())
        let server = try TLSContext(.test("server", "one"))
        _ = try connect(client, server)
        #expect(isResumed(try connect(client, server, host: "127.0.0.1")) == false)
        #expect(isResumed(try connect(client, server, host: "one.example")) == false)
        #expect(isResumed(try connect(client, server)))
        #expect(isResumed(try connect(client, server, host: "one.example")))
    }

    @Test("unless one of the two does not want to, or the server has loaded its configuration again")
    func without() throws {
        for (keeps, gives) in [(false, true), (true, false)] {
            let client = try TLSContext(.test { $0.sessionResumption = keeps })
            let server = try TLSContext(.test("server") { $0.sessionTickets = gives })
            for _ in 0..<3 { #expect(try !isResumed(connect(client, server))) }
        }
        let client = try TLSContext(.test())
        _ = try connect(client, try TLSContext(.test("server")))
        #expect(try !isResumed(connect(client, try TLSContext(.test("server")))))
    }

    @Test("and the server still knows who it is", arguments: [TLSVersion.tls12, .tls13])
    func identity(version: TLSVersion) throws {
        let client = try TLSContext(
            .test {
                $0.credentials = TestCertificates.credentials("client")
                $0.maximumVersion = version
            }
        )
        let server = try TLSContext(.test("server") { $0.clientCertificates = .required(TestCertificates.roots) })
        _ = try connect(client, server)
        let pair = try connect(client, server)
        #expect(isResumed(pair))
        let peer = try #require(pair.server.session.info?.peer)
        #expect(peer.spiffeID == "spiffe://test.example/client")
        #expect(peer.isVerified)
        #expect(peer.certificateChain.count == 1)
    }

    @Test("by tickets whose keys are renewed, and forgotten", arguments: [TLSVersion.tls12, .tls13])
    func ticketKeys(version: TLSVersion) throws {
        let client = try TLSContext(.test { $0.maximumVersion = version })
        let server = try TLSContext(.test("server"))
        let keys = try #require(server.ticketKeys)
        _ = try connect(client, server)
        keys.renew()
        #expect(try isResumed(connect(client, server)))
        keys.renew()
        // That one was resumed brought a ticket under the new key; a client does not take one in TLS 1.2.
        #expect(try isResumed(connect(client, server)) == (version == .tls13))
        keys.renew()
        keys.renew()
        #expect(try !isResumed(connect(client, server)))
        #expect(try isResumed(connect(client, server)))
    }

    @Test("but not for ever: from the handshake with certificates on time counts", arguments: [true, false])
    func lifetime(isServersLimit: Bool) throws {
        let client = try TLSContext(.test())
        let server = try TLSContext(.test("server"))
        // SAFETY: nobody else uses the contexts yet.
        #expect(unsafe SSL_CTX_get_timeout(client.primary) == 7200 && SSL_CTX_get_timeout(server.primary) == 7200)
        unsafe _ = SSL_CTX_set_timeout(isServersLimit ? server.primary : client.primary, 1)
        #expect(try !isResumed(connect(client, server)))
        #expect(try isResumed(connect(client, server)))
        // Each of these tickets is younger than a second.
        let clock = ContinuousClock()
        let end = clock.now + .seconds(20)
        var pair = try connect(client, server)
        while isResumed(pair), clock.now < end { pair = try connect(client, server) }
        #expect(!isResumed(pair))
        // The whole handshake begins another session.
        #expect(try isResumed(connect(client, server)))
    }

    @Test("and keeps a bounded number of them")
    func bound() throws {
        let client = try TLSContext(.test { $0.verification = .chain })
        let server = try TLSContext(.test("server"))
        for index in 0..<ClientSessionCache.serversMax + 20 {
            _ = try connect(client, server, host: "host\(index).example")
        }
        #expect(client.resumable?.count == ClientSessionCache.serversMax)
        #expect(try !isResumed(connect(client, server, host: "host0.example")))
        let pairs = try (0..<10).map { _ in try SessionPair(client, server, host: "many.example") }
        for pair in pairs { pair.handshake() }
        #expect(client.resumable?.count == ClientSessionCache.serversMax - 1 + ClientSessionCache.sessionsPerServerMax)
    }
}
