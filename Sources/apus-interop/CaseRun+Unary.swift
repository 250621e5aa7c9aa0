internal import Apus
internal import Foundation
internal import GRPCTesting

/// One request, one response.
extension CaseRun {
    static let requestBytes = 271_828
    static let responseBytes = 314_159

    func emptyUnary() async throws {
        let response = try await service.emptyCall(Grpc_Testing_Empty(), options: options)
        try expect("the response", response, equals: Grpc_Testing_Empty())
    }

    func largeUnary() async throws {
        let response = try await service.unaryCall(Self.largeRequest, options: options)
        try expect("the response", response.payload, isZeros: Self.responseBytes)
    }

    /// The request of `large_unary`, and of the cases that repeat it.
    static var largeRequest: Grpc_Testing_SimpleRequest {
        .with {
            $0.responseSize = Int32(responseBytes)
            $0.payload = zeros(requestBytes)
        }
    }

    static func zeros(_ bytes: Int) -> Grpc_Testing_Payload { .with { $0.body = Data(count: bytes) } }

    /// Not in the description; grpc-java, which runs it, sends 10 MiB and wants 10 bytes back.
    func veryLargeRequest() async throws {
        let request = Grpc_Testing_SimpleRequest.with {
            $0.responseSize = 10
            $0.payload = Self.zeros(10 * 1024 * 1024)
        }
        let response = try await service.unaryCall(request, options: options)
        try expect("the response", response.payload, isZeros: 10)
    }

    func customMetadata() async throws {
        var options = options
        options.metadata = EchoedMetadata.request
        let unary = await service.unaryCallWithMetadata(Self.largeRequest, options: options)
        try expect("the response of UnaryCall", try unary.message.payload, isZeros: Self.responseBytes)
        try expectEcho(in: "UnaryCall", initial: unary.initialMetadata, trailers: unary.trailers)

        let call = service.fullDuplexCall(options: options)
        try await call.requests.write(
            .with {
                $0.responseParameters = [.with { $0.size = Int32(Self.responseBytes) }]
                $0.payload = Self.zeros(Self.requestBytes)
            }
        )
        call.requests.finish()
        let initial = try await call.responses.initialMetadata
        try await expectResponses(call.responses, of: [Self.responseBytes])
        try expectEcho(in: "FullDuplexCall", initial: initial, trailers: try await call.responses.trailers)
    }

    func statusCodeAndMessage() async throws {
        let message = "test status message"
        let status = Grpc_Testing_EchoStatus.with {
            $0.code = Int32(StatusCode.unknown.rawValue)
            $0.message = message
        }
        try await expect("UnaryCall", endsWith: .unknown, message) {
            try await service.unaryCall(.with { $0.responseStatus = status }, options: options)
        }
        try await expect("FullDuplexCall", endsWith: .unknown, message) {
            let call = service.fullDuplexCall(options: options)
            try await call.requests.write(.with { $0.responseStatus = status })
            call.requests.finish()
            return try await call.responses.next()
        }
    }

    func specialStatusMessage() async throws {
        let message = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
        let request = Grpc_Testing_SimpleRequest.with {
            $0.responseStatus = .with {
                $0.code = Int32(StatusCode.unknown.rawValue)
                $0.message = message
            }
        }
        try await expect("UnaryCall", endsWith: .unknown, message) {
            try await service.unaryCall(request, options: options)
        }
    }

    func unimplementedMethod() async throws {
        try await expect("UnimplementedCall", endsWith: .unimplemented) {
            try await service.unimplementedCall(Grpc_Testing_Empty(), options: options)
        }
    }

    func unimplementedService() async throws {
        let service = Grpc_Testing_UnimplementedService.Client(channel)
        try await expect("UnimplementedService", endsWith: .unimplemented) {
            try await service.unimplementedCall(Grpc_Testing_Empty(), options: options)
        }
    }
}
