package import ApusBase
internal import ApusEventLoop
internal import Synchronization

/// A call as its handler holds it: what came with the request, and the two directions of messages.
///
/// A handler may use it from any thread and keep it after the call has ended. What the loop keeps of a call is confined to
/// the loop: a caller that is on it reaches it directly, any other by way of the loop's queue.
@safe
package final class ServerCall: @unchecked Sendable {
    // Sendable, because: `hot` is touched on the loop alone, but for what `begin` sets, which is not written while a handler
    // can see it (a call object is used again only when nobody else holds it); the rest is atomic or locked.

    package let shard: ServerShard
    private let hot: Confined<Hot>

    private struct Hot {
        // What the handler reads.
        var method: ServedMethodRef
        var metadata = Metadata()
        var authority: [UInt8] = []
        var deadline = MonotonicInstant.distantFuture
        var peer: ConnectionPeer

        // The loop's.
        var session: ServerSession?
        var stream: StreamHandle?
        /// Why the call ended, when it did so before its handler.
        var endError: RPCError?
        /// The worker whose task runs the handler, or the task itself when it runs elsewhere.
        var worker: HandlerWorker?
        var task: Task<Void, Never>?
        var request: [UInt8] = []
        var reader = Reader.none
        var writers: [Suspension<Void>] = []
        var isReadElsewhere = false
    }

    // MARK: From any thread

    private let over = Atomic<Bool>(false)
    private let sendQueueIsFull = Atomic<Bool>(false)
    private let bytesUnderWay = Atomic<Int>(0)
    private let prefetched = Lock(MessageQueue())
    private let hasResponseMetadata = Atomic<Bool>(false)
    private let responseMetadata = Lock(ResponseMetadata())

    struct ResponseMetadata: Sendable {
        var initial = Metadata()
        var trailing = Metadata()
    }

    /// Who waits for the next request message.
    enum Reader {
        case none
        /// On the loop: it takes one message when it runs.
        case onLoop(Suspension<Void>)
        /// On another thread: it is given all there is, so that it is woken once for a batch.
        case elsewhere(Suspension<Batch>)
    }

    enum Batch: Sendable {
        case messages(MessageQueue)
        case end
        case failed(RPCError)
    }

    init(shard: ServerShard, method: ServedMethodRef, peer: ConnectionPeer) {
        self.shard = shard
        self.hot = Confined(Hot(method: method, peer: peer))
    }

    deinit { hot.destroy() }

    var loop: EventLoop { shard.loop }

    /// Takes up a stream; on the loop, before the handler sees this object.
    @inline(__always)
    func begin(_ stream: StreamHandle, on session: ServerSession, method: ServedMethodRef) {
        hot.value.stream = stream
        hot.value.session = session
        hot.value.method = method
        if hot.value.peer !== session.peer { hot.value.peer = session.peer }
        swap(&hot.value.metadata, &stream.value.metadata)
        swap(&hot.value.authority, &stream.value.authority)
        hot.value.deadline = stream.value.deadline
    }

    /// Forgets everything, so that the next call can use the object.
    @inline(__always)
    func recycle() {
        hot.value.session = nil
        hot.value.stream = nil
        if hot.value.worker != nil { hot.value.worker = nil }
        if hot.value.task != nil { hot.value.task = nil }
        if over.load(ordering: .relaxed) || hasResponseMetadata.load(ordering: .relaxed) || hot.value.isReadElsewhere {
            recycleWhatIsRare()
        }
    }

    private func recycleWhatIsRare() {
        over.store(false, ordering: .relaxed)
        sendQueueIsFull.store(false, ordering: .relaxed)
        hot.value.endError = nil
        hasResponseMetadata.store(false, ordering: .relaxed)
        responseMetadata.withLock { $0 = ResponseMetadata() }
        hot.value.isReadElsewhere = false
        prefetched.withLock { $0 = MessageQueue() }
    }

    var isWaitingToRead: Bool { if case .none = hot.value.reader { false } else { true } }

    // MARK: The loop's view

    @inline(__always)
    func withMethod<Result>(_ body: (ServedMethod) -> Result) -> Result { hot.value.method.with(body) }

    var session: ServerSession? {
        get { hot.value.session }
        set { hot.value.session = newValue }
    }

    var stream: StreamHandle? {
        get { hot.value.stream }
        set { hot.value.stream = newValue }
    }

    var worker: HandlerWorker? {
        get { hot.value.worker }
        set { hot.value.worker = newValue }
    }

    var task: Task<Void, Never>? {
        get { hot.value.task }
        set { hot.value.task = newValue }
    }

    /// The one request of a method that takes one.
    func setRequest(_ message: consuming [UInt8]) { hot.value.request = message }

    private func takeRequest() -> [UInt8] {
        var message: [UInt8] = []
        swap(&message, &hot.value.request)
        return message
    }
}

