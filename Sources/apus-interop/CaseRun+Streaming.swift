internal import Apus
internal import Foundation
internal import GRPCTesting

/// Many requests, many responses, or both.
extension CaseRun {
    private static let requestSizes = [27_182, 8, 1828, 45_904]
    private static let responseSizes = [31_415, 9, 2653, 58_979]

    func clientStreaming() async throws {
        let call = service.streamingInputCall(options: options)
        for size in Self.requestSizes { try await call.requests.write(.with { $0.payload = Self.zeros(size) }) }
        call.requests.finish()
        try expect("aggregated_payload_size", try await call.response().aggregatedPayloadSize, equals: 74_922)
    }

    func serverStreaming() async throws {
        let request = Grpc_Testing_StreamingOutputCallRequest.with {
            $0.responseParameters = Self.responseSizes.map { size in .with { $0.size = Int32(size) } }
        }
        try await expectResponses(
            service.streamingOutputCall(request, options: options),
            of: Self.responseSizes
        )
    }

    func pingPong() async throws {
        let call = service.fullDuplexCall(options: options)
        for (requestSize, responseSize) in zip(Self.requestSizes, Self.responseSizes) {
            try await call.requests.write(Self.duplexRequest(requestSize, asking: responseSize))
            guard let response = try await call.responses.next() else {
                throw UnmetExpectation("the call", expected: "a response", actual: "its end")
            }
            try expect("the response", response.payload, isZeros: responseSize)
        }
        call.requests.finish()
        try await expectResponses(call.responses, of: [])
    }

    func emptyStream() async throws {
        let call = service.fullDuplexCall(options: options)
        call.requests.finish()
        try await expectResponses(call.responses, of: [])
    }

    /// The call after it, on the same connection, ends only when the head of the first has long been sent.
    func cancelAfterBegin() async throws {
        let call = service.streamingInputCall(options: options)
        _ = try await service.emptyCall(Grpc_Testing_Empty(), options: options)
        call.cancel()
        try await expect("StreamingInputCall", endsWith: .cancelled) { try await call.response() }
    }

    func cancelAfterFirstResponse() async throws {
        let call = service.fullDuplexCall(options: options)
        try await call.requests.write(Self.duplexRequest(27_182, asking: 31_415))
        guard let response = try await call.responses.next() else {
            throw UnmetExpectation("the call", expected: "a response", actual: "its end")
        }
        try expect("the response", response.payload, isZeros: 31_415)
        call.cancel()
        try await expect("FullDuplexCall", endsWith: .cancelled) { try await call.responses.next() }
    }

    func timeoutOnSleepingServer() async throws {
        let call = service.fullDuplexCall(options: .timeout(.milliseconds(1)))
        try await expect("FullDuplexCall", endsWith: .deadlineExceeded) {
            try await call.requests.write(.with { $0.payload = Self.zeros(27_182) })
            return try await call.responses.next()
        }
    }

    static func duplexRequest(_ bytes: Int, asking size: Int) -> Grpc_Testing_StreamingOutputCallRequest {
        .with {
            $0.responseParameters = [.with { $0.size = Int32(size) }]
            $0.payload = zeros(bytes)
        }
    }

    /// Reads to the end: responses with payloads of these sizes in this order, no others, and OK.
    func expectResponses(
        _ responses: ResponseStream<Grpc_Testing_StreamingOutputCallResponse>,
        of sizes: [Int]
    ) async throws {
        var count = 0
        while let response = try await responses.next() {
            if count < sizes.count { try expect("response \(count)", response.payload, isZeros: sizes[count]) }
            count += 1
        }
        try expect("the number of responses", count, equals: sizes.count)
    }
}
