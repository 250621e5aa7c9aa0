import ApusBase
import TestSupport
import Testing

@testable import ApusTransport

@Suite struct ResponseFieldsTests {
    private func read(
        _ fields: [(String, String)],
        _ settings: HTTP2Settings = HTTP2Settings(),
        into block: inout ResponseFields
    ) {
        block.reset()
        for (name, value) in fields {
            let (name, value) = (Array(name.utf8), Array(value.utf8))
            block.add(name: name.span, value: value.span, settings)
        }
        block.end()
    }

    private func read(_ fields: (String, String)...) -> ResponseFields {
        var block = ResponseFields()
        read(fields, into: &block)
        return block
    }

    @Test func `what gRPC and HTTP give a meaning is kept apart from metadata`() {
        let fields = read(
            (":status", "200"),
            ("content-type", "application/grpc"),
            ("grpc-status", "5"),
            ("grpc-message", "a%20b"),
            ("grpc-encoding", "gzip"),
            ("content-length", "12"),
            ("grpc-accept-encoding", "identity"),
            ("key", "value")
        )
        #expect(fields.httpStatus == 200)
        #expect(fields.contentTypeIsGRPC)
        #expect(fields.contentType == [])
        #expect(fields.status == .code(5))
        #expect(fields.message == Array("a%20b".utf8))
        #expect(fields.encoding == Array("gzip".utf8))
        #expect(fields.metadata == ["key": "value"])
        #expect(!fields.hasMalformedBinary)
    }

    @Test func `a block's size is the sum of its names, values and 32 for each field`() {
        let fields = read((":status", "200"), ("a", ""), ("bb", "ccc"))
        #expect(fields.listBytes == 10 + 1 + 5 + 3 * 32)
        #expect(fields.fieldCount == 3)
    }

    @Test func `a block at its limits is accepted, and one byte or field more is not`() {
        var settings = HTTP2Settings()
        settings.maxHeaderListBytes = 3 * 40
        settings.maxHeaderFields = 3
        var block = ResponseFields()
        read([("aaaa", "1111"), ("bbbb", "2222"), ("cccc", "3333")], settings, into: &block)
        #expect(block.isSound)
        #expect(block.metadata.count == 3)
        read([("aaaa", "1111"), ("bbbb", "2222"), ("cccc", "33333")], settings, into: &block)
        #expect(!block.isSound)
        #expect(block.isOverLimit)
        #expect(block.listBytes == 121)
        read([("a", ""), ("b", ""), ("c", ""), ("d", "")], settings, into: &block)
        #expect(!block.isSound)
        #expect(block.fieldCount == 4)
        #expect(block.metadata.count == 3)
        read([("a", "1")], settings, into: &block)
        #expect(block.isSound)
        #expect(block.metadata == ["a": "1"])
    }

    @Test(arguments: [
        ("0", ResponseFields.Status.code(0)), ("16", .code(16)), ("00", .code(0)), ("999999999", .code(999_999_999)),
        ("1000000000", .malformed), ("", .malformed), ("-1", .malformed), ("+1", .malformed), ("1 2", .malformed),
        ("0x1", .malformed), ("OK", .malformed), ("१", .malformed),
    ])
    func `grpc-status is a number`(text: String, status: ResponseFields.Status) {
        #expect(read(("grpc-status", text)).status == status)
    }

    @Test func `rule 11: white space at the edges of a value is not part of it, but for a message's`() {
        let fields = read(
            ("grpc-status", " 5\t"),
            ("grpc-message", " a "),
            ("content-type", "application/grpc "),
            ("grpc-encoding", " gzip"),
            ("a", " \t b \tc\t "),
            ("b", "  "),
            ("c", "")
        )
        #expect(fields.status == .code(5))
        #expect(fields.message == Array(" a ".utf8))
        #expect(fields.contentTypeIsGRPC)
        #expect(fields.encoding == Array("gzip".utf8))
        #expect(fields.metadata == ["a": "b \tc", "b": "", "c": ""])
    }

    @Test func `several values in one field count as many, and none of them is kept when they are too many`() {
        var block = ResponseFields()
        let name = String(repeating: "n", count: 1000) + "-bin"
        read([(name, String(repeating: ",", count: 100))], into: &block)
        #expect(block.fieldCount == 101)
        #expect(block.listBytes == 101 * (name.utf8.count + 32) + 100)
        #expect(!block.isSound)
        #expect(block.metadata.isEmpty)
    }

