internal import ApusBase
internal import ApusTransport
internal import GRPCCore

/// What a client's call asks, part by part: the metadata, which begins it, and messages.
struct OutgoingRequest: ClosableRPCWriterProtocol {
    let call: DeferredCall

    func write(_ part: RPCRequestPart<[UInt8]>) async throws {
        do throws(ApusBase.RPCError) {
            switch part {
            case .metadata(let metadata): try call.begin(ApusBase.Metadata(metadata))
            case .message(let message):
                let begun = try await call.begun
                let result = try begun.writeNow(message)
                if result != .queued { try await begun.finishWriting(message, result) }
            }
        } catch {
            throw GRPCCore.RPCError(error)
        }
    }

    func write(contentsOf parts: some Sequence<RPCRequestPart<[UInt8]>>) async throws {
        for part in parts { try await write(part) }
    }

    func finish() async {
        // A call that was cancelled before it began has nothing to finish.
        try? await call.begun.finishWriting()
    }

    /// HTTP/2 has no way to say why: the server learns that the call was cancelled.
    func finish(throwing error: any Error) async { call.cancel() }
}