// MARK: - For handlers, from any thread

extension ServerCall {
    /// The method called.
    package var method: ServedMethod { hot.value.method.with { $0 } }

    /// The request's metadata.
    package var metadata: Metadata { hot.value.metadata }

    package var authorityBytes: [UInt8] { hot.value.authority }

    /// The other end of the connection.
    package var peer: ConnectionPeer { hot.value.peer }

    /// Whether the call ended before its handler: the client cancelled, the deadline passed, the connection was lost.
    package var isOver: Bool { over.load(ordering: .acquiring) }

    /// How long the client still waits; `nil` when it set no deadline.
    package var timeRemaining: Duration? {
        let deadline = hot.value.deadline
        guard deadline != .distantFuture else { return nil }
        return .nanoseconds(max(0, deadline.nanoseconds(since: loop.clock.now())))
    }

    /// Adds to what goes out ahead of the first message.
    package func addInitialMetadata(_ metadata: Metadata) {
        responseMetadata.withLock { $0.initial.add(contentsOf: metadata) }
        hasResponseMetadata.store(true, ordering: .releasing)
    }

    /// Adds to what goes out with the status.
    package func addTrailers(_ metadata: Metadata) {
        responseMetadata.withLock { $0.trailing.add(contentsOf: metadata) }
        hasResponseMetadata.store(true, ordering: .releasing)
    }

    /// Sends the initial metadata now and not with the first message.
    package func sendInitialMetadata() {
        guard loop.isCurrent else {
            loop.execute { self.sendInitialMetadata() }
            return
        }
        if let stream { session?.sendHead(stream, self) }
    }

    /// What the handler set, or `nil` when it set nothing, which is the usual case and costs no lock.
    func takeResponseMetadata() -> ResponseMetadata? {
        guard hasResponseMetadata.load(ordering: .acquiring) else { return nil }
        return responseMetadata.withLock { $0 }
    }
}

// MARK: - Reading requests

extension ServerCall {
    /// The next request message, if it is there and the caller on the loop.
    @inline(__always)
    func messageNow() -> [UInt8]? {
        guard loop.isCurrent, hot.value.endError == nil, let stream = hot.value.stream,
            let message = stream.value.inbound.popFirst()
        else { return nil }
        hot.value.session?.messageTaken(stream, bytes: message.count)
        return message
    }

    /// The next request message; `nil` after the last one.
    ///
    /// - Throws: the call's end, when it came before the client's; `CANCELLED` when the task was cancelled.
    package func nextMessage() async throws(RPCError) -> [UInt8]? {
        // `messageNow` comes first in the usual case, and needs no asynchronous frame.
        while loop.isCurrent {
            switch takeMessage() {
            case .message(let message): return message
            case .end: return nil
            case .failed(let error): throw error
            case .nothingYet: try await waitToRead()
            }
        }
        return try await nextMessageElsewhere()
    }

    enum Taken {
        case message([UInt8])
        case nothingYet
        case end
        case failed(RPCError)
    }

    /// On the loop.
    func takeMessage() -> Taken {
        if let endError = hot.value.endError { return .failed(endError) }
        guard let stream, let session else { return .end }
        if let message = stream.value.inbound.popFirst() {
            session.messageTaken(stream, bytes: message.count)
            return .message(message)
        }
        return stream.value.state.acceptsData ? .nothingYet : .end
    }

    private func waitToRead() async throws(RPCError) {
        guard case .none = hot.value.reader else {
            throw RPCError(code: .internal, message: "two tasks read the requests of \(method.descriptor) at once")
        }
        if Task.isCancelled { throw cancelled }
        if let stream { session?.readerWaits(stream) }
        // Only the loop cancels the handler's own task, and wakes the hot.value.reader when it does; any other task may be cancelled
        // by the application at any time, and needs the (costlier) handler.
        if let worker, worker.isRunning(on: loop) {
            await Suspension.wait { hot.value.reader = .onLoop($0) }
        } else {
            await withTaskCancellationHandler {
                await Suspension.wait { hot.value.reader = .onLoop($0) }
            } onCancel: {
                loop.execute { self.wakeReader() }
            }
        }
    }

