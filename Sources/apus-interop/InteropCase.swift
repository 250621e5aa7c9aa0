internal import Apus
internal import GRPCTesting
internal import Logging

/// A case of gRPC's interop-test-descriptions.md, by its name there.
struct InteropCase: Sendable {
    let name: String
    let body: @Sendable (CaseRun) async throws -> Void
    private let needsLimitOfStreams: Bool

    private init(
        _ name: String,
        needsLimitOfStreams: Bool = false,
        _ body: @escaping @Sendable (CaseRun) async throws -> Void
    ) {
        self.name = name
        self.body = body
        self.needsLimitOfStreams = needsLimitOfStreams
    }

    /// Why the case cannot be run with these parameters, or `nil`.
    func obstacle(in parameters: CaseParameters) -> String? {
        guard needsLimitOfStreams, parameters.maxConcurrentStreams == nil else { return nil }
        return "it needs a server with a limit of streams, and --max-concurrent-streams"
    }

    static let all = [
        InteropCase("empty_unary") { try await $0.emptyUnary() },
        InteropCase("large_unary") { try await $0.largeUnary() },
        InteropCase("very_large_request") { try await $0.veryLargeRequest() },
        InteropCase("client_streaming") { try await $0.clientStreaming() },
        InteropCase("server_streaming") { try await $0.serverStreaming() },
        InteropCase("ping_pong") { try await $0.pingPong() },
        InteropCase("empty_stream") { try await $0.emptyStream() },
        InteropCase("client_compressed_unary") { try await $0.clientCompressedUnary() },
        InteropCase("server_compressed_unary") { try await $0.serverCompressedUnary() },
        InteropCase("client_compressed_streaming") { try await $0.clientCompressedStreaming() },
        InteropCase("server_compressed_streaming") { try await $0.serverCompressedStreaming() },
        InteropCase("cancel_after_begin") { try await $0.cancelAfterBegin() },
        InteropCase("cancel_after_first_response") { try await $0.cancelAfterFirstResponse() },
        InteropCase("timeout_on_sleeping_server") { try await $0.timeoutOnSleepingServer() },
        InteropCase("custom_metadata") { try await $0.customMetadata() },
        InteropCase("status_code_and_message") { try await $0.statusCodeAndMessage() },
        InteropCase("special_status_message") { try await $0.specialStatusMessage() },
        InteropCase("unimplemented_method") { try await $0.unimplementedMethod() },
        InteropCase("unimplemented_service") { try await $0.unimplementedService() },
        InteropCase("pick_first_unary") { try await $0.pickFirstUnary() },
        InteropCase("rpc_soak") { try await $0.rpcSoak() },
        InteropCase("channel_soak") { try await $0.channelSoak() },
        InteropCase("long_lived_channel") { try await $0.longLivedChannel() },
        InteropCase("max_concurrent_streams_connection_scaling", needsLimitOfStreams: true) {
            try await $0.maxConcurrentStreams(limit: $0.parameters.maxConcurrentStreams ?? 0)
        },
    ]

    static var names: String { all.map(\.name).joined(separator: ", ") }
}

/// How a case ended; its description is the line that is printed.
enum CaseOutcome: CustomStringConvertible {
    case passed(String)
    case failed(String, why: String)
    case skipped(String, why: String)

    var description: String {
        switch self {
        case .passed(let name): "PASS \(name)"
        case .failed(let name, let why): "FAIL \(name): \(why)"
        case .skipped(let name, let why): "SKIP \(name): \(why)"
        }
    }
}

/// What the cases share: one channel, as the description has it, and how to make others.
struct CaseRun: Sendable {
    let channel: Channel
    let parameters: CaseParameters
    let timeout: Duration
    private let target: String
    private let security: ChannelSecurity
    private let logger: Logger

    init(
        target: String,
        security: ChannelSecurity,
        timeout: Duration,
        parameters: CaseParameters,
        logger: Logger
    ) throws {
        channel = try Self.makeChannel(target, security, logger)
        self.parameters = parameters
        self.timeout = timeout
        self.target = target
        self.security = security
        self.logger = logger
    }

    /// Another channel to the server, with a connection of its own.
    func makeChannel() throws -> Channel { try Self.makeChannel(target, security, logger) }

    private static func makeChannel(_ target: String, _ security: ChannelSecurity, _ logger: Logger) throws -> Channel {
        var configuration = ChannelConfiguration()
        configuration.acceptsCompressedResponses = true
        return try Channel(target, security: security, configuration: configuration, logger: logger)
    }

    var service: Grpc_Testing_TestService.Client { Grpc_Testing_TestService.Client(channel) }

    /// For every call, so that a server which says nothing fails its case and not the run.
    var options: CallOptions { .timeout(timeout) }

    func outcome(of interopCase: InteropCase) async -> CaseOutcome {
        if let obstacle = interopCase.obstacle(in: parameters) { return .skipped(interopCase.name, why: obstacle) }
        do {
            try await interopCase.body(self)
            return .passed(interopCase.name)
        } catch let error as RPCError {
            return .failed(interopCase.name, why: "expected a call to succeed, got \(error)")
        } catch {
            return .failed(interopCase.name, why: "\(error)")
        }
    }
}
