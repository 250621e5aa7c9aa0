import TestSupport
import Testing

@testable import ApusTLS

@Suite("Two TLS sessions agree")
struct HandshakeTests {
    @Test("in pieces of any size", arguments: [1, 2, 7, 100, 1400, 16_384, 65_536])
    func pieces(pieceBytes: Int) throws {
        let pair = try SessionPair(.test(), .test("server-chain"), pieceBytes: pieceBytes)
        pair.handshake()
        #expect(pair.client.error == nil && pair.server.error == nil)
        #expect(pair.client.isEstablished && pair.server.isEstablished)
        let info = try #require(pair.client.session.info)
        #expect(info.version == "TLSv1.3")
        #expect(info.cipherSuite == "TLS_AES_128_GCM_SHA256")
        #expect(info.applicationProtocol == "h2")
        #expect(info.serverName == "localhost")
        #expect(!info.isResumed)
        let peer = try #require(info.peer)
        #expect(peer.subject == "CN=localhost")
        #expect(peer.dnsNames == ["localhost", "*.test.example"])
        #expect(peer.ipAddresses == ["127.0.0.1", "::1"])
        #expect(peer.certificateChain.count == 2)
        #expect(peer.isVerified)
        #expect(pair.server.session.info?.peer == nil)
    }

    @Test("on TLS 1.2 with RSA and EC keys", arguments: ["server", "server-ec"])
    func version12(name: String) throws {
        let pair = try SessionPair(.test { $0.maximumVersion = .tls12 }, .test(name), pieceBytes: 100)
        pair.handshake()
        #expect(pair.client.error == nil && pair.server.error == nil)
        let info = try #require(pair.server.session.info)
        #expect(info.version == "TLSv1.2")
        #expect(info.cipherSuite == "ECDHE-\(name == "server" ? "RSA" : "ECDSA")-AES128-GCM-SHA256")
    }