    private func nextMessageElsewhere() async throws(RPCError) -> [UInt8]? {
        if let message = prefetched.withLock({ $0.popFirst() }) { return message }
        if Task.isCancelled { throw cancelled }
        let batch = await withTaskCancellationHandler {
            await Suspension<Batch>.wait { continuation in
                let queued = loop.execute { self.giveBatch(to: continuation) }
                if !queued { continuation.resume(returning: .failed(self.loopStopped)) }
            }
        } onCancel: {
            loop.execute { self.cancelReader() }
        }
        switch batch {
        case .end: return nil
        case .failed(let error): throw error
        case .messages(let messages):
            return prefetched.withLock {
                $0 = messages
                return $0.popFirst()
            }
        }
    }

    /// On the loop.
    private func giveBatch(to continuation: Suspension<Batch>) {
        hot.value.isReadElsewhere = true
        guard case .none = hot.value.reader else {
            let message = "two tasks read the requests of \(method.descriptor) at once"
            continuation.resume(returning: .failed(RPCError(code: .internal, message: message)))
            return
        }
        hot.value.reader = .elsewhere(continuation)
        if let stream, hot.value.endError == nil, stream.value.inbound.isEmpty, stream.value.state.acceptsData {
            session?.readerWaits(stream)
        } else {
            wakeReader()
        }
    }

    /// On the loop: there is something to take, or the call ended.
    func wakeReader() {
        let waiting = hot.value.reader
        hot.value.reader = .none
        switch waiting {
        case .none: break
        case .onLoop(let continuation): continuation.resume()
        case .elsewhere(let continuation): continuation.resume(returning: takeBatch())
        }
    }

    /// On the loop: the task that waits elsewhere was cancelled.
    private func cancelReader() {
        guard case .elsewhere(let continuation) = hot.value.reader else { return }
        hot.value.reader = .none
        continuation.resume(returning: .failed(cancelled))
    }

    private func takeBatch() -> Batch {
        var batch = MessageQueue()
        while true {
            switch takeMessage() {
            case .message(let message): batch.append(message)
            case .nothingYet: return .messages(batch)
            case .end: return batch.isEmpty ? .end : .messages(batch)
            case .failed(let error): return .failed(error)
            }
        }
    }

    private var cancelled: RPCError {
        RPCError(code: .cancelled, message: "the task that reads or writes this call was cancelled")
    }

    private var loopStopped: RPCError {
        RPCError(code: .unavailable, message: "the event loop of this call has stopped")
    }
}

// MARK: - Writing responses

extension ServerCall {
    /// Queues a response message, and waits while more is queued than the server's high-water mark.
    ///
    /// - Throws: `RESOURCE_EXHAUSTED` when the message is too large; the call's end when it came before; `CANCELLED` when
    ///   the task was cancelled.
    package func write(_ message: [UInt8]) async throws(RPCError) {
        try await finishWriting(message, try writeNow(message))
    }

    func finishWriting(_ message: [UInt8], _ result: WriteResult) async throws(RPCError) {
        switch result {
        case .queued: return
        case .queueIsFull: try await waitForRoom()
        case .isElsewhere: try await writeElsewhere(message)
        }
    }

    /// Queues a message if the caller is on the loop.
    @inline(__always)
    func writeNow(_ message: [UInt8]) throws(RPCError) -> WriteResult {
        let maxBytes = withMethod { $0.maxResponseBytes }
        guard message.count <= maxBytes else { throw Self.tooLarge(message.count, method) }
        guard loop.isCurrent else { return .isElsewhere }
        try send(message)
        return sendQueueIsFull.load(ordering: .relaxed) ? .queueIsFull : .queued
    }

    /// Waits on the loop until the peer has taken enough.
    func waitForRoom() async throws(RPCError) {
        while sendQueueIsFull.load(ordering: .relaxed) {
            if Task.isCancelled { throw hot.value.endError ?? cancelled }
            if loop.isCurrent, let worker, worker.isRunning(on: loop) {
                await Suspension.wait { hot.value.writers.append($0) }
            } else {
                await waitToWriteElsewhere()
            }
            if isOver { throw hot.value.endError ?? cancelled }
        }
    }

    static func tooLarge(_ bytes: Int, _ method: ServedMethod) -> RPCError {
        RPCError(
            code: .resourceExhausted,
            message: "a response of \(bytes) bytes is over the limit of \(method.maxResponseBytes) of \(method.descriptor)"
        )
    }

