internal import Apus

// What a test asks the server, and how it opens a gate.

extension ScenarioService {
    func registerQuestions(with registry: inout MethodRegistry) {
        // Answers even when every handler may not run: it takes no task.
        registry.synchronousUnary("Stats") { _, _ in
            Self.text((ProcessFigures.lines + journal.lines).joined(separator: "\n"))
        }
        registry.synchronousUnary("Release") { _, context in
            gates.open(CallParameters(context).key)
            return []
        }
        registry.synchronousUnary("SynchronousGet") { request, _ in request }
        registry.unary("Get") { request, _ in request }
        registry.unary("Length") { request, _ in Self.text("\(request.count)") }
        registry.bidirectionalStreaming("Update") { requests, responses, _ in
            for try await request in requests { try await responses.write(request) }
        }
        registry.clientStreaming("Collect") { requests, _ in
            var joined: [UInt8] = []
            for try await request in requests { joined += request }
            return joined
        }
        registry.serverStreaming("Expand") { request, responses, _ in
            for part in request.split(separator: UInt8(ascii: " ")) { try await responses.write(Array(part)) }
        }
    }
}
