internal import Apus

// Streams large enough to meet flow control.

extension ScenarioService {
    func registerFlow(with registry: inout MethodRegistry) {
        registry.serverStreaming("Pour") { _, responses, context in try await pour(responses, context) }
        registry.serverStreaming("GlobalPour", MethodOptions(executor: .globalConcurrent)) { _, responses, context in
            try await pour(responses, context)
        }
        registry.clientStreaming("Sink") { requests, context in try await sink(requests, context) }
        registry.clientStreaming("GlobalSink", MethodOptions(executor: .globalConcurrent)) { requests, context in
            try await sink(requests, context)
        }
        // One message of `x-bytes`.
        registry.unary("Large") { _, context in
            [UInt8](repeating: UInt8(ascii: "a"), count: CallParameters(context).integer("x-bytes"))
        }
    }

    /// Writes `x-count` messages of `x-bytes`, each filled with the low byte of its number; records how far it got.
    private func pour(_ responses: ResponseWriter<[UInt8]>, _ context: CallContext) async throws {
        let parameters = CallParameters(context)
        let bytes = parameters.integer("x-bytes")
        try await journal.recording(parameters.key) {
            for number in 0..<parameters.integer("x-count") {
                try await responses.write([UInt8](repeating: UInt8(truncatingIfNeeded: number), count: bytes))
                journal.set("written.\(parameters.key)", to: number + 1)
            }
        }
    }

    /// Reads `x-pause-after` messages, waits at the gate, reads on, and answers with messages and bytes.
    private func sink(_ requests: RequestStream<[UInt8]>, _ context: CallContext) async throws -> [UInt8] {
        let parameters = CallParameters(context)
        let pauseAfter = parameters.integer("x-pause-after", default: -1)
        return try await journal.recording(parameters.key) {
            var bytes = 0
            var messages = 0
            if pauseAfter == 0 { try await gates.wait(at: parameters.key) }
            for try await request in requests {
                bytes += request.count
                messages += 1
                journal.set("read.\(parameters.key)", to: messages)
                if messages == pauseAfter { try await gates.wait(at: parameters.key) }
            }
            return Self.text("\(messages) messages, \(bytes) bytes")
        }
    }
}
