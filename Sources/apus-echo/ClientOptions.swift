internal import Apus
internal import ApusCommandLine
internal import ArgumentParser
internal import Logging

/// What every command that calls a server can be told.
struct ClientOptions: ParsableArguments {
    @Option(
        help: "HOST:PORT, dns:///HOST:PORT, ipv4:A.B.C.D:PORT, ipv6:[ADDRESS]:PORT, unix:PATH or unix-abstract:NAME."
    )
    var target = "127.0.0.1:50051"

    @OptionGroup var security: ClientSecurityOptions

    @Option(help: "How long the call may take: a number and ms, s, m or h, such as 500ms.")
    var timeout: TimeoutArgument?

    @Option(help: "An entry KEY=VALUE of metadata to send; may be repeated. For a key that ends in -bin: hexadecimal.")
    var metadata: [MetadataArgument] = []

    @Option(help: "How to compress requests: gzip or deflate.")
    var compression: CompressionArgument?

    @Flag(help: "Wait for the server, and do not fail when it cannot be reached.")
    var waitForReady = false

    @Flag(help: "Call in the way that blocks the thread.")
    var blocking = false

    @Flag(help: "Show the metadata that the server sends, on standard error.")
    var verbose = false

    @Option(help: "trace, debug, info, notice, warning, error or critical; on standard error.")
    var logLevel = "warning"

    func makeChannel() throws -> Channel {
        let logger = try Logger.standardError(label: "apus-echo", level: logLevel)
        return try Channel(target, security: security.makeSecurity(), logger: logger)
    }

    var callOptions: CallOptions {
        var options = CallOptions(
            timeout: timeout?.duration,
            waitForReady: waitForReady,
            compression: compression?.algorithm
        )
        for entry in metadata { entry.add(to: &options.metadata) }
        return options
    }
}

/// `key=value`.
struct MetadataArgument: ExpressibleByArgument {
    private enum Value {
        case text(String)
        case bytes([UInt8])
    }

    private let key: String
    private let value: Value

    init?(argument: String) {
        guard let equals = argument.firstIndex(of: "="), equals > argument.startIndex else { return nil }
        key = String(argument[..<equals])
        let text = String(argument[argument.index(after: equals)...])
        guard key.lowercased().hasSuffix("-bin") else {
            value = .text(text)
            return
        }
        let digits = Array(text)
        guard digits.count.isMultiple(of: 2) else { return nil }
        var bytes: [UInt8] = []
        for index in stride(from: 0, to: digits.count, by: 2) {
            guard let byte = UInt8(String(digits[index...(index + 1)]), radix: 16) else { return nil }
            bytes.append(byte)
        }
        value = .bytes(bytes)
    }

    func add(to metadata: inout Metadata) {
        switch value {
        case .text(let text): metadata.add(text, for: key)
        case .bytes(let bytes): metadata.add(bytes: bytes, for: key)
        }
    }
}