    private func writeElsewhere(_ message: [UInt8]) async throws(RPCError) {
        if isOver { throw await endErrorElsewhere() }
        if Task.isCancelled { throw cancelled }
        let bytes = message.count + MessageDeframer.prefixBytes
        let underWay = bytesUnderWay.add(bytes, ordering: .relaxed).newValue
        let queued = loop.execute {
            self.bytesUnderWay.subtract(bytes, ordering: .relaxed)
            // The writer learns of the call's end at its next write.
            try? self.send(message)
        }
        guard queued else { throw loopStopped }
        let limit = shard.limits.sendQueueBytesHigh
        if underWay > limit || sendQueueIsFull.load(ordering: .acquiring) {
            await waitToWriteElsewhere()
            if isOver { throw await endErrorElsewhere() }
            if Task.isCancelled { throw cancelled }
        }
    }

    private func waitToWriteElsewhere() async {
        await withTaskCancellationHandler {
            await Suspension<Void>.wait { continuation in
                let queued = loop.execute {
                    let isFull = self.sendQueueIsFull.load(ordering: .relaxed)
                    if isFull, self.hot.value.endError == nil {
                        self.hot.value.writers.append(continuation)
                    } else {
                        continuation.resume()
                    }
                }
                if !queued { continuation.resume() }
            }
        } onCancel: {
            loop.execute { self.wakeWriters() }
        }
    }

    private func endErrorElsewhere() async -> RPCError {
        await Suspension<RPCError>.wait { continuation in
            let queued = loop.execute { continuation.resume(returning: self.hot.value.endError ?? self.cancelled) }
            if !queued { continuation.resume(returning: loopStopped) }
        }
    }

    /// On the loop.
    private func send(_ message: [UInt8]) throws(RPCError) {
        if let endError = hot.value.endError { throw endError }
        guard let stream, let session else {
            throw RPCError(code: .internal, message: "a message was written to \(method.descriptor) after it had ended")
        }
        let queuedBytes = try session.send(message, on: stream, self)
        if queuedBytes > shard.limits.sendQueueBytesHigh { sendQueueIsFull.store(true, ordering: .releasing) }
    }

    /// On the loop: the queue is `queuedBytes` long after the peer took some of it.
    @inline(__always)
    func sendQueueDrained(to queuedBytes: Int) {
        guard sendQueueIsFull.load(ordering: .relaxed), queuedBytes <= shard.limits.sendQueueBytesLow else { return }
        sendQueueIsFull.store(false, ordering: .releasing)
        wakeWriters()
    }

    private func wakeWriters() {
        let waiting = hot.value.writers
        hot.value.writers.removeAll()
        for continuation in waiting { continuation.resume() }
    }
}

// MARK: - The end

extension ServerCall {
    /// On the loop: the call ended while its handler runs. The handler's task is cancelled, and whatever it waits for in
    /// this call ends with `error`.
    func end(_ error: RPCError) {
        guard hot.value.endError == nil else { return }
        hot.value.endError = error
        over.store(true, ordering: .releasing)
        stream = nil
        if let worker { worker.cancel() }
        task?.cancel()
        wakeReader()
        wakeWriters()
    }

    /// Runs the handler; in the worker's task, or in one of its own.
    @inline(__always)
    func run() async {
        // Reset between the decision to start the handler and its task's turn: then it need not start.
        if isOver { return deliver(.done) }
        let context = CallContext(self)
        let handler = withMethod { $0.handler }
        do {
            switch handler {
            case .synchronousUnary(let handler): deliver(.reply(try handler(takeRequest(), context)))
            case .unary(let handler): deliver(.reply(try await handler(takeRequest(), context)))
            case .clientStreaming(let handler): deliver(.reply(try await handler(context)))
            case .serverStreaming(let handler):
                try await handler(takeRequest(), context)
                deliver(.done)
            case .bidirectionalStreaming(let handler):
                try await handler(context)
                deliver(.done)
            }
        } catch {
            deliver(.failed(error))
        }
    }

    private func deliver(_ completion: HandlerCompletion) {
        if loop.isCurrent {
            finish(completion)
        } else {
            // What the stopped loop owned is gone with it, so there is nobody to tell.
            loop.execute { self.finish(completion) }
        }
    }

    /// On the loop: the handler returned.
    private func finish(_ completion: HandlerCompletion) {
        guard let session else { return }
        session.handlerEnded(self, completion)
    }
}

/// What became of a message that was to be written without waiting.
@usableFromInline
package enum WriteResult: Sendable {
    case queued
    /// It is queued, and the writer is to wait until the peer has taken some.
    case queueIsFull
    /// The caller is not on the loop: nothing was done.
    case isElsewhere
}

/// How a handler ended.
enum HandlerCompletion: Sendable {
    case reply([UInt8])
    case done
    case failed(any Error)
}
