import ApusBase
import TestSupport
import Testing

@testable import ApusTransport

@Suite struct RequestHeadTests {
    private func head(_ fields: [(String, String)]) -> SeenHead {
        var head = RequestHead(MessageEncodings())
        return SeenHead(reading: fields, into: &head)
    }

    private func metadata(_ fields: (String, String)...) -> Metadata { head(fields).metadata }

    // MARK: gRPC's own fields

    @Test func `the usual head is read, and none of it is metadata`() {
        let head = head([
            (":method", "POST"), (":scheme", "http"), (":path", "/a.B/C"), (":authority", "example"),
            ("te", "trailers"), ("content-type", "application/grpc"), ("grpc-timeout", "5S"),
            ("grpc-encoding", "identity"), ("grpc-accept-encoding", "gzip,identity"), ("content-length", "7"),
        ])
        #expect(head.isPost)
        #expect(head.path == "/a.B/C")
        #expect(head.authority == "example")
        #expect(head.acceptsTrailers)
        #expect(head.isGRPC)
        #expect(head.timeout == 5_000_000_000)
        #expect(!head.timeoutIsMalformed)
        #expect(head.unsupportedEncoding == nil)
        #expect(head.metadata.isEmpty)
    }

    @Test(arguments: ["GET", "post", "POSTS", "PUT", ""])
    func `another method is not POST`(method: String) {
        #expect(!head([(":method", method)]).isPost)
    }

    @Test(arguments: [
        ("application/grpc", true), ("application/grpc+proto", true), ("application/grpc;charset=utf-8", true),
        ("application/grpc+", true), ("application/grpc-web", false), ("application/grpc-web+proto", false),
        ("application/grpcx", false), ("application/json", false), ("application/grp", false), ("", false),
        ("text/plain;application/grpc", false), ("application/grpc ", true), ("application/grpc x", false),
    ])
    func `the content type is gRPC's or not`(type: String, isGRPC: Bool) {
        #expect(head([("content-type", type)]).isGRPC == isGRPC)
    }

    @Test(arguments: ["", "5", "5s", "123456789S"])
    func `a malformed timeout is remembered`(timeout: String) {
        let head = head([("grpc-timeout", timeout)])
        #expect(head.timeoutIsMalformed)
        #expect(head.timeout == nil)
    }

    @Test func `rule 13: an encoding without a codec is not supported, those with one and identity are`() {
        #expect(head([("grpc-encoding", "br")]).unsupportedEncoding == "br")
        #expect(head([("grpc-encoding", "GZIP")]).unsupportedEncoding == "GZIP")
        #expect(head([("grpc-encoding", "")]).unsupportedEncoding != nil)
        for (name, index) in [("identity", 0), ("gzip", 1), ("deflate", 2)] as [(String, UInt8)] {
            let head = head([("grpc-encoding", name)])
            #expect(head.unsupportedEncoding == nil)
            #expect(head.encoding == index)
        }
    }

    private static let acceptLists: [(String, UInt16)] = [
        ("", 0), ("identity", 0), ("gzip", 1), ("deflate", 2), ("gzip,deflate", 3), ("identity, deflate ,\tgzip", 3),
        ("gzip;q=1", 0), ("GZIP", 0), (",,deflate,", 2), ("br, snappy, zstd", 0), (" gzip", 1), ("gzip gzip", 0),
    ]

    @Test(arguments: acceptLists)
    func `what a client accepts is what its list has of the server's codecs`(list: String, accepted: UInt16) {
        #expect(head([("grpc-accept-encoding", list)]).accepted == accepted)
    }

    @Test func `responses are compressed by default if the client accepts that`() {
        for (list, response) in [("gzip", 0), ("gzip,deflate", 2), ("deflate", 2), ("", 0)] as [(String, UInt8)] {
            var head = RequestHead(MessageEncodings(byDefault: .deflate))
            _ = SeenHead(reading: [("grpc-accept-encoding", list)], into: &head)
            #expect(head.encodings.response == response, "\(list)")
        }
        var head = RequestHead(MessageEncodings())
        _ = SeenHead(reading: [("grpc-accept-encoding", "gzip")], into: &head)
        #expect(head.encodings.response == 0)
    }

    // MARK: Authority and host (gRFC A41)

    @Test func `:authority wins over host, in either order`() {
        let first = head([(":authority", "a"), ("host", "h")])
        let second = head([("host", "h"), (":authority", "a")])
        #expect(first.authority == "a")
        #expect(second.authority == "a")
        #expect(first.metadata.isEmpty && second.metadata.isEmpty)
    }

