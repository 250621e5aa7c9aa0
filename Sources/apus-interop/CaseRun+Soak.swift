internal import Apus
internal import GRPCTesting

/// The large unary call over and over.
extension CaseRun {
    /// Over one channel.
    func rpcSoak() async throws {
        try await soak { try await $0(service) }
    }

    /// Over a new channel each time.
    func channelSoak() async throws {
        try await soak { call in
            let channel = try makeChannel()
            defer { channel.close() }
            try await call(Grpc_Testing_TestService.Client(channel))
        }
    }

    private typealias SoakCall = (Grpc_Testing_TestService.Client) async throws -> Void

    /// Calls until there were as many calls as wanted; one that fails, or takes too long, counts as a failure.
    private func soak(_ iteration: (SoakCall) async throws -> Void) async throws {
        let request = Grpc_Testing_SimpleRequest.with {
            $0.responseSize = Int32(clamping: parameters.soakResponseSize)
            $0.payload = Self.zeros(parameters.soakRequestSize)
        }
        let slowest = parameters.soakPerIterationMaxAcceptableLatency.duration
        let start = ContinuousClock.now
        var failures: [String] = []
        for index in 0..<parameters.soakIterations {
            let callStart = ContinuousClock.now
            guard callStart - start < parameters.soakOverallTimeout.duration else {
                throw UnmetExpectation(
                    "the soak",
                    expected: "\(parameters.soakIterations) calls in \(parameters.soakOverallTimeout.duration)",
                    actual: "\(index)"
                )
            }
            do {
                try await iteration { service in
                    let response = try await service.unaryCall(request, options: options)
                    try expect("response \(index)", response.payload, isZeros: parameters.soakResponseSize)
                }
                let latency = ContinuousClock.now - callStart
                if latency > slowest { failures.append("call \(index) took \(latency)") }
            } catch {
                failures.append("call \(index): \(error)")
            }
            guard failures.count <= parameters.soakMaxFailures else {
                throw UnmetExpectation(
                    "the soak",
                    expected: "\(parameters.soakMaxFailures) calls at most to fail or take longer than \(slowest)",
                    actual: failures.joined(separator: "; ")
                )
            }
            let next = callStart + parameters.soakMinTimeBetweenRpcs.duration
            if next > ContinuousClock.now { try await Task.sleep(until: next) }
        }
    }
}
