internal import Apus
internal import Glibc

// Handlers that take their time: suspended, blocked, deaf to cancellation, or waiting at a gate.

extension ScenarioService {
    func registerTime(with registry: inout MethodRegistry) {
        registry.unary("Sleep") { request, context in
            let parameters = CallParameters(context)
            return try await journal.recording(parameters.key) {
                try await Task.sleep(for: parameters.duration)
                return request
            }
        }
        registry.unary("GlobalSleep", MethodOptions(executor: .globalConcurrent)) { request, context in
            let parameters = CallParameters(context)
            return try await journal.recording(parameters.key) {
                try await Task.sleep(for: parameters.duration)
                return request
            }
        }
        registry.unary("Hold") { request, context in
            let key = CallParameters(context).key
            return try await journal.recording(key) {
                try await gates.wait(at: key)
                return request
            }
        }
        // Reads for ever, and so learns of the call's end by reading.
        registry.bidirectionalStreaming("Listen") { requests, responses, context in
            try await journal.recording(CallParameters(context).key) {
                for try await request in requests { try await responses.write(request) }
            }
        }
        // Works on after its task was cancelled.
        registry.unary("Ignore") { request, context in
            let parameters = CallParameters(context)
            return try await journal.recording(parameters.key) {
                await Task.detached { try? await Task.sleep(for: parameters.duration) }.value
                return request
            }
        }
        registry.unary("Block") { request, context in
            Self.block(CallParameters(context).integer("x-ms"))
            return request
        }
        registry.synchronousUnary("BlockSynchronously") { request, context in
            Self.block(CallParameters(context).integer("x-ms"))
            return request
        }
        registry.unary("GlobalBlock", MethodOptions(executor: .globalConcurrent)) { request, context in
            Self.block(CallParameters(context).integer("x-ms"))
            return request
        }
    }

    /// Holds the thread, as a handler must not.
    private static func block(_ milliseconds: Int) { usleep(UInt32(clamping: milliseconds * 1000)) }
}
