internal import Apus
internal import EchoV1

/// The echo service with handlers that are all asynchronous, unlike apus-echo's.
struct AsynchronousEcho: Echo_V1_EchoService.Handler {
    func get(_ request: Echo_V1_EchoRequest, context: CallContext) async -> Echo_V1_EchoResponse {
        .with { $0.text = request.text }
    }

    func expand(
        _ request: Echo_V1_EchoRequest,
        responses: ResponseWriter<Echo_V1_EchoResponse>,
        context: CallContext
    ) async throws {
        for word in request.text.split(whereSeparator: \.isWhitespace) {
            try await responses.write(.with { $0.text = String(word) })
        }
    }

    func collect(
        _ requests: RequestStream<Echo_V1_EchoRequest>,
        context: CallContext
    ) async throws -> Echo_V1_EchoResponse {
        var texts: [String] = []
        for try await request in requests { texts.append(request.text) }
        return .with { $0.text = texts.joined(separator: " ") }
    }

    func update(
        _ requests: RequestStream<Echo_V1_EchoRequest>,
        responses: ResponseWriter<Echo_V1_EchoResponse>,
        context: CallContext
    ) async throws {
        for try await request in requests { try await responses.write(.with { $0.text = request.text }) }
    }
}
