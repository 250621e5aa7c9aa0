package import ApusBase
internal import ApusEventLoop
internal import Synchronization

/// A call as its handler holds it: what came with the request, and the two directions of messages.
///
/// A handler may use it from any thread and keep it after the call has ended. What the loop keeps of a call is confined
/// to the loop: a caller that is on it reaches it directly, any other by way of the loop's queue.
@safe
package final class ServerCall: @unchecked Sendable {
    // Sendable, because: `hot` is touched on the loop alone, but for what `begin` sets, which is not written while a
    // handler can see it (a call object is used again only when nobody else holds it); the rest is atomic or locked.

    package let shard: ServerShard
    private let head: Confined<Head>
    let hot: Confined<Hot>

    /// What came with the request: written before the handler starts, and then read, from any thread. Apart from
    /// ``Hot``, so that no reader is in the way of the loop.
    private struct Head {
        var method: ServedMethodRef
        /// That method, if it was made for this call and nobody else keeps it.
        var madeMethod: ServedMethod?
        var peer: ConnectionPeer
        var metadata = Metadata()
        var authority: [UInt8] = []
        var encodings = CallEncodings()
        var deadline = MonotonicInstant.distantFuture
        /// The one request of a method that takes one, until the handler's task takes it.
        var request: [UInt8] = []
        /// Whether that came compressed.
        var requestIsCompressed = false
    }

    /// What the loop keeps of the call.
    struct Hot {
        var session: ServerSession?
        var stream: StreamHandle?
        /// Why the call ended, when it did so before its handler.
        var endError: RPCError?
        /// The worker whose task runs the handler, or the task itself when it runs elsewhere.
        var worker: HandlerWorker?
        var task: Task<Void, Never>?
        var reader = Reader.none
        var writers: [Suspension<Void>] = []
        var isReadElsewhere = false
        var inflatedBytes = 0
        /// The reply is being compressed, though the handler has returned.
        var repliesLater = false
        /// The next of the call objects that wait to be used again.
        var nextSpare: ServerCall?
    }

    // MARK: From any thread

    let over = Atomic<Bool>(false)
    /// Whether the handler has returned: nothing can be written any more.
    let hasReturned = Atomic<Bool>(false)
    let sendQueueIsFull = Atomic<Bool>(false)
    /// What was written on another thread and is on its way to the loop.
    let bytesUnderWay = Atomic<Int>(0)
    let messagesUnderWay = Lock(MessageQueue())
    let prefetched = Lock(MessageQueue())
    /// Whether the answer has something that the usual one has not: metadata, or an encoding.
    let hasResponseMetadata = Atomic<Bool>(false)
    /// See ``ResponseEncoding``.
    let responseEncoding = Atomic<UInt8>(ResponseEncoding.open)
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
        self.head = Confined(Head(method: method, peer: peer))
        self.hot = Confined(Hot())
    }

    deinit {
        head.destroy()
        hot.destroy()
    }

    var loop: EventLoop { shard.loop }

    /// Takes up a stream; on the loop, before the handler sees this object.
    @inline(__always)
    func begin(_ stream: StreamHandle, on session: ServerSession, method: ServedMethodRef) {
        hot.value.stream = stream
        hot.value.session = session
        head.value.method = method
        if head.value.peer !== session.peer { head.value.peer = session.peer }
        swap(&head.value.metadata, &stream.value.metadata)
        swap(&head.value.authority, &stream.value.authority)
        head.value.encodings = stream.value.encodings
        head.value.deadline = stream.value.deadline
    }

    @inline(__always)
    func takeNextSpare() -> ServerCall? { hot.value.nextSpare.take() }

    /// Forgets everything, so that another call can use the object; `next` is the one that waits for that behind it.
    @inline(__always)
    func recycle(next: consuming ServerCall?) {
        hot.value.nextSpare = next
        hot.value.session = nil
        hot.value.stream = nil
        if hasReturned.load(ordering: .relaxed) { hasReturned.store(false, ordering: .relaxed) }
        if hot.value.worker != nil { hot.value.worker = nil }
        if hot.value.task != nil { hot.value.task = nil }
        if head.value.madeMethod != nil { head.value.madeMethod = nil }
        if over.load(ordering: .relaxed) || hasResponseMetadata.load(ordering: .relaxed) || hot.value.isReadElsewhere {
            recycleWhatIsRare()
        }
        if responseEncoding.load(ordering: .relaxed) != ResponseEncoding.open {
            responseEncoding.store(ResponseEncoding.open, ordering: .relaxed)
        }
    }

    private func recycleWhatIsRare() {
        over.store(false, ordering: .relaxed)
        sendQueueIsFull.store(false, ordering: .relaxed)
        hot.value.endError = nil
        head.value.request = []
        head.value.requestIsCompressed = false
        hasResponseMetadata.store(false, ordering: .relaxed)
        responseMetadata.withLock { $0 = ResponseMetadata() }
        hot.value.isReadElsewhere = false
        prefetched.withLock { $0 = MessageQueue() }
    }

    var isWaitingToRead: Bool { if case .none = hot.value.reader { false } else { true } }

    // MARK: The loop's view

    @inline(__always)
    func withMethod<Result>(_ body: (ServedMethod) -> Result) -> Result { head.value.method.with(body) }

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

    /// Keeps a method alive that the router does not.
    func keep(_ madeMethod: ServedMethod) { head.value.madeMethod = madeMethod }

    /// What the head said of encodings.
    var encodings: CallEncodings { head.value.encodings }

    /// Whether the one request of a method that takes one came compressed.
    var requestIsCompressed: Bool {
        get { head.value.requestIsCompressed }
        set { head.value.requestIsCompressed = newValue }
    }

    /// What the session counts of a request that was inflated, until its handler returns.
    var inflatedBytes: Int {
        get { hot.value.inflatedBytes }
        set { hot.value.inflatedBytes = newValue }
    }

    var repliesLater: Bool {
        get { hot.value.repliesLater }
        set { hot.value.repliesLater = newValue }
    }

    /// The one request of a method that takes one.
    func setRequest(_ message: consuming [UInt8]) { head.value.request = message }

    func takeRequest() -> [UInt8] {
        var message: [UInt8] = []
        swap(&message, &head.value.request)
        return message
    }
}

