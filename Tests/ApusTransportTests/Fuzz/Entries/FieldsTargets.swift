internal import ApusBase
internal import Foundation
internal import TestSupport

@testable import ApusTransport

// Blocks of header fields are read against the block before them, so that what repeats is not copied. Whatever came
// before, a block must be read as it would be alone.

extension FuzzTarget {
    /// `rule 9`, `rule 10`, `rule 11`: the heads of requests, one after another and each alone.
    static let requestFields = FuzzTarget(
        name: "request-fields",
        seeds: { fieldSeeds },
        run: { bytes in
            var input = FuzzInput(bytes)
            var reader = RequestHead(MessageEncodings())
            while !input.isAtEnd {
                let fields = input.fields(of: requestNames)
                var alone = RequestHead(MessageEncodings())
                read(fields, &reader)
                read(fields, &alone)
                try holdEqual(reader.metadata, alone.metadata, "metadata of \(fields)")
                try holdEqual(reader.flags, alone.flags, "flags of \(fields)")
                try holdEqual(reader.timeout, alone.timeout, "timeout of \(fields)")
                try holdEqual(reader.contentType, alone.contentType, "content type of \(fields)")
                try holdEqual(reader.listBytes, alone.listBytes, "list size of \(fields)")
                // Path, authority and encoding stay as they are when a head has none.
                if fields.contains(where: { $0.name == ":path" }) { try holdEqual(reader.path, alone.path, "path") }
                if alone.flags.contains(.hasAuthority) { try holdEqual(reader.authority, alone.authority, "authority") }
                try holdEqual(reader.encodings.request, alone.encodings.request, "request encoding of \(fields)")
                try holdEqual(reader.encodings.accepted, alone.encodings.accepted, "accepted encodings of \(fields)")
                if alone.flags.contains(.hasUnsupportedEncoding) {
                    try holdEqual(reader.encoding, alone.encoding, "encoding of \(fields)")
                }
                if alone.flags.contains(.hasMalformedBinary) { continue }
                try holdEqual(Entry.all(of: reader.metadata), expectedMetadata(fields), "metadata of \(fields)")
            }
        }
    )

    /// The same for the heads and trailers of responses.
    static let responseFields = FuzzTarget(
        name: "response-fields",
        seeds: { fieldSeeds },
        run: { bytes in
            var input = FuzzInput(bytes)
            var settings = HTTP2Settings()
            settings.maxHeaderListBytes = 40 * Int(input.byte())
            settings.maxHeaderFields = Int(input.byte())
            var reader = ResponseFields()
            while !input.isAtEnd {
                let fields = input.fields(of: responseNames)
                var alone = ResponseFields()
                read(fields, &reader, settings)
                read(fields, &alone, settings)
                try holdEqual(reader.metadata, alone.metadata, "metadata of \(fields)")
                try holdEqual(reader.status, alone.status, "status of \(fields)")
                try holdEqual(reader.httpStatus, alone.httpStatus, "HTTP status of \(fields)")
                try holdEqual(reader.message, alone.message, "message of \(fields)")
                try holdEqual(reader.isSound, alone.isSound, "whether \(fields) are sound")
                let further = fields.map { $0.name.hasSuffix("-bin") ? $0.value.count { $0 == 0x2C } : 0 }
                let listBytes = zip(fields, further).reduce(0) { sum, entry in
                    let (field, further) = entry
                    return sum + (field.name.utf8.count + 32) * (1 + further) + field.value.count
                }
                let fieldCount = fields.count + further.reduce(0, +)
                let isOverLimit = listBytes > settings.maxHeaderListBytes || fieldCount > settings.maxHeaderFields
                try holdEqual(reader.isOverLimit, isOverLimit, "whether \(listBytes) bytes are too many")
                if !reader.isSound { continue }
                try holdEqual(Entry.all(of: reader.metadata), expectedMetadata(fields), "metadata of \(fields)")
            }
        }
    )
}

/// A field that a fuzzer's bytes say.
struct FuzzField: CustomStringConvertible {
    var name: String
    var value: [UInt8]

    var description: String { "\(name): \(value)" }
}

private func read(_ fields: [FuzzField], _ reader: inout RequestHead) {
    reader.reset()
    for field in fields {
        let name = Array(field.name.utf8)
        reader.count(name: name.span, value: field.value.span)
        reader.add(name: name.span, value: field.value.span)
    }
    reader.end()
}

