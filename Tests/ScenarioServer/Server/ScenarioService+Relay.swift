internal import Apus

// Handlers that are clients themselves: they call the server at `x-target`, and give what it gives.

extension ScenarioService {
    func registerRelay(with registry: inout MethodRegistry) {
        for (name, options) in [
            ("Relay", MethodOptions()), ("GlobalRelay", MethodOptions(executor: .globalConcurrent)),
        ] {
            registry.unary(name, options) { request, context in
                let parameters = CallParameters(context)
                return try await journal.recording(parameters.key) {
                    try await Channel(parameters.target).unary(
                        MethodDescriptor(service: Self.name, method: "Hold"),
                        request,
                        requestCodec: BytesCodec(),
                        responseCodec: BytesCodec(),
                        options: .metadata(parameters.custom)
                    )
                }
            }
        }
        registry.serverStreaming("RelayPour") { request, responses, context in
            let parameters = CallParameters(context)
            try await journal.recording(parameters.key) {
                let poured = try Channel(parameters.target).serverStreaming(
                    MethodDescriptor(service: Self.name, method: "Pour"),
                    request,
                    requestCodec: BytesCodec(),
                    responseCodec: BytesCodec(),
                    options: .metadata(parameters.custom)
                )
                for try await response in poured { try await responses.write(response) }
            }
        }
    }
}

extension CallParameters {
    /// The server that a relay calls, from `x-target`.
    fileprivate var target: String { custom["x-target"] ?? "" }
}
