package import ApusBase
package import ApusEventLoop
package import ApusTransport
package import GRPCCore
package import Logging

/// GRPCCore's server on Apus's transport: every call goes to the stream handler, whatever its method.
///
///     idle ──listen──▶ listening ──the server has stopped──▶ stopped
///       └───beginGracefulShutdown | it cannot listen────────────▲
package final class ApusServerTransport: ServerTransport {
    package typealias Bytes = [UInt8]
    package typealias Inbound = RPCAsyncSequence<RPCRequestPart<Bytes>, any Error>
    package typealias Outbound = RPCWriter<RPCResponsePart<Bytes>>.Closable

    private enum Phase: Sendable {
        case idle
        case listening(ServerCore, at: SocketAddress)
        case stopped
    }

    private struct State: Sendable {
        var phase = Phase.idle
        var waiting: [CheckedContinuation<SocketAddress, any Error>] = []
    }

    private let address: SocketAddress
    private let eventLoops: EventLoopGroup
    private let limits: ServerLimits
    private let executor: HandlerExecutor
    private let maxRequestBytes: Int
    private let logger: Logger
    private let state = Lock(State())

    package init(
        address: SocketAddress,
        eventLoops: EventLoopGroup = .shared,
        limits: ServerLimits = ServerLimits(),
        executor: HandlerExecutor = .eventLoop,
        maxRequestBytes: Int = 4 << 20,
        logger: Logger
    ) {
        self.address = address
        self.eventLoops = eventLoops
        self.limits = limits
        self.executor = executor
        self.maxRequestBytes = maxRequestBytes
        self.logger = logger
    }

    /// Where the transport listens, with the port that the kernel chose for port 0. Waits until it listens.
    package var listeningAddress: SocketAddress {
        get async throws {
            try await withCheckedThrowingContinuation { continuation in
                let result: Result<SocketAddress, any Error>? = state.withLock { state in
                    switch state.phase {
                    case .idle:
                        state.waiting.append(continuation)
                        return nil
                    case .listening(_, let address): return .success(address)
                    case .stopped: return .failure(Self.notListening)
                    }
                }
                if let result { continuation.resume(with: result) }
            }
        }
    }

    package func listen(
        streamHandler: @escaping @Sendable @concurrent (RPCStream<Inbound, Outbound>, ServerContext) async -> Void
    ) async throws {
        let fallback = Fallback(
            executor: executor,
            maxRequestBytes: maxRequestBytes,
            maxResponseBytes: Int(UInt32.max)
        ) { [address] call in
            try await Self.serve(call, localPeer: address.peerText, streamHandler)
        }
        let core = ServerCore(
            methods: [],
            fallback: fallback,
            limits: limits,
            loops: eventLoops.loops,
            logger: logger
        )
        do throws(ApusBase.RPCError) {
            let local = try core.listen(on: address)
            if !settle(.listening(core, at: local)) { core.stop() }
        } catch {
            settle(.stopped)
            throw GRPCCore.RPCError(error)
        }
        await withTaskCancellationHandler {
            await core.waitUntilStopped()
        } onCancel: {
            core.stop()
        }
        settle(.stopped)
    }

    package func beginGracefulShutdown() {
        if case .listening(let core, _) = state.withLock({ $0.phase }) {
            core.beginDraining()
        } else {
            settle(.stopped)
        }
    }

    /// Goes on to a phase, unless the transport has stopped; whoever waits for the address learns of it.
    ///
    /// - Returns: whether it had not stopped.
    @discardableResult
    private func settle(_ phase: Phase) -> Bool {
        let waiting: [CheckedContinuation<SocketAddress, any Error>]? = state.withLock { state in
            if case .stopped = state.phase { return nil }
            state.phase = phase
            defer { state.waiting = [] }
            return state.waiting
        }
        guard let waiting else { return false }
        for continuation in waiting {
            if case .listening(_, let address) = phase {
                continuation.resume(returning: address)
            } else {
                continuation.resume(throwing: Self.notListening)
            }
        }
        return true
    }

    private static let notListening = GRPCCore.RPCError(
        code: .failedPrecondition,
        message: "the transport does not listen"
    )

    /// One call: what the stream handler writes last becomes how the transport's handler ends.
    private static func serve(
        _ call: CallContext,
        localPeer: String,
        _ streamHandler: @Sendable @concurrent (RPCStream<Inbound, Outbound>, ServerContext) async -> Void
    ) async throws {
        let descriptor = GRPCCore.MethodDescriptor(call.method)
        let responses = OutgoingResponse(call)
        let stream = RPCStream(
            descriptor: descriptor,
            inbound: RPCAsyncSequence(wrapping: IncomingRequest(call: call)),
            outbound: RPCWriter.Closable(wrapping: responses)
        )
        await withServerContextRPCCancellationHandle { handle in
            let context = ServerContext(
                descriptor: descriptor,
                remotePeer: call.peer.peerText,
                localPeer: localPeer,
                cancellation: handle
            )
            // Apus cancels the handler's task when nobody waits for the answer; GRPCCore's handlers ask the handle.
            await withTaskCancellationHandler {
                await streamHandler(stream, context)
            } onCancel: {
                handle.cancel()
            }
        }
        try responses.end()
    }
}
