package import ApusBase

/// What a method's handler looks like below the codec: messages are bytes.
package enum MethodHandler: Sendable {
    /// Runs on the connection's loop as soon as the request is whole, without a task.
    case synchronousUnary(@Sendable ([UInt8], CallContext) throws -> [UInt8])
    case unary(@Sendable ([UInt8], CallContext) async throws -> [UInt8])
    case clientStreaming(@Sendable (CallContext) async throws -> [UInt8])
    case serverStreaming(@Sendable ([UInt8], CallContext) async throws -> Void)
    case bidirectionalStreaming(@Sendable (CallContext) async throws -> Void)

    /// Whether the handler starts with the one request it takes, or with the head.
    var takesOneRequest: Bool {
        switch self {
        case .synchronousUnary, .unary, .serverStreaming: true
        case .clientStreaming, .bidirectionalStreaming: false
        }
    }

    /// Whether there may be more than one response.
    var streamsResponses: Bool {
        switch self {
        case .synchronousUnary, .unary, .clientStreaming: false
        case .serverStreaming, .bidirectionalStreaming: true
        }
    }
}

/// A method that a stream was opened for, without a reference count: the router keeps it as long as there are streams,
/// and one that the fallback made is kept by its session, streams and calls.
@safe
struct ServedMethodRef {
    // SAFETY: the shard holds the router, the session holds the shard, and streams live in sessions. A method that is
    // not the router's stands beside its reference, in `madeMethod`, wherever one is kept.
    private let method: Unmanaged<ServedMethod>

    init(_ method: ServedMethod) { unsafe self.method = Unmanaged.passUnretained(method) }

    @inline(__always)
    var isSynchronous: Bool { with { $0.synchronousHandler != nil } }

    @inline(__always)
    var takesOneRequest: Bool { with { $0.takesOneRequest } }

    @inline(__always)
    func with<Result>(_ body: (ServedMethod) -> Result) -> Result {
        unsafe method._withUnsafeGuaranteedRef(body)
    }
}

/// Where a method's asynchronous handler runs.
public enum HandlerExecutor: Hashable, Sendable {
    /// On the loop of the connection: no thread is changed on the way from request to answer.
    case eventLoop
    /// On Swift's global concurrent pool: for handlers that compute for long or block.
    case globalConcurrent
}

/// A method as a server serves it. Immutable.
package final class ServedMethod: Sendable {
    package let descriptor: MethodDescriptor
    package let handler: MethodHandler
    package let executor: HandlerExecutor
    /// Largest request message accepted, in bytes.
    package let maxRequestBytes: Int
    /// Largest response message sent, in bytes.
    package let maxResponseBytes: Int
    let path: [UInt8]
    /// The handler of a synchronous method, where it is found without taking ``handler`` apart.
    let synchronousHandler: (@Sendable ([UInt8], CallContext) throws -> [UInt8])?
    let takesOneRequest: Bool
    let streamsResponses: Bool

    package init(
        descriptor: MethodDescriptor,
        handler: MethodHandler,
        executor: HandlerExecutor,
        maxRequestBytes: Int,
        maxResponseBytes: Int
    ) {
        self.descriptor = descriptor
        self.handler = handler
        self.executor = executor
        self.maxRequestBytes = maxRequestBytes
        self.maxResponseBytes = maxResponseBytes
        self.path = Array(descriptor.path.utf8)
        if case .synchronousUnary(let handler) = handler {
            self.synchronousHandler = handler
        } else {
            self.synchronousHandler = nil
        }
        self.takesOneRequest = handler.takesOneRequest
        self.streamsResponses = handler.streamsResponses
    }
}
