internal import Apus
internal import ApusBase

// Handlers that end before their client does, and what is done with a call after its end.

/// The context of a call, kept when its handler has returned.
final class KeptContext: Sendable {
    private let context = Lock<CallContext?>(nil)

    func keep(_ new: CallContext) { context.withLock { $0 = new } }

    var current: CallContext? { context.withLock { $0 } }
}

extension ScenarioService {
    func registerEarlyAndLate(with registry: inout MethodRegistry) {
        registry.clientStreaming("ReturnEarly") { requests, context in
            var bytes = 0
            var left = CallParameters(context).integer("x-count")
            if left > 0 {
                for try await request in requests {
                    bytes += request.count
                    left -= 1
                    if left == 0 { break }
                }
            }
            // More than one frame and one window, so that the reset has something to overtake.
            return [UInt8](repeating: UInt8(ascii: "e"), count: CallParameters(context).integer("x-bytes"))
        }
        registry.bidirectionalStreaming("WriteAndReturn") { _, responses, _ in
            try await responses.write(Self.text("that is all"))
        }
        registry.serverStreaming("WriteLate") { _, responses, context in
            let parameters = CallParameters(context)
            try await responses.write(Self.text("in time"))
            Task.detached {
                try? await Task.sleep(for: parameters.duration)
                do {
                    try await responses.write(Self.text("too late"))
                    journal.note("late.\(parameters.key)", "written")
                } catch {
                    journal.note("late.\(parameters.key)", "\(error)")
                }
            }
        }
        registry.clientStreaming("ReadLate") { requests, context in
            let parameters = CallParameters(context)
            Task.detached {
                try? await Task.sleep(for: parameters.duration)
                do {
                    var iterator = requests.makeAsyncIterator()
                    let message = try await iterator.next()
                    journal.note("late.\(parameters.key)", message == nil ? "the end" : "a message")
                } catch {
                    journal.note("late.\(parameters.key)", "\(error)")
                }
            }
            return []
        }
        registry.unary("KeepContext") { request, context in
            keptContext.keep(context)
            return request
        }
        // What a context says long after its call; what is asked of it has no effect.
        registry.unary("AskKeptContext") { _, _ in
            guard let context = keptContext.current else { return Self.text("none") }
            context.addInitialMetadata(["x-late": "initial"])
            context.addTrailers(["x-late": "trailing"])
            context.sendInitialMetadata()
            return Self.text("\(context.method) \(CallParameters(context).key)")
        }
    }
}
