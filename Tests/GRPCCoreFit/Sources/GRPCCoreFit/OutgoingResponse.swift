internal import ApusBase
internal import ApusTransport
internal import GRPCCore

/// What a call answers, part by part: metadata, messages, and the status, which is kept until the handler returns.
final class OutgoingResponse: ClosableRPCWriterProtocol {
    private enum End: Sendable {
        case succeeded(trailers: ApusBase.Metadata)
        case failed(ApusBase.RPCError)
    }

    private let call: CallContext
    private let decided = Lock<End?>(nil)

    init(_ call: CallContext) { self.call = call }

    func write(_ part: RPCResponsePart<[UInt8]>) async throws {
        switch part {
        case .metadata(let metadata):
            call.addInitialMetadata(ApusBase.Metadata(metadata))
            call.sendInitialMetadata()
        case .message(let message):
            if decided.withLock({ $0 != nil }) { throw Self.writtenTooLate }
            do throws(ApusBase.RPCError) {
                try await call.write(message)
            } catch {
                throw GRPCCore.RPCError(error)
            }
        case .status(let status, let metadata):
            let end = ApusBase.RPCError(status, metadata).map { End.failed($0) }
            if !decide(end ?? .succeeded(trailers: ApusBase.Metadata(metadata))) { throw Self.writtenTooLate }
        }
    }

    func write(contentsOf parts: some Sequence<RPCResponsePart<[UInt8]>>) async throws {
        for part in parts { try await write(part) }
    }

    /// What is to be sent has been written: the call ends when the handler returns.
    func finish() async {}

    func finish(throwing error: any Error) async {
        switch error {
        case let error as GRPCCore.RPCError: decide(.failed(ApusBase.RPCError(error)))
        case is CancellationError: decide(.failed(RPCError(code: .cancelled, message: "the handler was cancelled")))
        default: decide(.failed(RPCError(code: .unknown, message: "the stream handler failed", cause: error)))
        }
    }

    /// The handler has returned: its status, thrown unless it is OK.
    func end() throws(ApusBase.RPCError) {
        switch decided.withLock({ $0 }) {
        case .succeeded(let trailers): call.addTrailers(trailers)
        case .failed(let error): throw error
        case nil: throw RPCError(code: .unknown, message: "the stream handler returned without a status")
        }
    }

    @discardableResult
    private func decide(_ end: End) -> Bool {
        decided.withLock { decided in
            defer { decided = decided ?? end }
            return decided == nil
        }
    }

    private static let writtenTooLate = GRPCCore.RPCError(
        code: .internalError,
        message: "a part was written after the status"
    )
}
