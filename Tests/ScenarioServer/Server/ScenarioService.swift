internal import Apus

/// apus.test.v1.ScenarioService: one method for each way in which a handler behaves or misbehaves.
///
/// Messages are plain bytes and parameters come as metadata (``CallParameters``), so that a test needs no stub.
struct ScenarioService: RPCService {
    static let name = "apus.test.v1.ScenarioService"

    let journal: Journal
    let gates = Gates()
    let tally = Tally()
    let keptContext = KeptContext()

    func register(with registry: inout MethodRegistry) {
        registerQuestions(with: &registry)
        registerMetadata(with: &registry)
        registerSecurity(with: &registry)
        registerFailures(with: &registry)
        registerTime(with: &registry)
        registerRelay(with: &registry)
        registerFlow(with: &registry)
        registerCompression(with: &registry)
        registerEarlyAndLate(with: &registry)
        registerConcurrency(with: &registry)
        registerGlobalShapes(with: &registry)
    }

    static func text(_ text: String) -> [UInt8] { Array(text.utf8) }
}

extension MethodRegistry {
    typealias Bytes = [UInt8]

    mutating func unary(
        _ name: String,
        _ options: MethodOptions = MethodOptions(),
        _ handler: @escaping @Sendable (Bytes, CallContext) async throws -> Bytes
    ) {
        unary(.scenario(name), request: BytesCodec(), response: BytesCodec(), options: options, handler: handler)
    }

    mutating func synchronousUnary(
        _ name: String,
        _ handler: @escaping @Sendable (Bytes, CallContext) throws -> Bytes
    ) {
        synchronousUnary(.scenario(name), request: BytesCodec(), response: BytesCodec(), handler: handler)
    }

    mutating func clientStreaming(
        _ name: String,
        _ options: MethodOptions = MethodOptions(),
        _ handler: @escaping @Sendable (RequestStream<Bytes>, CallContext) async throws -> Bytes
    ) {
        clientStreaming(
            .scenario(name),
            request: BytesCodec(),
            response: BytesCodec(),
            options: options,
            handler: handler
        )
    }

    mutating func serverStreaming(
        _ name: String,
        _ options: MethodOptions = MethodOptions(),
        _ handler: @escaping @Sendable (Bytes, ResponseWriter<Bytes>, CallContext) async throws -> Void
    ) {
        serverStreaming(
            .scenario(name),
            request: BytesCodec(),
            response: BytesCodec(),
            options: options,
            handler: handler
        )
    }

    mutating func bidirectionalStreaming(
        _ name: String,
        _ options: MethodOptions = MethodOptions(),
        _ handler: @escaping @Sendable (RequestStream<Bytes>, ResponseWriter<Bytes>, CallContext) async throws -> Void
    ) {
        bidirectionalStreaming(
            .scenario(name),
            request: BytesCodec(),
            response: BytesCodec(),
            options: options,
            handler: handler
        )
    }
}

extension MethodDescriptor {
    fileprivate static func scenario(_ method: String) -> MethodDescriptor {
        MethodDescriptor(service: ScenarioService.name, method: method)
    }
}
