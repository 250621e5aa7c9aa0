internal import ApusBase
internal import ApusTransport
internal import GRPCCore

/// What the client of a call sends: its metadata, then its messages. To be iterated once.
struct IncomingRequest: AsyncSequence, Sendable {
    let call: CallContext

    func makeAsyncIterator() -> Iterator { Iterator(call: call) }

    struct Iterator: AsyncIteratorProtocol {
        let call: CallContext
        private var metadataIsDue = true

        init(call: CallContext) { self.call = call }

        mutating func next(
            isolation actor: isolated (any Actor)? = #isolation
        ) async throws(any Error) -> RPCRequestPart<[UInt8]>? {
            if metadataIsDue {
                metadataIsDue = false
                return .metadata(GRPCCore.Metadata(call.metadata))
            }
            if let message = call.messageNow() { return .message(message) }
            do throws(ApusBase.RPCError) {
                return try await call.nextMessage().map { .message($0) }
            } catch {
                throw GRPCCore.RPCError(error)
            }
        }
    }
}
