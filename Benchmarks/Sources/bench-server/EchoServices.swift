import Apus
import ApusProtobuf
import EchoV1

/// How a handler sees a message, and whether it runs in a task.
enum HandlerKind: String, CaseIterable {
    case rawSync = "raw-sync"
    case rawAsync = "raw-async"
    case protoSync = "proto-sync"
    case protoAsync = "proto-async"
}

private let get = MethodDescriptor(service: "echo.v1.EchoService", method: "Get")
private let update = MethodDescriptor(service: "echo.v1.EchoService", method: "Update")

/// Echoes messages as bytes: what the stack itself costs.
struct RawEcho: RPCService {
    let synchronous: Bool

    func register(with registry: inout MethodRegistry) {
        if synchronous {
            registry.synchronousUnary(get, request: BytesCodec(), response: BytesCodec()) { bytes, _ in bytes }
        } else {
            registry.unary(get, request: BytesCodec(), response: BytesCodec()) { bytes, _ in bytes }
        }
        registry.bidirectionalStreaming(update, request: BytesCodec(), response: BytesCodec()) {
            requests,
            responses,
            _ in
            for try await message in requests {
                try await responses.write(message)
            }
        }
    }
}

/// Echoes messages decoded and encoded, as an application would.
struct ProtoEcho: RPCService {
    let synchronous: Bool

    func register(with registry: inout MethodRegistry) {
        let request = ProtobufCodec<Echo_V1_EchoRequest>()
        let response = ProtobufCodec<Echo_V1_EchoResponse>()
        if synchronous {
            registry.synchronousUnary(get, request: request, response: response) { message, _ in
                Echo_V1_EchoResponse.with { $0.text = message.text }
            }
        } else {
            registry.unary(get, request: request, response: response) { message, _ in
                Echo_V1_EchoResponse.with { $0.text = message.text }
            }
        }
        registry.bidirectionalStreaming(update, request: request, response: response) { requests, responses, _ in
            for try await message in requests {
                try await responses.write(Echo_V1_EchoResponse.with { $0.text = message.text })
            }
        }
    }
}
