internal import Apus
internal import Foundation
internal import GRPCTesting

/// The server's features of gRPC's interop-test-descriptions.md, all of which every client finds at once.
///
/// UnimplementedService is there by being absent.
struct TestServiceHandler: Grpc_Testing_TestService.Handler {
    /// Largest message taken, and largest payload made: the case `very_large_request` sends 10 MiB.
    static let messageBytesMax = 16 * 1024 * 1024

    /// The same for all calls of this server, and no other server's (`pick_first_unary`).
    private let serverID = UUID().uuidString

    func emptyCall(_ request: Grpc_Testing_Empty, context: CallContext) async throws -> Grpc_Testing_Empty {
        echoMetadata(of: context)
        return Grpc_Testing_Empty()
    }

    func unaryCall(
        _ request: Grpc_Testing_SimpleRequest,
        context: CallContext
    ) async throws -> Grpc_Testing_SimpleResponse {
        echoMetadata(of: context)
        if request.hasResponseStatus { try end(with: request.responseStatus) }
        if request.hasExpectCompressed {
            try checkCompression(context.requestWasCompressed, expected: request.expectCompressed.value)
        }
        if request.responseCompressed.value { compressResponses(of: context) }
        return try .with {
            $0.payload = try payload(bytes: request.responseSize, type: request.responseType)
            if request.fillServerID { $0.serverID = serverID }
        }
    }

    /// The time of day in the payload tells an answer from a cached one.
    func cacheableUnaryCall(
        _ request: Grpc_Testing_SimpleRequest,
        context: CallContext
    ) async throws -> Grpc_Testing_SimpleResponse {
        echoMetadata(of: context)
        context.addInitialMetadata(["cache-control": "max-age=60, public"])
        let nanoseconds = Date().timeIntervalSince1970 * 1e9
        return .with { $0.payload.body = Data("\(UInt64(nanoseconds))".utf8) }
    }

    func streamingOutputCall(
        _ request: Grpc_Testing_StreamingOutputCallRequest,
        responses: ResponseWriter<Grpc_Testing_StreamingOutputCallResponse>,
        context: CallContext
    ) async throws {
        echoMetadata(of: context)
        compressResponses(of: context)
        try await answer(request, responses, context)
    }

    func streamingInputCall(
        _ requests: RequestStream<Grpc_Testing_StreamingInputCallRequest>,
        context: CallContext
    ) async throws -> Grpc_Testing_StreamingInputCallResponse {
        echoMetadata(of: context)
        var bytes = 0
        for try await request in requests.received {
            if request.message.hasExpectCompressed {
                try checkCompression(request.wasCompressed, expected: request.message.expectCompressed.value)
            }
            bytes += request.message.payload.body.count
        }
        guard let size = Int32(exactly: bytes) else {
            throw RPCError(code: .outOfRange, message: "the payloads' \(bytes) bytes do not fit into an int32")
        }
        return .with { $0.aggregatedPayloadSize = size }
    }

    func fullDuplexCall(
        _ requests: RequestStream<Grpc_Testing_StreamingOutputCallRequest>,
        responses: ResponseWriter<Grpc_Testing_StreamingOutputCallResponse>,
        context: CallContext
    ) async throws {
        echoMetadata(of: context)
        compressResponses(of: context)
        for try await request in requests { try await answer(request, responses, context) }
    }

    func halfDuplexCall(
        _ requests: RequestStream<Grpc_Testing_StreamingOutputCallRequest>,
        responses: ResponseWriter<Grpc_Testing_StreamingOutputCallResponse>,
        context: CallContext
    ) async throws {
        echoMetadata(of: context)
        compressResponses(of: context)
        var all: [Grpc_Testing_StreamingOutputCallRequest] = []
        var bytes = 0
        for try await request in requests {
            bytes += request.payload.body.count
            guard all.count < 1000, bytes <= Self.messageBytesMax else {
                throw RPCError(code: .resourceExhausted, message: "there are too many requests to keep all of them")
            }
            all.append(request)
        }
        for request in all { try await answer(request, responses, context) }
    }

    func unimplementedCall(_ request: Grpc_Testing_Empty, context: CallContext) async throws -> Grpc_Testing_Empty {
        throw RPCError(code: .unimplemented, message: "this method is there to be missing")
    }
}

extension TestServiceHandler {
    /// The feature "Echo Metadata".
    private func echoMetadata(of context: CallContext) {
        for value in context.metadata.values(for: EchoedMetadata.initialKey) {
            context.addInitialMetadata([EchoedMetadata.initialKey: value])
        }
        for bytes in context.metadata.bytes(for: EchoedMetadata.trailingKey) {
            var trailers = Metadata()
            trailers.add(bytes: bytes, for: EchoedMetadata.trailingKey)
            context.addTrailers(trailers)
        }
    }

    /// The feature "Echo Status": ends the call with the status that the client wants, unless that is OK.
    private func end(with status: Grpc_Testing_EchoStatus) throws {
        guard status.code != 0 else { return }
        guard let code = StatusCode(rawValue: Int(status.code)) else {
            throw RPCError(code: .invalidArgument, message: "there is no status code \(status.code)")
        }
        throw RPCError(code: code, message: status.message)
    }

    /// The feature "CompressedRequest".
    private func checkCompression(_ wasCompressed: Bool, expected: Bool) throws {
        guard wasCompressed != expected else { return }
        let message = "the request came \(wasCompressed ? "compressed" : "uncompressed"), and says that it does not"
        throw RPCError(code: .invalidArgument, message: message)
    }

    /// The feature "CompressedResponse": in the first encoding that the client accepts, if there is one. A stream
    /// decides for each message whether it is used.
    private func compressResponses(of context: CallContext) {
        _ = [.gzip, .deflate].first { context.setResponseCompression($0) }
    }

    /// Writes the responses that a request asks for, each after the pause that it asks for.
    private func answer(
        _ request: Grpc_Testing_StreamingOutputCallRequest,
        _ responses: ResponseWriter<Grpc_Testing_StreamingOutputCallResponse>,
        _ context: CallContext
    ) async throws {
        if request.hasResponseStatus { try end(with: request.responseStatus) }
        for parameters in request.responseParameters {
            if parameters.intervalUs > 0 { try await Task.sleep(for: .microseconds(parameters.intervalUs)) }
            let response = try Grpc_Testing_StreamingOutputCallResponse.with {
                $0.payload = try payload(bytes: parameters.size, type: request.responseType)
                if parameters.fillPeerSocketAddress.value { $0.peerSocketAddress = "\(context.peer)" }
            }
            try await responses.write(response, compressed: parameters.compressed.value)
        }
    }

    /// Zeros, as many as were asked for.
    private func payload(bytes: Int32, type: Grpc_Testing_PayloadType) throws -> Grpc_Testing_Payload {
        guard type == .compressable else {
            throw RPCError(code: .invalidArgument, message: "there is no payload of the type \(type.rawValue)")
        }
        guard (0...Self.messageBytesMax).contains(Int(bytes)) else {
            let message = "a payload has 0 to \(Self.messageBytesMax) bytes, and not \(bytes)"
            throw RPCError(code: .invalidArgument, message: message)
        }
        return .with { $0.body = Data(count: Int(bytes)) }
    }
}