    @Test func `host stands in for a missing :authority`() {
        #expect(head([("host", "h")]).authority == "h")
    }

    @Test func `an empty :authority is an authority`() {
        #expect(head([(":authority", ""), ("host", "h")]).authority == "")
    }

    // MARK: Metadata

    @Test func `custom fields are metadata, in order, duplicates and all`() {
        let metadata = metadata(("b", "1"), ("a", "2"), ("b", "3"), ("user-agent", "me"))
        #expect(metadata == ["b": "1", "a": "2", "b": "3", "user-agent": "me"])
    }

    @Test func `names of gRPC are hidden, but for the few that applications see`() {
        let metadata = metadata(
            ("grpc-status", "0"),
            ("grpc-message", "x"),
            ("grpc-foo", "x"),
            ("grpc-", "x"),
            ("grpc-x-bin", "!"),
            ("grpc-previous-rpc-attempts", "2"),
            ("grpc-trace-bin", "AAE"),
            ("grpc-tags-bin", "AAE"),
            ("grpcx", "y")
        )
        let keys = metadata.map(\.key)
        #expect(keys == ["grpc-previous-rpc-attempts", "grpc-trace-bin", "grpc-tags-bin", "grpcx"])
    }

    @Test func `a reserved binary field that is not base64 fails nothing`() {
        #expect(!head([("grpc-x-bin", "!")]).hasMalformedBinary)
    }

    @Test(
        arguments: [
            ("AAEC", [[0, 1, 2]]), ("AAE", [[0, 1]]), ("AAE=", [[0, 1]]), ("", [[]]), ("AA,AQ", [[0], [1]]),
            ("AA==,AQ==", [[0], [1]]), (" AA , AQ\t", [[0], [1]]), ("AA,,AQ", [[0], [], [1]]), (",", [[], []]),
        ] as [(String, [[UInt8]])]
    )
    func `a binary value is one or several, in base64 with or without padding`(text: String, values: [[UInt8]]) {
        #expect(metadata(("k-bin", text)).bytes(for: "k-bin") == values)
    }

    @Test(arguments: ["A", "AA,A", "A,AA", "A A", "AAA-", "AA==AA", "*"])
    func `a binary value that is not base64 is remembered`(text: String) {
        #expect(head([("k-bin", text)]).hasMalformedBinary)
    }

    @Test func `binary duplicates keep their order, joined or apart`() {
        let metadata = metadata(("k-bin", "AA,AQ"), ("other", "x"), ("k-bin", "Ag"))
        #expect(metadata.bytes(for: "k-bin") == [[0], [1], [2]])
        #expect(metadata.map(\.key) == ["k-bin", "k-bin", "other", "k-bin"])
    }

    @Test(arguments: [
        (" v", "v"), ("v ", "v"), ("\tv\t ", "v"), ("a b", "a b"), ("a\tb", "a\tb"), ("   ", ""), ("", ""),
        ("a, b", "a, b"),
    ])
    func `white space at the edges of a value goes, within it stays`(sent: String, seen: String) {
        #expect(metadata(("k", sent)).values(for: "k") == [seen])
    }

    @Test func `bytes that are no text are kept as they came`() {
        var fields = Fields()
        fields.add("k", bytes: [0x80, 0xFF, 0x09, 0x61])
        var head = RequestHead(MessageEncodings())
        #expect(SeenHead(reading: fields, into: &head).metadata.bytes(for: "k") == [[0x80, 0xFF, 0x09, 0x61]])
    }

    /// The flat form has two bytes for the length of a name; HPACK lets one of 65,536 bytes through, and a server may
    /// be configured to take header lists of that size.
    @Test(arguments: [65_535, 65_536, 70_000])
    func `a name of any length leaves metadata that can be read`(bytes: Int) {
        let head = head([("a", "1"), (String(repeating: "n", count: bytes), "v"), ("b", "2")])
        let packed = head.metadata.packed
        // Walked by hand, because what is wrong here traps there.
        var position = 0
        var entries = 0
        while position + 6 <= packed.count {
            let nameBytes = Int(packed[position]) | Int(packed[position + 1]) << 8
            let valueBytes = (0..<4).reduce(0) { $0 | Int(packed[position + 2 + $1]) << (8 * $1) }
            position += 6 + nameBytes + valueBytes
            entries += 1
        }
        #expect(position == packed.count)
        #expect(entries == 2 || entries == 3)
    }