// MARK: - For handlers, from any thread

extension ServerCall {
    /// The method called.
    package var method: ServedMethod { head.value.method.with { $0 } }

    /// The request's metadata.
    package var metadata: Metadata { head.value.metadata }

    package var authorityBytes: [UInt8] { head.value.authority }

    /// The other end of the connection.
    package var peer: ConnectionPeer { head.value.peer }

    /// Whether the call ended before its handler: the client cancelled, the deadline passed, the connection was lost.
    package var isOver: Bool { over.load(ordering: .acquiring) }

    /// How long the client still waits; `nil` when it set no deadline.
    package var timeRemaining: Duration? {
        let deadline = head.value.deadline
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

// MARK: - The end

extension ServerCall {
    /// On the loop: the handler is done, and what it left running can write no more.
    @inline(__always)
    func handlerReturned() { hasReturned.store(true, ordering: .releasing) }

    /// On the loop: a task that outlived the handler and waits to read or to write would wait for ever.
    @inline(__always)
    func letWaitersGo() {
        if isWaitingToRead { wakeReader() }
        if sendQueueIsFull.load(ordering: .relaxed) { sendQueueIsFull.store(false, ordering: .releasing) }
        if !hot.value.writers.isEmpty { wakeWriters() }
    }

    /// On the loop: the call ended while its handler runs. The handler's task is cancelled, and whatever it waits for
    /// in this call ends with `error`.
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
        if requestIsCompressed {
            if let error = await inflateRequest() { return deliver(.failed(error)) }
            // Or while it was inflated.
            if isOver { return deliver(.done) }
        }
        let context = CallContext(self)
        let handler = withMethod { $0.handler }
        do {
            switch handler {
            case .synchronousUnary(let handler):
                let reply = try handler(takeRequest(), context)
                if compresses { await deliver(encoding: reply) } else { deliver(.reply(reply)) }
            case .unary(let handler):
                let reply = try await handler(takeRequest(), context)
                if compresses { await deliver(encoding: reply) } else { deliver(.reply(reply)) }
            case .clientStreaming(let handler):
                let reply = try await handler(context)
                if compresses { await deliver(encoding: reply) } else { deliver(.reply(reply)) }
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

    func deliver(_ completion: HandlerCompletion) {
        if loop.isCurrent {
            finish(completion)
        } else {
            // What the stopped loop owned is gone with it, so there is nobody to tell.
            loop.execute { self.finish(completion) }
        }
    }

    /// On the loop: the handler returned.
    private func finish(_ completion: HandlerCompletion) {
        sendWhatIsUnderWay()
        guard let session else { return }
        session.handlerEnded(self, completion)
    }
}

/// How a handler ended.
enum HandlerCompletion: Sendable {
    case reply([UInt8])
    case encodedReply(EncodedReply)
    case done
    case failed(any Error)
}
