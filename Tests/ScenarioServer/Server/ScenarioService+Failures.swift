internal import Apus
internal import ApusServices
internal import SwiftProtobuf

extension ScenarioService {
    /// An error that is none of gRPC's. Its text must not reach a client.
    private struct PrivateError: Error, CustomStringConvertible {
        var description: String { "the secret is swordfish" }
    }

    func registerFailures(with registry: inout MethodRegistry) {
        registry.unary("Fail") { request, context in throw Self.failure(request, context) }
        registry.synchronousUnary("FailSynchronously") { request, context in throw Self.failure(request, context) }
        registry.unary("ThrowDetails") { _, _ in
            let info = Google_Rpc_ErrorInfo.with {
                $0.reason = "COLD"
                $0.metadata = ["wanted": "warm"]
            }
            let retry = Google_Rpc_RetryInfo.with {
                $0.retryDelay = Google_Protobuf_Duration(seconds: 1, nanos: 500_000_000)
            }
            throw try RPCError(code: .failedPrecondition, message: "not yet", details: [info, retry])
        }
        registry.serverStreaming("FailAfter") { request, responses, context in
            for _ in 0..<CallParameters(context).integer("x-count") { try await responses.write(request) }
            throw Self.failure(request, context)
        }
        registry.clientStreaming("FailAtEnd") { requests, context in
            var last: [UInt8] = []
            for try await request in requests { last = request }
            throw Self.failure(last, context)
        }
        registry.bidirectionalStreaming("FailAtOnce") { _, _, context in
            throw Self.failure(Self.text("at once"), context)
        }
        registry.unary("Throw") { _, _ in throw PrivateError() }
        registry.synchronousUnary("ThrowSynchronously") { _, _ in throw PrivateError() }
        registry.bidirectionalStreaming("ThrowStream") { requests, responses, _ in
            for try await request in requests {
                try await responses.write(request)
                throw PrivateError()
            }
        }
    }

    /// The error that a test wants: its code in `x-code`, its message the request, its metadata all that begins with
    /// `x-`.
    private static func failure(_ request: [UInt8], _ context: CallContext) -> RPCError {
        let parameters = CallParameters(context)
        return RPCError(
            code: StatusCode(rawValue: parameters.integer("x-code", default: 2)) ?? .unknown,
            message: String(decoding: request, as: UTF8.self),
            metadata: parameters.custom
        )
    }
}
