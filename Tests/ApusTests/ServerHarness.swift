import Apus
import Glibc
import Logging
import TestSupport
import Testing

let silentLogger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// A service made of what a test registers; its methods are `t/…`, their messages text.
struct TestService: RPCService {
    let registration: @Sendable (inout MethodRegistry) -> Void

    init(_ registration: @escaping @Sendable (inout MethodRegistry) -> Void) { self.registration = registration }

    func register(with registry: inout MethodRegistry) { registration(&registry) }

    /// An echo as `t/Sync`, `t/Unary` and `t/Update`.
    static let echo = TestService { registry in
        registry.synchronousUnary(.test("Sync"), request: TextCodec(), response: TextCodec()) { text, _ in text }
        registry.unary(.test("Unary"), request: TextCodec(), response: TextCodec()) { text, _ in text }
        registry.bidirectionalStreaming(.test("Update"), request: TextCodec(), response: TextCodec()) {
            requests,
            responses,
            _ in
            for try await text in requests { try await responses.write(text) }
        }
    }

    /// `t/Wait` waits until it is told to go on, and notes whether it was cancelled.
    static func waiting(_ go: Signal, _ notes: Notes) -> TestService {
        TestService { registry in
            registry.unary(.test("Wait"), request: TextCodec(), response: TextCodec()) { text, _ in
                notes.add("began")
                await go.wait()
                notes.add(Task.isCancelled ? "cancelled" : "ended")
                return text
            }
        }
    }
}

extension MethodDescriptor {
    static func test(_ name: String) -> MethodDescriptor { MethodDescriptor(service: "t", method: name) }
}

/// Text as it is; `!` neither encodes nor decodes.
struct TextCodec: MessageCodec {
    struct Refusal: Error {}

    func encode(_ text: String) throws -> [UInt8] {
        if text == "!" { throw Refusal() }
        return Array(text.utf8)
    }

    func decode(_ bytes: [UInt8]) throws -> String {
        let text = String(decoding: bytes, as: UTF8.self)
        if text == "!" { throw Refusal() }
        return text
    }
}

/// What handlers note, in order.
final class Notes: Sendable {
    private let lock = Lock<[String]>([])
    var all: [String] { lock.withLock { $0 } }
    func add(_ note: String) { lock.withLock { $0.append(note) } }
}

func describe(_ error: any Error) -> String { (error as? RPCError).map { "\($0.code)" } ?? "\(type(of: error))" }

/// A path in the file system, or a name, that no other test has.
func uniqueName(_ name: String) -> String { "apus-test-\(getpid())-\(name)-\(UInt32.random(in: 0 ... .max))" }

func makeServer(
    _ address: ListenAddress = .tcp(host: "127.0.0.1", port: 0),
    _ services: [any RPCService] = [TestService.echo],
    configuration: ServerConfiguration = ServerConfiguration(),
    eventLoops: EventLoopGroup = .shared
) throws -> Server {
    try Server(
        address,
        services: services,
        configuration: configuration,
        eventLoops: eventLoops,
        logger: silentLogger
    )
}

/// A server that listens on a port of its own, for one test; stopped at the end.
func withServer(
    _ services: [any RPCService] = [TestService.echo],
    configuration: ServerConfiguration = ServerConfiguration(),
    _ body: (Server, UInt16) async throws -> Void
) async throws {
    let server = try makeServer(.tcp(host: "127.0.0.1", port: 0), services, configuration: configuration)
    let address = try await server.listen()
    guard case .ipv4(_, let port) = address else {
        Issue.record("it listens on \(address)")
        return
    }
    do {
        try await body(server, port)
    } catch {
        server.stop()
        throw error
    }
    server.stop()
    await server.waitUntilStopped()
}

/// Runs a client on a thread of its own, connected to a port.
func withClient<Result: Sendable>(
    _ port: UInt16,
    _ body: @escaping @Sendable (BlockingClient) throws -> Result
) async throws -> Result {
    try await onThread { try body(try BlockingClient(descriptor: BlockingClient.connect(port: port))) }
}

/// Waits until something is so.
func eventually(
    _ what: String,
    sourceLocation: SourceLocation = #_sourceLocation,
    _ isSo: () async -> Bool
) async {
    for _ in 0..<10_000 {
        if await isSo() { return }
        try? await Task.sleep(for: .milliseconds(1))
    }
    Issue.record("it never happened: \(what)", sourceLocation: sourceLocation)
}