private func read(_ fields: [FuzzField], _ reader: inout ResponseFields, _ settings: HTTP2Settings) {
    reader.reset()
    for field in fields { reader.add(name: Array(field.name.utf8).span, value: field.value.span, settings) }
    reader.end()
}

let requestNames = [
    ":method", ":scheme", ":path", ":authority", "te", "content-type", "grpc-timeout", "grpc-encoding", "host",
    "content-length", "x", "y", "x-bin", "y-bin", "-bin", "grpc-trace-bin", "grpc-x", "grpc-accept-encoding",
    "user-agent",
]

let responseNames = [
    ":status", "content-type", "grpc-status", "grpc-message", "grpc-encoding", "grpc-status-details-bin",
    "content-length", "x", "y", "x-bin", "y-bin", "grpc-x", "grpc-retry-pushback-ms",
]

private let usualValues = [
    "POST", "/t/Sync", "/t/Unary", "http", "trailers", "application/grpc", "application/grpc+proto", "identity", "gzip",
    "1S", "200", "0", "13", "a", "", " a ", "QUI", "QUI=,QQ==", "*", "application/grpc-web", "text/html", "99999999H",
]

extension FuzzInput {
    /// A block of fields: names of a table or made up, values that are usual or made up.
    mutating func fields(of names: [String]) -> [FuzzField] {
        (0..<number(below: 16)).map { _ in
            let choice = byte()
            let name =
                choice < 240
                ? names[Int(choice) % names.count]
                : String(decoding: shortBytes().map { 0x61 + $0 % 26 }, as: UTF8.self)
            let value = Int(byte())
            return FuzzField(
                name: name,
                value: value < 200 ? Array(usualValues[value % usualValues.count].utf8) : bytes(value - 200)
            )
        }
    }
}

private let fieldSeeds: [[UInt8]] = [
    [8, 0, 0, 1, 3, 2, 1, 3, 3, 4, 4, 5, 5, 10, 13, 12, 16, 8, 0, 0, 1, 3, 2, 1, 3, 3, 4, 4, 5, 5, 10, 13, 12, 17],
    [3, 10, 13, 11, 14, 12, 17, 3, 10, 13, 11, 13, 12, 17, 2, 10, 13, 11, 14, 0, 3, 10, 13, 11, 14, 12, 17],
    [255, 255, 4, 0, 10, 2, 11, 7, 13, 9, 16, 4, 0, 10, 2, 11, 7, 13, 9, 16, 2, 250, 2, 1, 2, 203, 1, 2, 3, 1, 1],
    [20, 3, 3, 0, 10, 1, 5, 2, 11],
]

// MARK: - What the metadata should be

struct Entry: Equatable {
    var name: String
    var value: [UInt8]

    /// The entries as they are held, before a text is repaired to be UTF-8.
    static func all(of metadata: Metadata) -> [Entry] {
        metadata.fields.map { field in
            let name = String(decoding: metadata.packed[field.name], as: UTF8.self)
            return Entry(name: name, value: Array(metadata.packed[field.value]))
        }
    }
}

/// The metadata of a block, in the words of PROTOCOL-HTTP2.md, whose `-bin` values are base64.
func expectedMetadata(_ fields: [FuzzField]) -> [Entry] {
    let ours: Set = ["te", "host", "content-type", "content-length"]
    let forApplications: Set = [
        "grpc-previous-rpc-attempts", "grpc-retry-pushback-ms", "grpc-status-details-bin", "grpc-trace-bin",
        "grpc-tags-bin",
    ]
    return fields.flatMap { field -> [Entry] in
        if field.name.hasPrefix(":") || ours.contains(field.name) { return [] }
        if field.name.hasPrefix("grpc-"), !forApplications.contains(field.name) { return [] }
        guard field.name.hasSuffix("-bin") else { return [Entry(name: field.name, value: trim(field.value[...]))] }
        return field.value.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false).compactMap { part in
            expectedBase64(trim(part)).map { Entry(name: field.name, value: $0) }
        }
    }
}

private func trim(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
    let isSpace: (UInt8) -> Bool = { $0 == 0x20 || $0 == 0x09 }
    guard let first = bytes.firstIndex(where: { !isSpace($0) }), let last = bytes.lastIndex(where: { !isSpace($0) })
    else { return [] }
    return Array(bytes[first...last])
}
