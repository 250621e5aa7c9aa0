import ApusBase
import ApusTransport
import GRPCCore
import GRPCCoreFit
import Logging
import Testing

let silentLogger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

typealias FitClient = GRPCClient<ApusClientTransport>
typealias FitServer = GRPCServer<ApusServerTransport>

/// GRPCCore's server and client, both on Apus's transport, with a socket between them.
struct FitPair: Sendable {
    let server: FitServer
    let client: FitClient
    let clientTransport: ApusClientTransport
    let notes: Notes

    /// A call of one message.
    func unary(
        _ name: String,
        _ message: String = "m",
        metadata: GRPCCore.Metadata = [:],
        options: GRPCCore.CallOptions = .defaults
    ) async throws -> ClientResponse<String> {
        try await client.unary(
            request: ClientRequest(message: message, metadata: metadata),
            descriptor: FitService.method(name),
            serializer: TextCoding(),
            deserializer: TextCoding(),
            options: options
        ) { $0 }
    }

    /// The message that such a call is answered with.
    func message(
        _ name: String,
        _ message: String = "m",
        options: GRPCCore.CallOptions = .defaults
    ) async throws -> String {
        try await unary(name, message, options: options).message
    }

    /// A call in which both sides stream.
    func stream<Result: Sendable>(
        _ name: String,
        options: GRPCCore.CallOptions = .defaults,
        _ producer: @escaping @Sendable @concurrent (RPCWriter<String>) async throws -> Void,
        onResponse: @escaping @Sendable @concurrent (StreamingClientResponse<String>) async throws -> Result
    ) async throws -> Result {
        try await client.bidirectionalStreaming(
            request: StreamingClientRequest(producer: producer),
            descriptor: FitService.method(name),
            serializer: TextCoding(),
            deserializer: TextCoding(),
            options: options,
            onResponse: onResponse
        )
    }
}

/// Returns when both sides have shut down in order.
func withFitPair(
    handlersOn executor: HandlerExecutor = .eventLoop,
    _ body: @Sendable (FitPair) async throws -> Void
) async throws {
    let notes = Notes()
    let transport = ApusServerTransport(
        address: .ipv4(host: "127.0.0.1", port: 0),
        executor: executor,
        logger: silentLogger
    )
    try await withGRPCServer(transport: transport, services: [FitService(notes: notes)]) { server in
        let target = try await transport.listeningAddress.peerText
        let clientTransport = try ApusClientTransport(target, logger: silentLogger)
        try await withGRPCClient(transport: clientTransport) { client in
            let pair = FitPair(server: server, client: client, clientTransport: clientTransport, notes: notes)
            try await body(pair)
        }
    }
}

/// Waits until something is so that happens at the other end.
func eventually(
    _ what: String,
    sourceLocation: SourceLocation = #_sourceLocation,
    _ isSo: () -> Bool
) async throws {
    for _ in 0..<20_000 {
        if isSo() { return }
        try await Task.sleep(for: .milliseconds(1))
    }
    Issue.record("it never happened: \(what)", sourceLocation: sourceLocation)
}

/// The error of a call that has to fail.
func error(of call: () async throws -> some Any) async -> GRPCCore.RPCError? {
    do {
        _ = try await call()
        return nil
    } catch {
        return error as? GRPCCore.RPCError
    }
}
