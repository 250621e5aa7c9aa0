public import Apus
public import SwiftProtobuf

// Rich errors: a `google.rpc.Status` in the trailer `grpc-status-details-bin`, with messages that say more than a code
// and a text can (the standard ones are in google/rpc/error_details.proto: `Google_Rpc_ErrorInfo`, `…RetryInfo`,
// `…BadRequest` and so on).

/// The trailer that the details travel in; its value is a serialized `google.rpc.Status`.
private let detailsKey = "grpc-status-details-bin"
private let typeURLPrefix = "type.googleapis.com"

extension RPCError {
    /// An error with details, for a handler to throw:
    ///
    ///     throw try RPCError(
    ///         code: .invalidArgument,
    ///         message: "the name is empty",
    ///         details: [Google_Rpc_BadRequest.with { $0.fieldViolations = [.with { $0.field = "name" }] }]
    ///     )
    ///
    /// They count towards what the client accepts of trailers, 8 KiB by default in most stacks.
    ///
    /// - Parameter metadata: further trailers.
    /// - Throws: what SwiftProtobuf says of a message that cannot be serialized.
    public init(code: StatusCode, message: String, details: [any Message], metadata: Metadata = [:]) throws {
        let status = try Google_Rpc_Status.with { status in
            status.code = Int32(code.rawValue)
            status.message = message
            status.details = try details.map { try Google_Protobuf_Any(message: $0, typePrefix: typeURLPrefix) }
        }
        var metadata = metadata
        metadata.add(bytes: try status.serializedBytes(), for: detailsKey)
        self.init(code: code, message: message, metadata: metadata)
    }

    /// The status with its details that came with the error; `nil` when there is none, or when it cannot be read.
    public var status: Google_Rpc_Status? {
        metadata.bytes(for: detailsKey).first.flatMap { try? Google_Rpc_Status(serializedBytes: $0) }
    }

    /// The first detail of a type:
    ///
    ///     catch let error as RPCError {
    ///         let pause = error.detail(Google_Rpc_RetryInfo.self)?.retryDelay
    ///     }
    ///
    /// `nil` when there is none of it, or it cannot be read.
    public func detail<Detail: Message>(_ type: Detail.Type) -> Detail? {
        for detail in status?.details ?? [] where detail.isA(type) {
            if let message = try? Detail(unpackingAny: detail) { return message }
        }
        return nil
    }
}
