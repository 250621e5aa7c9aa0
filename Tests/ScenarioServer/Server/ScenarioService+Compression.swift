internal import Apus

// Messages that come compressed, and answers that are to be.
//
// `x-compress: NAME` has the handler choose the encoding of its responses. Each response is the request as it was
// understood; what the handler saw of compression goes into the trailers.

extension ScenarioService {
    func registerCompression(with registry: inout MethodRegistry) {
        for (prefix, options) in [("", MethodOptions()), ("Global", MethodOptions(executor: .globalConcurrent))] {
            registry.unary("\(prefix)CompressedUnary", options) { request, context in
                choose(context)
                context.addTrailers(seen(context, [context.requestWasCompressed]))
                return request
            }
            registry.clientStreaming("\(prefix)CompressedCollect", options) { requests, context in
                choose(context)
                var all: [UInt8] = []
                var flags: [Bool] = []
                for try await request in requests.received {
                    all += request.message
                    flags.append(request.wasCompressed)
                }
                context.addTrailers(seen(context, flags))
                return all
            }
            // Messages that begin with `-` go back uncompressed.
            registry.bidirectionalStreaming("\(prefix)CompressedStream", options) { requests, responses, context in
                choose(context)
                var flags: [Bool] = []
                for try await request in requests.received {
                    flags.append(request.wasCompressed)
                    let isPlain = request.message.first == UInt8(ascii: "-")
                    try await responses.write(request.message, compressed: !isPlain)
                }
                context.addTrailers(seen(context, flags))
            }
            // Reads on whatever comes, and ends with OK.
            registry.bidirectionalStreaming("\(prefix)IgnoreErrors", options) { requests, responses, context in
                do {
                    for try await _ in requests {}
                } catch {
                    journal.set("ignored.\(CallParameters(context).key)", to: 1)
                }
            }
        }
        registerChoices(with: &registry)
    }

    private func registerChoices(with registry: inout MethodRegistry) {
        registry.synchronousUnary("CompressedSynchronously") { request, context in
            choose(context)
            context.addTrailers(seen(context, [context.requestWasCompressed]))
            return request
        }
        // `x-count` messages of `x-bytes`, each filled with the low byte of its number; every other one uncompressed.
        registry.serverStreaming("CompressedPour") { _, responses, context in
            choose(context)
            let parameters = CallParameters(context)
            for number in 0..<parameters.integer("x-count") {
                let message = [UInt8](
                    repeating: UInt8(truncatingIfNeeded: number),
                    count: parameters.integer("x-bytes")
                )
                try await responses.write(message, compressed: number.isMultiple(of: 2))
            }
        }
        // To choose once the head has left is too late, and says so.
        registry.serverStreaming("ChooseTooLate") { request, responses, context in
            context.sendInitialMetadata()
            try await responses.write(request)
            let isChosen = context.setResponseCompression(.gzip)
            try await responses.write(request)
            context.addTrailers(["x-chosen": "\(isChosen)"])
        }
        // Chooses what `x-compress` names, then what the message names, and says what came of each.
        registry.unary("ChooseTwice") { request, context in
            let first = choose(context)
            let second = context.setResponseCompression(CompressionAlgorithm(String(decoding: request, as: UTF8.self)))
            context.addTrailers(["x-chosen": "\(first) \(second)"])
            return [UInt8](repeating: UInt8(ascii: "z"), count: 1000)
        }
    }

    @discardableResult
    private func choose(_ context: CallContext) -> Bool {
        guard let name = context.metadata["x-compress"] else { return false }
        return context.setResponseCompression(CompressionAlgorithm(name))
    }

    private func seen(_ context: CallContext, _ flags: [Bool]) -> Metadata {
        [
            "x-request-compression": context.requestCompression.name,
            "x-accepted": context.acceptedCompressions.map(\.name).joined(separator: " "),
            "x-flags": flags.map { $0 ? "1" : "0" }.joined(),
        ]
    }
}