    @Test func `a block without grpc-status has none`() { #expect(read((":status", "200")).status == .missing) }

    @Test(arguments: [("200", 200), ("404", 404), ("1000", 0), ("", 0), ("20x", 0), ("-20", 0)])
    func `the HTTP status is a number of up to three digits`(text: String, status: Int) {
        #expect(read((":status", text)).httpStatus == status)
    }

    @Test(arguments: [
        ("application/grpc", true), ("application/grpc+proto", true), ("application/grpc;charset=utf-8", true),
        ("application/grpc-web", false), ("application/grpc-web+proto", false), ("text/html", false), ("", false),
        ("application/json", false),
    ])
    func `the content type is gRPC's or is kept for the error`(text: String, isGRPC: Bool) {
        let fields = read(("content-type", text))
        #expect(fields.contentTypeIsGRPC == isGRPC)
        #expect(fields.contentType == (isGRPC ? [] : Array(text.utf8)))
    }

    @Test func `identity is no encoding`() { #expect(read(("grpc-encoding", "identity")).encoding == []) }

    @Test func `a block begins without anything of the last one`() {
        var block = ResponseFields()
        read(
            [
                (":status", "503"), ("content-type", "text/html"), ("grpc-status", "x"), ("grpc-message", "m"),
                ("grpc-encoding", "gzip"), ("key", "value"), ("a-bin", "!"),
            ],
            into: &block
        )
        #expect(block.hasMalformedBinary)
        read([], into: &block)
        #expect(block.httpStatus == 0)
        #expect(block.contentType == [])
        #expect(block.status == .missing)
        #expect(block.message == [])
        #expect(block.encoding == [])
        #expect(block.metadata.isEmpty)
        #expect(!block.hasMalformedBinary)
        #expect(block.listBytes == 0)
        #expect(block.fieldCount == 0)
    }
}

@Suite struct IncomingMetadataTests {
    private func read(_ fields: [(String, String)], into incoming: inout IncomingMetadata) -> Bool {
        incoming.begin()
        var isWellFormed = true
        for (name, value) in fields {
            let (name, value) = (Array(name.utf8), Array(value.utf8))
            if !incoming.add(name: name.span, value: value.span) { isWellFormed = false }
        }
        incoming.end()
        return isWellFormed
    }

    private func read(_ fields: (String, String)...) -> Metadata {
        var incoming = IncomingMetadata()
        let isWellFormed = read(fields, into: &incoming)
        #expect(isWellFormed)
        return incoming.metadata
    }

    @Test func `the order of entries and of values is kept`() {
        let metadata = read(("b", "1"), ("a", "2"), ("b", "3"))
        #expect(metadata == ["b": "1", "a": "2", "b": "3"])
        #expect(metadata.values(for: "b") == ["1", "3"])
    }

    @Test func `names that begin with grpc are gRPC's own, but for a few`() {
        let metadata = read(
            ("grpc-foo", "1"),
            ("grpc-previous-rpc-attempts", "2"),
            ("grpc-trace-bin", "AA"),
            ("grpc", "3")
        )
        #expect(metadata["grpc-foo"] == nil)
        #expect(metadata["grpc-previous-rpc-attempts"] == "2")
        #expect(metadata.bytes(for: "grpc-trace-bin") == [[0]])
        #expect(metadata["grpc"] == "3")
    }

    @Test func `a binary value may be several, with and without padding`() {
        let metadata = read(("a-bin", "AQ==,AgM,, BAUG "))
        #expect(metadata.bytes(for: "a-bin") == [[1], [2, 3], [], [4, 5, 6]])
    }

    @Test(arguments: ["!", "A", "AQ=,AQ==", "AQ==AQ=="])
    func `a binary value that is not base64 is told`(value: String) {
        var incoming = IncomingMetadata()
        let isWellFormed = read([("ok", "1"), ("a-bin", value)], into: &incoming)
        #expect(!isWellFormed)
    }

    @Test func `bytes that are no text are carried`() {
        var incoming = IncomingMetadata()
        incoming.begin()
        let (name, value) = (Array("a".utf8), [UInt8]([0x80, 0xFF, 0x09, 0x41]))
        let isWellFormed = incoming.add(name: name.span, value: value.span)
        incoming.end()
        #expect(isWellFormed)
        #expect(incoming.metadata.packed.suffix(4).elementsEqual(value))
    }

    @Test func `a block that repeats the last one shares its memory`() {
        var incoming = IncomingMetadata()
        let fields = [("a", "1"), ("b-bin", "AQ"), ("c", "")]
        _ = read(fields, into: &incoming)
        let first = incoming.metadata
        _ = read(fields, into: &incoming)
        #expect(incoming.metadata == first)
        #expect(incoming.metadata.isSameBuffer(as: first))
    }

    @Test func `whatever came before, a block is read as if it were the first`() {
        var random = RandomSource(seed: 1)
        let names = ["a", "aa", "b-bin", "c"]
        let values = ["", "1", "12", "AQ", "AQ,Ag", " 1"]
        var incoming = IncomingMetadata()
        for _ in 0..<5000 {
            let count = Int.random(in: 0...4, using: &random)
            let fields = (0..<count).map { _ -> (String, String) in
                (names.randomElement(using: &random) ?? "", values.randomElement(using: &random) ?? "")
            }
            var fresh = IncomingMetadata()
            let expected = read(fields, into: &fresh)
            let isWellFormed = read(fields, into: &incoming)
            #expect(isWellFormed == expected)
            // What is left of a block that is refused nobody reads.
            if expected { #expect(incoming.metadata == fresh.metadata, "\(fields)") }
        }
    }

}