    // MARK: Counting and reuse

    @Test func `the list's size is name and value and 32 for each field`() {
        var head = RequestHead(MessageEncodings())
        let (abc, de, none) = (Array("abc".utf8), Array("de".utf8), [UInt8]())
        head.count(name: abc.span, value: de.span)
        head.count(name: none.span, value: none.span)
        #expect(head.listBytes == 3 + 2 + 32 + 32)
        #expect(head.fieldCount == 2)
    }

    @Test func `nothing of one head is seen in the next`() {
        var head = RequestHead(MessageEncodings())
        _ = SeenHead(
            reading: [
                (":method", "POST"), (":path", "/a/b"), (":authority", "a"), ("te", "trailers"), ("grpc-timeout", "x"),
                ("content-type", "application/grpc+x"), ("grpc-encoding", "br"), ("k", "v"), ("k-bin", "*"),
                ("grpc-accept-encoding", "gzip"),
            ],
            into: &head
        )
        let next = SeenHead(reading: [], into: &head)
        #expect(next == SeenHead())
        #expect(head.listBytes == 0 && head.fieldCount == 0)
        #expect(SeenHead(reading: [("host", "h")], into: &head).authority == "h")
    }

    @Test func `a sequence of heads, alike and not, is read as if each were the first`() {
        var random = RandomSource(seed: 16)
        let choices: [(String, [String])] = [
            (":method", ["POST", "POST", "GET"]), (":path", ["/a/b", "/a/b", "/a/c", "/"]),
            (":authority", ["x", "x", "y", ""]), ("host", ["h", "x"]), ("te", ["trailers", "trailers", "gzip"]),
            ("content-type", ["application/grpc", "application/grpc+proto", "text/html"]),
            ("grpc-timeout", ["1S", "2S", "bad"]), ("grpc-encoding", ["identity", "gzip", "br"]),
            ("grpc-accept-encoding", ["gzip", "identity,deflate"]),
            ("a", ["1", "1", "1", "22", ""]), ("b", ["1", "1", "11"]), ("ab", ["1"]),
            ("c-bin", ["AAEC", "AA,AQ", "!"]),
            ("a", ["1", "2"]), ("grpc-x", ["1"]),
        ]
        var head = RequestHead(MessageEncodings())
        for _ in 0..<20_000 {
            let rarity = Int.random(in: 1...8, using: &random)
            let fields = choices.filter { _ in Int.random(in: 0...rarity, using: &random) > 0 }.map { name, values in
                (name, values[Int.random(in: 0..<values.count, using: &random)])
            }
            var fresh = RequestHead(MessageEncodings())
            #expect(SeenHead(reading: fields, into: &head) == SeenHead(reading: fields, into: &fresh), "\(fields)")
        }
    }
}

/// What a head says, whatever it is kept in.
private struct SeenHead: Equatable {
    var isPost = false
    var acceptsTrailers = false
    var isGRPC = false
    var timeout: Int64?
    var timeoutIsMalformed = false
    var unsupportedEncoding: String?
    var encoding: UInt8 = 0
    var accepted: UInt16 = 0
    var hasMalformedBinary = false
    var path = ""
    var authority = ""
    var metadata = Metadata()

    init() {}

    init(reading fields: [(String, String)], into head: inout RequestHead) {
        var list = Fields()
        for (name, value) in fields { list.add(name, value) }
        self.init(reading: list, into: &head)
    }

    init(reading fields: Fields, into head: inout RequestHead) {
        head.reset()
        for field in fields.list { head.add(name: field.name.span, value: field.value.span) }
        isPost = head.flags.contains(.isPost)
        acceptsTrailers = head.flags.contains(.acceptsTrailers)
        isGRPC = head.flags.contains(.isGRPC)
        timeout = head.timeout
        timeoutIsMalformed = head.flags.contains(.timeoutIsMalformed)
        if head.flags.contains(.hasUnsupportedEncoding) {
            unsupportedEncoding = String(decoding: head.encoding, as: UTF8.self)
        }
        encoding = head.encodings.request
        accepted = head.encodings.accepted
        hasMalformedBinary = head.flags.contains(.hasMalformedBinary)
        head.end()
        // Path and authority stay those of the last head that had them; nghttp2 lets no head through without.
        if fields[":path"] != nil { path = String(decoding: head.path, as: UTF8.self) }
        if fields[":authority"] != nil || fields["host"] != nil {
            authority = String(decoding: head.authority, as: UTF8.self)
        }
        metadata = head.metadata
    }
}
