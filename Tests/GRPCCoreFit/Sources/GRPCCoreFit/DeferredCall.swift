internal import ApusBase
internal import ApusTransport

/// A client's call that begins when its metadata is written: GRPCCore opens a stream first and says then what is to
/// go ahead on it, while the reader waits already.
///
///     waiting ──begin──▶ begun
///        └─────cancel──▶ cancelled
final class DeferredCall: Sendable {
    private enum State: Sendable {
        case waiting([CheckedContinuation<Result<CallHandle, RPCError>, Never>])
        case begun(CallHandle)
        case cancelled
    }

    private let start: @Sendable (Metadata) -> CallHandle
    private let state = Lock(State.waiting([]))

    init(start: @escaping @Sendable (Metadata) -> CallHandle) { self.start = start }

    /// Begins the call, unless it was cancelled before.
    func begin(_ metadata: Metadata) throws(RPCError) {
        if let refusal = refusal(in: state.withLock({ $0 })) { throw refusal }
        let call = start(metadata)
        guard let refusal = settle(.begun(call)) else { return }
        call.cancel()
        throw refusal
    }

    /// Harmless when the call has ended.
    func cancel() {
        guard settle(.cancelled) != nil, case .begun(let call) = state.withLock({ $0 }) else { return }
        call.cancel()
    }

    /// The call, once it has begun.
    var begun: CallHandle {
        get async throws(RPCError) {
            if case .begun(let call) = state.withLock({ $0 }) { return call }
            let result = await withTaskCancellationHandler {
                await withCheckedContinuation { continuation in
                    let result: Result<CallHandle, RPCError>? = state.withLock { state in
                        switch state {
                        case .waiting(let others):
                            state = .waiting(others + [continuation])
                            return nil
                        case .begun(let call): return .success(call)
                        case .cancelled: return .failure(Self.cancelled)
                        }
                    }
                    if let result { continuation.resume(returning: result) }
                }
            } onCancel: {
                cancel()
            }
            return try result.get()
        }
    }

    /// - Returns: why it cannot be.
    private func settle(_ new: State) -> RPCError? {
        let old = state.withLock { state in
            defer { if case .waiting = state { state = new } }
            return state
        }
        guard case .waiting(let waiting) = old else { return refusal(in: old) }
        for continuation in waiting {
            if case .begun(let call) = new {
                continuation.resume(returning: .success(call))
            } else {
                continuation.resume(returning: .failure(Self.cancelled))
            }
        }
        return nil
    }

    /// Why the call cannot begin any more.
    private func refusal(in state: State) -> RPCError? {
        switch state {
        case .waiting: nil
        case .begun: RPCError(code: .internal, message: "the metadata of a call was written twice")
        case .cancelled: Self.cancelled
        }
    }

    private static let cancelled = RPCError(code: .cancelled, message: "the call was cancelled")
}
