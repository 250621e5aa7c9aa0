import Apus
import ApusProtobuf
import EchoV1

/// How a handler sees a message, and whether it runs in a task.
enum HandlerKind: String, CaseIterable {
    case rawSync = "raw-sync"
    case rawAsync = "raw-async"
    case protoSync = "proto-sync"
    case protoAsync = "proto-async"
    case handSync = "hand-sync"
    case handAsync = "hand-async"
}

private let get = MethodDescriptor(service: "echo.v1.EchoService", method: "Get")
private let update = MethodDescriptor(service: "echo.v1.EchoService", method: "Update")
private let fetch = MethodDescriptor(service: "bench.v1.BenchService", method: "Fetch")
private let repeatText = MethodDescriptor(service: "bench.v1.BenchService", method: "Repeat")

/// What `Repeat` streams.
private let messageText = "this is echo number 0000000000"

/// What `Fetch` answers: 64 KiB when it is encoded, of which tag and length take four bytes.
private let fetched = Echo_V1_EchoResponse.with { $0.text = String(repeating: "x", count: 65_536 - 4) }

private let encodedFetched = [UInt8]([0x0A, 0xFC, 0xFF, 0x03]) + fetched.text.utf8

/// The number of messages that a request of `Repeat` asks for.
private func count(in text: String) throws -> Int {
    guard let count = Int(text), count >= 0 else {
        throw RPCError(code: .invalidArgument, message: "not a count: \(text)")
    }
    return count
}

/// Echoes messages as bytes: what the stack itself costs.
struct RawEcho: RPCService {
    let synchronous: Bool

    func register(with registry: inout MethodRegistry) {
        let fetched = encodedFetched
        if synchronous {
            registry.synchronousUnary(get, request: BytesCodec(), response: BytesCodec()) { bytes, _ in bytes }
            registry.synchronousUnary(fetch, request: BytesCodec(), response: BytesCodec()) { _, _ in fetched }
        } else {
            registry.unary(get, request: BytesCodec(), response: BytesCodec()) { bytes, _ in bytes }
            registry.unary(fetch, request: BytesCodec(), response: BytesCodec()) { _, _ in fetched }
        }
        registry.bidirectionalStreaming(update, request: BytesCodec(), response: BytesCodec()) {
            requests,
            responses,
            _ in
            for try await message in requests {
                try await responses.write(message)
            }
        }
        let message = [0x0A, UInt8(messageText.utf8.count)] + messageText.utf8
        registry.serverStreaming(repeatText, request: BytesCodec(), response: BytesCodec()) { request, responses, _ in
            for _ in 0..<(try count(in: String(decoding: request.dropFirst(2), as: UTF8.self))) {
                try await responses.write(message)
            }
        }
    }
}

/// Echoes messages decoded and encoded, with generated stubs, as an application would.
struct ProtoEcho: RPCService {
    let synchronous: Bool

    func register(with registry: inout MethodRegistry) {
        if synchronous {
            PromptEcho().register(with: &registry)
        } else {
            Echo().register(with: &registry)
        }
        let request = ProtobufCodec<Echo_V1_EchoRequest>()
        let response = ProtobufCodec<Echo_V1_EchoResponse>()
        registry.unary(fetch, request: request, response: response) { _, _ in fetched }
        registry.serverStreaming(repeatText, request: request, response: response) { message, responses, _ in
            for _ in 0..<(try count(in: message.text)) {
                try await responses.write(Echo_V1_EchoResponse.with { $0.text = messageText })
            }
        }
    }
}

/// What `ProtoEcho` does with its unary method, registered by hand: what the stub adds.
struct HandEcho: RPCService {
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
    }
}

private protocol EchoStreams {}

extension EchoStreams {
    func expand(
        _ request: Echo_V1_EchoRequest,
        responses: ResponseWriter<Echo_V1_EchoResponse>,
        context: CallContext
    ) async throws {
        for word in request.text.split(separator: " ") { try await responses.write(.with { $0.text = String(word) }) }
    }

    func collect(
        _ requests: RequestStream<Echo_V1_EchoRequest>,
        context: CallContext
    ) async throws -> Echo_V1_EchoResponse {
        var words: [String] = []
        for try await request in requests { words.append(request.text) }
        return .with { $0.text = words.joined(separator: " ") }
    }

    func update(
        _ requests: RequestStream<Echo_V1_EchoRequest>,
        responses: ResponseWriter<Echo_V1_EchoResponse>,
        context: CallContext
    ) async throws {
        for try await request in requests { try await responses.write(.with { $0.text = request.text }) }
    }
}

private struct PromptEcho: Echo_V1_EchoService.SynchronousHandler, EchoStreams {
    func get(_ request: Echo_V1_EchoRequest, context: CallContext) -> Echo_V1_EchoResponse {
        .with { $0.text = request.text }
    }
}

private struct Echo: Echo_V1_EchoService.Handler, EchoStreams {
    func get(_ request: Echo_V1_EchoRequest, context: CallContext) async throws -> Echo_V1_EchoResponse {
        .with { $0.text = request.text }
    }
}
