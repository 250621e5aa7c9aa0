internal import Apus

extension ScenarioService {
    func registerMetadata(with registry: inout MethodRegistry) {
        // Everything that came goes back as it came, twice; the answer lists it.
        registry.unary("EchoMetadata") { _, context in
            context.addInitialMetadata(context.metadata)
            context.addTrailers(context.metadata)
            return Self.text(Self.list(context.metadata))
        }
        registry.synchronousUnary("EchoMetadataSynchronously") { _, context in
            context.addInitialMetadata(context.metadata)
            context.addTrailers(context.metadata)
            return Self.text(Self.list(context.metadata))
        }
        registry.bidirectionalStreaming("EchoMetadataStream") { requests, responses, context in
            context.addInitialMetadata(CallParameters(context).custom)
            for try await request in requests { try await responses.write(request) }
            context.addTrailers(CallParameters(context).custom)
        }
        registry.serverStreaming("InitialMetadataFirst") { _, responses, context in
            context.addInitialMetadata(["x-first": "here"])
            context.sendInitialMetadata()
            try await gates.wait(at: CallParameters(context).key)
            try await responses.write(Self.text("then a message"))
        }
        // The metadata named is one that HTTP/2 or gRPC forbids; the call has to say so.
        registry.unary("ForbiddenMetadata") { request, context in
            context.addTrailers([String(decoding: request, as: UTF8.self): "value"])
            return []
        }
        registry.unary("Describe") { _, context in
            let remaining = context.timeRemaining.map { "\($0 / .milliseconds(1))" } ?? "none"
            return Self.text(
                """
                method=\(context.method)
                authority=\(context.authority)
                peer=\(context.peer)
                remaining_ms=\(remaining)
                cancelled=\(context.isCancelled)
                """
            )
        }
    }

    /// One line for each entry: the key, a colon and the value's bytes in hexadecimal.
    private static func list(_ metadata: Metadata) -> String {
        metadata.map { key, value in
            let bytes =
                switch value {
                case .text(let text): Array(text.utf8)
                case .bytes(let bytes): bytes
                }
            return "\(key):" + bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        }.joined(separator: "\n")
    }
}
