internal import Apus
internal import GRPCTesting

/// Who compresses, and who can tell. Each of the client's cases begins with a request that comes otherwise than it
/// says, because a server which lets that pass would let everything pass.
extension CaseRun {
    private var compressedOptions: CallOptions {
        var options = options
        options.compression = parameters.compression.algorithm
        return options
    }

    func clientCompressedUnary() async throws {
        func request(expecting compressed: Bool) -> Grpc_Testing_SimpleRequest {
            var request = Self.largeRequest
            request.expectCompressed = .with { $0.value = compressed }
            return request
        }
        try await expect("UnaryCall, uncompressed against its word", endsWith: .invalidArgument) {
            try await service.unaryCall(request(expecting: true), options: options)
        }
        for (isCompressed, options) in [(true, compressedOptions), (false, options)] {
            let response = try await service.unaryCall(request(expecting: isCompressed), options: options)
            try expect("the response", response.payload, isZeros: Self.responseBytes)
        }
    }

    func serverCompressedUnary() async throws {
        for isCompressed in [true, false] {
            var request = Self.largeRequest
            request.responseCompressed = .with { $0.value = isCompressed }
            let response = await service.unaryCallWithMetadata(request, options: options)
            try expect("the response", try response.message.payload, isZeros: Self.responseBytes)
            try expectCompression(of: "the response", response.wasCompressed, isCompressed)
        }
    }

    func clientCompressedStreaming() async throws {
        func request(_ bytes: Int, expecting compressed: Bool) -> Grpc_Testing_StreamingInputCallRequest {
            .with {
                $0.expectCompressed = .with { $0.value = compressed }
                $0.payload = Self.zeros(bytes)
            }
        }
        try await expect("StreamingInputCall, uncompressed against its word", endsWith: .invalidArgument) {
            let call = service.streamingInputCall(options: options)
            try await call.requests.write(request(27_182, expecting: true))
            return try await call.response()
        }
        let call = service.streamingInputCall(options: compressedOptions)
        try await call.requests.write(request(27_182, expecting: true))
        try await call.requests.write(request(45_904, expecting: false), compressed: false)
        call.requests.finish()
        try expect("aggregated_payload_size", try await call.response().aggregatedPayloadSize, equals: 73_086)
    }

    func serverCompressedStreaming() async throws {
        let wanted = [(isCompressed: true, size: 31_415), (isCompressed: false, size: 92_653)]
        let request = Grpc_Testing_StreamingOutputCallRequest.with {
            $0.responseParameters = wanted.map { wanted in
                .with {
                    $0.compressed = .with { $0.value = wanted.isCompressed }
                    $0.size = Int32(wanted.size)
                }
            }
        }
        let responses = service.streamingOutputCall(request, options: options)
        for (index, wanted) in wanted.enumerated() {
            guard let response = try await responses.nextReceived() else {
                throw UnmetExpectation("the call", expected: "response \(index)", actual: "its end")
            }
            try expect("response \(index)", response.message.payload, isZeros: wanted.size)
            try expectCompression(of: "response \(index)", response.wasCompressed, wanted.isCompressed)
        }
        try await expectResponses(responses, of: [])
    }

    private func expectCompression(of message: String, _ isCompressed: Bool, _ expected: Bool) throws {
        func name(_ isCompressed: Bool) -> String { isCompressed ? "compressed" : "uncompressed" }
        try expect("how \(message) came", name(isCompressed), equals: name(expected))
    }
}