    @Test("and then exchange data of any length both ways", arguments: [1, 300, 16_383, 16_384, 16_385, 300_000])
    func data(count: Int) throws {
        for version in [TLSVersion.tls12, .tls13] {
            let pair = try SessionPair(.test { $0.maximumVersion = version }, .test("server"), pieceBytes: 5000)
            pair.handshake()
            let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31) }
            pair.deliver(pair.client.output(of: bytes), to: pair.server)
            pair.deliver(pair.server.output(of: bytes.reversed()), to: pair.client)
            #expect(pair.server.received == bytes)
            #expect(pair.client.received == bytes.reversed())
        }
    }

    @Test("and small records are delivered together")
    func deliveries() throws {
        let pair = try SessionPair(.test(), .test("server"))
        pair.handshake()
        let records = (0..<100).flatMap { pair.client.output(of: [UInt8($0)]) }
        pair.server.receive(records)
        #expect(pair.server.received == (0..<100).map { UInt8($0) })
        #expect(pair.server.deliveries == 1)
    }

    @Test("output never exceeds the bound that is documented", arguments: [0, 1, 16_384, 16_385, 100_000])
    func outputBound(count: Int) throws {
        for version in [TLSVersion.tls12, .tls13] {
            let pair = try SessionPair(.test { $0.maximumVersion = version }, .test("server"))
            pair.handshake()
            let bytes = [UInt8](repeating: 7, count: count)
            var room = [UInt8](repeating: 0, count: TLSSession.encryptedBytesMax(count))
            let (consumed, written) = pair.client.encrypt(bytes[...], into: &room)
            #expect(consumed == count)
            pair.server.receive(room[..<written])
            #expect(pair.server.received == bytes)
        }
    }

    @Test("a key is not used for more records than it is good for", arguments: [TLSVersion.tls12, .tls13])
    func keyUpdate(version: TLSVersion) throws {
        let pair = try SessionPair(.test { $0.maximumVersion = version }, .test("server"))
        pair.handshake()
        pair.client.session.recordsUntilKeyUpdate = 3
        var sizes: [Int] = []
        for number in 0..<5 {
            let record = pair.client.output(of: [UInt8(number)], roomBytes: TLSSession.encryptedBytesMax(1))
            sizes.append(record.count)
            pair.server.receive(record)
        }
        // The third has a KeyUpdate in front of it, which TLS 1.2 does not know.
        let record = sizes[0]
        #expect(sizes == [record, record, version == .tls13 ? record + 27 : record, record, record])
        #expect(pair.server.received == [0, 1, 2, 3, 4])
        pair.deliver(pair.server.output(of: [9]), to: pair.client)
        #expect(pair.client.received == [9])
    }

    @Test("with a buffer for one record, plaintext is taken record by record")
    func littleRoom() throws {
        let pair = try SessionPair(.test(), .test("server"))
        pair.handshake()
        let bytes = (0..<50_000).map { UInt8(truncatingIfNeeded: $0) }
        let output = pair.client.output(of: bytes, roomBytes: TLSSession.encryptedBytesMax(TLSSession.recordBytesMax))
        pair.server.receive(output)
        #expect(pair.server.received == bytes)
    }

    @Test("a handshake's output comes in portions as small as one byte")
    func tinyOutput() throws {
        let pair = try SessionPair(.test(), .test("server"))
        _ = pair.client.session.startHandshake()
        #expect(pair.client.session.hasOutput)
        let hello = pair.client.output(roomBytes: 1)
        #expect(hello.count > 100 && !pair.client.session.hasOutput)
        pair.server.receive(hello)
        #expect(pair.server.session.hasOutput && pair.server.error == nil)
    }

    @Test("close_notify closes, its absence is told")
    func closing() throws {
        let pair = try SessionPair(.test(), .test("server"))
        pair.handshake()
        pair.client.session.close()
        #expect(pair.client.isClosed)
        pair.exchange()
        #expect(pair.server.isClosed)
        _ = pair.server.session.endOfInput()
        #expect(pair.server.isClosed)

        let cut = try SessionPair(.test(), .test("server"))
        cut.handshake()
        _ = cut.server.session.endOfInput()
        #expect(cut.server.error?.reason == .truncated)
        #expect(cut.server.error?.message == "the client closed the connection without TLS's close_notify")
    }

    @Test("who closes before there is anything to close says nothing, and reads nothing")
    func closingEarly() throws {
        let pair = try SessionPair(.test(), .test("server"))
        _ = pair.client.session.startHandshake()
        pair.server.receive(pair.client.output())
        pair.client.session.close()
        pair.client.session.close()
        #expect(pair.client.output() == [])
        pair.client.receive(pair.server.output())
        #expect(pair.client.isClosed)
        _ = pair.server.session.endOfInput()
        #expect(pair.server.error?.reason == .truncated)
        pair.server.session.close()
        #expect(pair.server.output() == [] && pair.server.error?.reason == .truncated)
    }

    @Test("data before close_notify is delivered first")
    func closingBehindData() throws {
        let pair = try SessionPair(.test(), .test("server"))
        pair.handshake()
        var bytes = pair.client.output(of: [1, 2, 3])
        pair.client.session.close()
        bytes += pair.client.output()
        pair.server.receive(bytes)
        #expect(pair.server.received == [1, 2, 3])
        #expect(pair.server.isClosed)
    }

    @Test("credentials come in every form", arguments: ["file", "bytes", "encrypted", "pkcs12", "pkcs12-plain"])
    func credentials(form: String) throws {
        let path = TestCertificates.path
        let credentials: TLSCredentials =
            switch form {
            case "file": .pem(chainFile: path("server.pem"), keyFile: path("server.key"))
            case "bytes":
                .pem(
                    chain: .bytes(try TestCertificates.bytes("server.pem")),
                    key: .bytes(try TestCertificates.bytes("server.key"))
                )
            case "encrypted":
                .pem(chainFile: path("server.pem"), keyFile: path("server-encrypted.key"), passphrase: "secret")
            case "pkcs12": .pkcs12(.file(path("server-chain.p12")), passphrase: "secret")
            default: .pkcs12(.bytes(try TestCertificates.bytes("server.p12")))
            }
        let pair = try SessionPair(.test(), ServerTLS(credentials: [credentials]))
        pair.handshake()
        #expect(pair.client.error == nil)
        #expect(pair.client.session.info?.peer?.certificateChain.count == (form == "pkcs12" ? 2 : 1))
    }
}
