public import Apus

/// Handlers of a target that is compiled without `NonisolatedNonsendingByDefault`: their asynchronous functions run
/// where Swift 6 has always run them, not where their caller runs.
public struct ServiceWithoutNonsending: RPCService {
    public init() {}

    public func register(with registry: inout MethodRegistry) {
        func method(_ name: String) -> MethodDescriptor {
            MethodDescriptor(service: "apus.test.v1.ScenarioService", method: "WithoutNonsending\(name)")
        }
        registry.unary(method("Get"), request: BytesCodec(), response: BytesCodec(), handler: get)
        registry.serverStreaming(method("Expand"), request: BytesCodec(), response: BytesCodec(), handler: expand)
        registry.clientStreaming(method("Collect"), request: BytesCodec(), response: BytesCodec(), handler: collect)
        let updates = method("Update")
        registry.bidirectionalStreaming(updates, request: BytesCodec(), response: BytesCodec(), handler: update)
    }

    @Sendable
    private func get(_ request: [UInt8], _ context: CallContext) async throws -> [UInt8] {
        await Task.yield()
        return request
    }

    @Sendable
    private func expand(_ request: [UInt8], _ responses: ResponseWriter<[UInt8]>, _ context: CallContext) async throws {
        for part in request.split(separator: UInt8(ascii: " ")) { try await responses.write(Array(part)) }
    }

    @Sendable
    private func collect(_ requests: RequestStream<[UInt8]>, _ context: CallContext) async throws -> [UInt8] {
        var joined: [UInt8] = []
        for try await request in requests {
            await Task.yield()
            joined += request
        }
        return joined
    }

    @Sendable
    private func update(
        _ requests: RequestStream<[UInt8]>,
        _ responses: ResponseWriter<[UInt8]>,
        _ context: CallContext
    ) async throws {
        for try await request in requests { try await responses.write(request) }
    }
}
