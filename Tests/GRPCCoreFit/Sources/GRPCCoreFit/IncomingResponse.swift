internal import ApusBase
internal import ApusTransport
internal import GRPCCore

/// What a server answers: its metadata, its messages, its status; of a call that was refused the status alone. To be
/// iterated once.
struct IncomingResponse: AsyncSequence, Sendable {
    let call: DeferredCall

    func makeAsyncIterator() -> Iterator { Iterator(call: call) }

    struct Iterator: AsyncIteratorProtocol {
        private enum Position {
            case start
            case body(CallHandle)
            case end
        }

        private let call: DeferredCall
        private var position = Position.start

        init(call: DeferredCall) { self.call = call }

        mutating func next(
            isolation actor: isolated (any Actor)? = #isolation
        ) async throws(any Error) -> RPCResponsePart<[UInt8]>? {
            do throws(ApusBase.RPCError) {
                switch position {
                case .start:
                    let begun = try await call.begun
                    let metadata = try await begun.initialMetadata()
                    position = .body(begun)
                    return .metadata(GRPCCore.Metadata(metadata))
                case .body(let begun):
                    if let message = try await begun.nextMessage() { return .message(message) }
                    position = .end
                    return .status(Status(code: .ok, message: ""), GRPCCore.Metadata(try await begun.trailers()))
                case .end:
                    return nil
                }
            } catch {
                position = .end
                let failure = GRPCCore.RPCError(error)
                // What the server decided is a part of its answer; what happened on the way is an error.
                guard error.origin == .peer else { throw failure }
                return .status(Status(code: Status.Code(failure.code), message: failure.message), failure.metadata)
            }
        }
    }
}
