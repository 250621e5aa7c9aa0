internal import Apus
internal import GRPCTesting
internal import Synchronization

/// Cases about the channel: which server it calls, for how long it lasts, what it does at the server's limit.
extension CaseRun {
    /// All calls go to one server, which says who it is.
    func pickFirstUnary() async throws {
        let request = Grpc_Testing_SimpleRequest.with {
            $0.responseSize = 1
            $0.payload = Self.zeros(1)
            $0.fillServerID = true
        }
        var first: String?
        for _ in 0..<100 {
            let response = try await service.unaryCall(request, options: options)
            guard !response.serverID.isEmpty else {
                throw UnmetExpectation("server_id", expected: "a name of the server", actual: "none")
            }
            try expect("server_id", response.serverID, equals: first ?? response.serverID)
            first = response.serverID
        }
    }

    func longLivedChannel() async throws {
        let channel = try makeChannel()
        defer { channel.close() }
        for iteration in 0..<parameters.iterations {
            if iteration > 0 { try await Task.sleep(for: parameters.iterationInterval.duration) }
            let service = Grpc_Testing_TestService.Client(channel)
            let response = try await service.unaryCall(Self.largeRequest, options: options)
            try expect("response \(iteration)", response.payload, isZeros: Self.responseBytes)
        }
    }

    /// As far as one connection goes. The description wants calls over the server's limit of streams to go over a
    /// second connection; this channel has one, on which such a call waits until another has ended, and does not fail
    /// (gRPC's PROTOCOL-HTTP2.md leaves that to the client).
    func maxConcurrentStreams(limit: Int) async throws {
        let channel = try makeChannel()
        defer { channel.close() }
        let service = Grpc_Testing_TestService.Client(channel)
        var calls: [BidirectionalCall<DuplexRequest, DuplexResponse>] = []
        var address: String?
        for index in 0..<limit {
            calls.append(service.fullDuplexCall(options: options))
            let answer = try await askForAddress(calls[index])
            try expect("the client's address in call \(index)", answer, equals: address ?? answer)
            address = answer
        }

        let isAnswered = Atomic(false)
        let overLimit = service.fullDuplexCall(options: options)
        async let lastAnswer = askForAddress(overLimit, isAnswered)
        for _ in 0..<20 { _ = try await askForAddress(calls[0]) }
        let state = isAnswered.load(ordering: .acquiring) ? "answered" : "waiting"
        try expect("a call beyond \(limit) open ones", state, equals: "waiting")

        calls[0].requests.finish()
        try await expectResponses(calls[0].responses, of: [])
        try expect("the client's address in the call that waited", try await lastAnswer, equals: address)
        for call in calls.dropFirst() + [overLimit] {
            call.requests.finish()
            try await expectResponses(call.responses, of: [])
        }
    }

    private typealias DuplexRequest = Grpc_Testing_StreamingOutputCallRequest
    private typealias DuplexResponse = Grpc_Testing_StreamingOutputCallResponse

    /// Which address of ours the server sees a call come from; one address is one connection.
    private func askForAddress(
        _ call: BidirectionalCall<DuplexRequest, DuplexResponse>,
        _ isAnswered: borrowing Atomic<Bool> = Atomic(false)
    ) async throws -> String {
        let parameters = Grpc_Testing_ResponseParameters.with { $0.fillPeerSocketAddress = .with { $0.value = true } }
        try await call.requests.write(.with { $0.responseParameters = [parameters] })
        guard let response = try await call.responses.next() else {
            throw UnmetExpectation("the call", expected: "a response", actual: "its end")
        }
        isAnswered.store(true, ordering: .releasing)
        guard !response.peerSocketAddress.isEmpty else {
            throw UnmetExpectation("peer_socket_address", expected: "the client's address", actual: "none")
        }
        return response.peerSocketAddress
    }
}
