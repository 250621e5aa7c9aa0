internal import ApusBase
package import ApusEventLoop
package import ApusTransport
package import GRPCCore
package import Logging

/// GRPCCore's client on Apus's transport.
///
///     running ──beginGracefulShutdown──▶ draining ──no stream is open──▶ closed
///        └──────────the task of `connect` is cancelled──────────────────────▲
package final class ApusClientTransport: ClientTransport {
    package typealias Bytes = [UInt8]
    package typealias Inbound = RPCAsyncSequence<RPCResponsePart<Bytes>, any Error>
    package typealias Outbound = RPCWriter<RPCRequestPart<Bytes>>.Closable

    private struct State: Sendable {
        var isDraining = false
        var openStreams = 0
        var waiting: [CheckedContinuation<Void, Never>] = []

        var isClosed: Bool { isDraining && openStreams == 0 }

        /// Those who wait for the end, once it has come.
        mutating func takeWaiting() -> [CheckedContinuation<Void, Never>] {
            guard isClosed else { return [] }
            defer { waiting = [] }
            return waiting
        }
    }

    private let channel: ClientChannel
    private let peer: String
    private let state = Lock(State())

    /// GRPCCore retries by the rules that a call's options give, unthrottled.
    package var retryThrottle: RetryThrottle? { nil }

    package init(
        _ target: String,
        limits: ClientLimits = ClientLimits(),
        eventLoops: EventLoopGroup = .shared,
        logger: Logger
    ) throws {
        do throws(ApusBase.RPCError) {
            channel = ClientChannel(
                target: try ClientTarget(target),
                limits: limits,
                loop: eventLoops.leastLoaded(),
                logger: logger
            )
            peer = target
        } catch {
            throw GRPCCore.RPCError(error)
        }
    }

    package func config(forMethod descriptor: GRPCCore.MethodDescriptor) -> MethodConfig? { nil }

    package func connect() async throws {
        channel.connect()
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isClosed = state.withLock { state in
                    if !state.isClosed { state.waiting.append(continuation) }
                    return state.isClosed
                }
                if isClosed { continuation.resume() }
            }
        } onCancel: {
            beginGracefulShutdown()
            channel.close()
        }
        channel.close()
    }

    package func beginGracefulShutdown() {
        change { $0.isDraining = true }
    }

    package func withStream<T: Sendable>(
        descriptor: GRPCCore.MethodDescriptor,
        options: GRPCCore.CallOptions,
        _ closure: @concurrent (RPCStream<Inbound, Outbound>, ClientContext) async throws -> T
    ) async throws -> T {
        let isOpen = state.withLock { state in
            if !state.isDraining { state.openStreams += 1 }
            return !state.isDraining
        }
        guard isOpen else { throw RPCError(code: .failedPrecondition, message: "the transport is shut down") }
        defer { change { $0.openStreams -= 1 } }

        let method = ApusBase.MethodDescriptor(descriptor)
        let call = DeferredCall { [channel] metadata in
            channel.startCall(method, ApusTransport.CallOptions(options, metadata))
        }
        let stream = RPCStream(
            descriptor: descriptor,
            inbound: RPCAsyncSequence(wrapping: IncomingResponse(call: call)),
            outbound: RPCWriter.Closable(wrapping: OutgoingRequest(call: call))
        )
        let context = ClientContext(descriptor: descriptor, remotePeer: peer, localPeer: "")
        // Whoever leaves the closure is done with the stream, be it at its end or not.
        defer { call.cancel() }
        return try await withTaskCancellationHandler {
            try await closure(stream, context)
        } onCancel: {
            call.cancel()
        }
    }

    private func change(_ body: @Sendable (inout State) -> Void) {
        let waiting = state.withLock { state in
            body(&state)
            return state.takeWaiting()
        }
        for continuation in waiting { continuation.resume() }
    }
}

extension ApusTransport.CallOptions {
    fileprivate init(_ options: GRPCCore.CallOptions, _ metadata: ApusBase.Metadata) {
        // The transport makes `grpc-timeout` itself, from the same timeout.
        var metadata = metadata
        metadata.removeAll(for: "grpc-timeout")
        self.init(
            timeout: options.timeout,
            metadata: metadata,
            waitForReady: options.waitForReady ?? false,
            maxRequestBytes: options.maxRequestMessageBytes,
            maxResponseBytes: options.maxResponseMessageBytes
        )
    }
}
