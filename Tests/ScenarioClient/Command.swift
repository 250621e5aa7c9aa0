internal import Apus
internal import Foundation

/// A line of standard input: what to do, and with which values.
///
///     start    one call: `id`, `kind`, `path`, and the fields below
///     cancel   `id`, `how`: hand, task, or drop (for a call started with `drop`)
///     finish   lets a call half-close that was started with `hold`
///     resume   lets a call read on that paused
///     load     `workers` that make `calls` each, one after another; a `summary` follows
///     channels `count` channels, each opened, used for one call and closed, by `workers`; a `summary` follows
///     echo     one call by the stub of echo.v1.EchoService: `id`, `kind`, `texts`
///     reload-tls, replace-tls (with the server name `tls_server_name`): `reloaded` follows, with the error if there is
///              one
///     connect, state, figures, close
struct Command: Decodable, Sendable {
    enum Kind: String, Decodable { case unary, server, client, bidi }

    /// Where the call is made: in a task of the global pool, on the main actor or main thread, in an actor, on the
    /// channel's loop, on a loop of another group, or on a thread (blocking calls alone).
    enum Place: String, Decodable { case task, main, actor, loop, otherLoop = "other-loop", thread }

    /// What messages are filled with: the low byte of their number, or that after four bytes of number, big-endian.
    enum Numbering: String, Decodable { case byte, index }

    var `do`: String
    var id: String?
    var kind: Kind?
    var path: String?
    var blocking: Bool?
    var on: Place?
    var how: String?

    // The requests: those given, or `count` of `bytes`.
    var payloads: [String]?
    var count: Int?
    var bytes: Int?
    var numbering: Numbering?
    /// Does not half-close before the command `finish`.
    var hold: Bool?

    /// The numbers of requests of a stream that are written uncompressed.
    var plain: [Int]?

    // The responses.
    /// Whether messages are told in the end, other than counted.
    var keep: Bool?
    var expectedBytes: Int?
    /// Stops reading after so many messages, until the command `resume`.
    var pauseAfter: Int?
    /// Leaves the loop that reads after so many messages.
    var breakAfter: Int?
    /// Reads a stream in the form that says of each response whether it came compressed.
    var watchCompression: Bool?
    /// Tells of the initial metadata as soon as it is there.
    var watchHead: Bool?
    /// Neither reads nor half-closes; the command `cancel` with `drop` lets go of the call.
    var drop: Bool?

    // Options of the call.
    var metadata: [MetadataEntry]?
    var timeoutMs: Double?
    var waitForReady: Bool?
    var maxRequestBytes: Int?
    var maxResponseBytes: Int?
    var compression: String?

    var workers: Int?
    var calls: Int?
    var texts: [String]?
    var tlsServerName: String?

    static func unary(path: String) -> Command { Command(do: "start", id: "main", kind: .unary, path: path) }

    static func parse(_ line: String) throws -> Command {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(Command.self, from: Data(line.utf8))
    }

    var method: MethodDescriptor {
        let parts = (path ?? "").split(separator: "/", maxSplits: 1)
        return MethodDescriptor(service: String(parts.first ?? ""), method: String(parts.last ?? ""))
    }

    var options: CallOptions {
        var options = CallOptions()
        options.timeout = timeoutMs.map { .nanoseconds(Int64($0 * 1e6)) }
        options.waitForReady = waitForReady ?? false
        options.maxRequestBytes = maxRequestBytes
        options.maxResponseBytes = maxResponseBytes
        options.compression = compression.map { CompressionAlgorithm($0) }
        for entry in metadata ?? [] { entry.add(to: &options.metadata) }
        return options
    }

    func isPlain(_ number: Int) -> Bool { plain?.contains(number) ?? false }

    var requestCount: Int { payloads?.count ?? count ?? 1 }

    func request(_ number: Int) -> [UInt8] {
        if let payloads { return Array(Data(base64Encoded: payloads[number]) ?? Data()) }
        var request = [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: bytes ?? 0)
        if numbering == .index {
            for (position, shift) in zip(request.indices, [24, 16, 8, 0]) {
                request[position] = UInt8(truncatingIfNeeded: number >> shift)
            }
        }
        return request
    }

    /// Whether a response is what belongs at its place in a stream of numbered messages.
    func isExpected(_ response: [UInt8], at number: Int) -> Bool {
        if let expectedBytes, response.count != expectedBytes { return false }
        var expected = [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: response.count)
        if numbering == .index {
            for (place, shift) in [24, 16, 8, 0].enumerated() where place < expected.count {
                expected[place] = UInt8(truncatingIfNeeded: number >> shift)
            }
        }
        // As a whole: byte by byte, a sanitizer would take minutes over a large message.
        return response == expected
    }
}

/// `["key", "text"]` or `["key", {"base64": "…"}]`.
struct MetadataEntry: Decodable, Sendable {
    private struct Bytes: Decodable { let base64: String }

    private let key: String
    private let text: String?
    private let bytes: [UInt8]

    init(from decoder: any Decoder) throws {
        var parts = try decoder.unkeyedContainer()
        key = try parts.decode(String.self)
        if let encoded = try? parts.decode(Bytes.self) {
            text = nil
            bytes = Array(Data(base64Encoded: encoded.base64) ?? Data())
        } else {
            text = try parts.decode(String.self)
            bytes = []
        }
    }

    func add(to metadata: inout Metadata) {
        if let text { metadata.add(text, for: key) } else { metadata.add(bytes: bytes, for: key) }
    }
}
