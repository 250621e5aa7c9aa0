internal import Apus
internal import Foundation
internal import GRPCTesting

/// Something that came is not what the description of the case demands.
struct UnmetExpectation: Error, CustomStringConvertible {
    let description: String

    init(_ subject: String, expected: String, actual: String) {
        description = "\(subject): expected \(expected), got \(actual)"
    }
}

extension CaseRun {
    func expect<Value: Equatable>(_ subject: String, _ actual: Value, equals expected: Value) throws {
        guard actual != expected else { return }
        throw UnmetExpectation(subject, expected: Self.shown(expected), actual: Self.shown(actual))
    }

    /// A payload is so many bytes, all zero.
    func expect(_ subject: String, _ payload: Grpc_Testing_Payload, isZeros bytes: Int) throws {
        try expect("the payload of \(subject)", "\(payload.body.count) bytes", equals: "\(bytes) bytes")
        guard payload.body != Data(count: bytes),
            let wrong = payload.body.enumerated().first(where: { $0.element != 0 })
        else { return }
        let actual = "\(wrong.element) at index \(wrong.offset)"
        throw UnmetExpectation("the payload of \(subject)", expected: "zeros", actual: actual)
    }

    /// A call ends with an error: this code, and this message if one is given.
    func expect(
        _ subject: String,
        endsWith code: StatusCode,
        _ message: String? = nil,
        call: () async throws -> some Any
    ) async throws {
        do {
            _ = try await call()
        } catch let error as RPCError {
            guard error.code != code || message.map({ $0 != error.message }) ?? false else { return }
            throw UnmetExpectation(
                "the status of \(subject)",
                expected: message.map { "\(code) \(Self.shown($0))" } ?? "\(code)",
                actual: "\(error.code) \(Self.shown(error.message))"
            )
        }
        throw UnmetExpectation("the status of \(subject)", expected: "\(code)", actual: "OK")
    }

    /// Both values of ``EchoedMetadata`` came back, each in its place.
    func expectEcho(in call: String, initial: Metadata, trailers: Metadata) throws {
        try expect(
            "\(EchoedMetadata.initialKey) in the initial metadata of \(call)",
            initial.values(for: EchoedMetadata.initialKey),
            equals: [EchoedMetadata.initialValue]
        )
        try expect(
            "\(EchoedMetadata.trailingKey) in the trailers of \(call)",
            trailers.bytes(for: EchoedMetadata.trailingKey),
            equals: [EchoedMetadata.trailingValue]
        )
    }

    /// Texts in quotes, with what does not fit into a line escaped.
    private static func shown(_ value: some Any) -> String {
        if let text = value as? String { return text.hasSuffix(" bytes") ? text : text.debugDescription }
        return "\(value)"
    }
}
