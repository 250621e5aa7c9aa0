package import ApusBase
internal import ApusEventLoop

/// A call of many messages, in one direction or both, as its two ends see it: the application, from any thread, and the
/// loop.
///
/// What they share is under one lock: response messages that wait for the reader, request messages on their way to the
/// loop, who waits for what, and the call's end. The loop takes it once for each part it has read or framed, the
/// application once for each message.
///
/// Flow control follows the reader: what is taken is credited to the stream in portions of a quarter of its window.
package final class StreamingCall: ClientCall, @unchecked Sendable {
    // Sendable, because `shared` is locked and `outgoing` is the loop's.

    struct Shared: Sendable {
        // From the loop.
        var inbound = MessageQueue()
        var head: Metadata?
        var end: CallEnd?
        /// A part of the next message is here.
        var isMidMessage = false
        /// That of the messages in `inbound` that are compressed.
        var responseEncoding = MessageEncodings.identity
        // From the application.
        var outbox = MessageQueue()
        /// No more messages will be written.
        var isFinishing = false
        /// The application has given the call up: what it does from then on must not look like the end of a request
        /// that is meant.
        var isGivenUp = false
        /// The loop knows that there is something in `outbox`, or its end.
        var newsAreDue = false
        /// Bytes taken and not yet credited.
        var uncredited = 0
        // From both: bytes written and not yet framed.
        var queuedBytes = 0
        // Who waits.
        var reader = Waiter.none
        var writers: [Waiter] = []
        /// For the head, or for the end.
        var observers: [Waiter] = []
    }

    let shared = Lock(Shared())

    /// What the loop keeps of the requests.
    struct Outgoing {
        /// Everything sent so far, for another attempt, until the call is bound to this one.
        var replay = MessageQueue()
        var isCommitted = false
        /// The last message was handed over.
        var isFinished = false
        /// Messages of the part that is being read.
        var part = MessageQueue()
    }

    let outgoing = Confined(Outgoing())

    deinit { outgoing.destroy() }

    /// How much is taken before it is credited.
    var creditPortion: Int { Int(channel.limits.http2.streamWindowBytes) / 4 }

    // MARK: Events of an attempt, on the loop

    override func attached(_ stream: ClientStreamHandle) {
        outgoing.value.replay.forEach { message, isCompressed in
            stream.value.outbound.append(message, isCompressed: isCompressed)
        }
        if outgoing.value.isFinished { stream.value.state.finish() }
        // An earlier attempt may have framed some of it.
        let queuedBytes = stream.value.outbound.bytes
        shared.withLock { shared in shared.queuedBytes = queuedBytes + shared.outbox.framedBytes }
    }

    override var mayBeRetried: Bool { !outgoing.value.isCommitted }

    override func headReceived(_ metadata: Metadata) {
        commit()
        let waiting = shared.withLock { shared in
            shared.head = metadata
            return Self.take(&shared.observers)
        }
        for waiter in waiting { waiter.wake() }
    }

    override func messageReceived(_ message: consuming [UInt8]) { outgoing.value.part.append(message) }

    override func messageReceived(_ message: consuming [UInt8], encoding: MessageEncodings.Index) {
        outgoing.value.part.append(message, isCompressed: true)
        shared.withLock { $0.responseEncoding = encoding }
    }

    override func partReceived(isMidMessage: Bool) {
        var part = MessageQueue()
        swap(&part, &outgoing.value.part)
        let reader: Waiter = shared.withLock { shared in
            shared.isMidMessage = isMidMessage
            if part.isEmpty { return .none }
            shared.inbound.append(contentsOf: part)
            return shared.reader.take()
        }
        if isMidMessage, !reader.isWaiting { creditForWaitingReader() }
        reader.wake()
    }

    override func ended(_ end: CallEnd) {
        commit()
        var part = MessageQueue()
        swap(&part, &outgoing.value.part)
        let waiting = shared.withLock { shared in
            // It has one already if a message could not be inflated.
            if shared.end == nil { shared.end = end }
            shared.inbound.append(contentsOf: part)
            if end.isUnwanted { shared.inbound.removeAll() }
            shared.outbox.removeAll()
            shared.queuedBytes = 0
            return [shared.reader.take()] + Self.take(&shared.writers) + Self.take(&shared.observers)
        }
        for waiter in waiting { waiter.wake() }
    }

    override func newsFromElsewhere() { takeOutbox() }

    override func givenUp() { shared.withLock { $0.isGivenUp = true } }

    override func bytesSent(_ count: Int) { wakeWriters(after: count) }

    private static func take(_ waiters: inout [Waiter]) -> [Waiter] {
        if waiters.isEmpty { return [] }
        let taken = waiters
        waiters = []
        return taken
    }

    /// The call is bound to its stream from here on (gRFC A6).
    private func commit() {
        if outgoing.value.isCommitted { return }
        outgoing.value.isCommitted = true
        outgoing.value.replay.removeAll()
    }

    // MARK: The head and the end, from any thread

    /// Whether the call has its end.
    package var hasEnded: Bool { shared.withLock { $0.end != nil } }

    /// The response's initial metadata; waits for it.
    ///
    /// - Throws: the call's error, when it ended without a head.
    package func initialMetadata() async throws(RPCError) -> Metadata {
        await wait { shared in
            shared.head != nil || shared.end != nil
        } enrol: {
            $0.observers.append($1)
        }
        return try headOrEnd()
    }

    package func initialMetadataBlocking() throws(RPCError) -> Metadata {
        waitBlocking { shared in
            shared.head != nil || shared.end != nil
        } enrol: {
            $0.observers.append($1)
        }
        return try headOrEnd()
    }

    private func headOrEnd() throws(RPCError) -> Metadata {
        let (head, end) = shared.withLock { ($0.head, $0.end) }
        if let head { return head }
        if let error = end?.error { throw error }
        return Metadata()
    }

    /// The trailing metadata; waits for the call's end.
    ///
    /// - Throws: the call's error, which has them too.
    package func trailers() async throws(RPCError) -> Metadata {
        while hasNoEnd {
            await wait {
                $0.end != nil
            } enrol: {
                $0.observers.append($1)
            }
        }
        return try trailersAtEnd()
    }

    package func trailersBlocking() throws(RPCError) -> Metadata {
        while hasNoEnd {
            waitBlocking {
                $0.end != nil
            } enrol: {
                $0.observers.append($1)
            }
        }
        return try trailersAtEnd()
    }

    private var hasNoEnd: Bool { !hasEnded }

    private func trailersAtEnd() throws(RPCError) -> Metadata {
        let end = shared.withLock { $0.end }
        if let error = end?.error { throw error }
        return end?.trailers ?? Metadata()
    }

    // MARK: Waiting

    /// Suspends the task until it is woken, unless what it waits for is there. A task that is cancelled meanwhile
    /// cancels the call, which wakes it.
    func wait(
        until isThere: @escaping @Sendable (borrowing Shared) -> Bool,
        enrol: @escaping @Sendable (inout Shared, Waiter) -> Void
    ) async {
        await withTaskCancellationHandler {
            await Suspension<Void>.wait { suspension in
                if !enlist(.task(suspension), until: isThere, enrol: enrol) { suspension.resume() }
            }
        } onCancel: {
            cancel()
        }
    }

    func waitBlocking(
        until isThere: @escaping @Sendable (borrowing Shared) -> Bool,
        enrol: @escaping @Sendable (inout Shared, Waiter) -> Void
    ) {
        let parker = ThreadParker()
        if enlist(.thread(parker), until: isThere, enrol: enrol) { parker.park() }
    }

    /// `false` when there is nothing to wait for.
    private func enlist(
        _ waiter: Waiter,
        until isThere: @escaping @Sendable (borrowing Shared) -> Bool,
        enrol: @escaping @Sendable (inout Shared, Waiter) -> Void
    ) -> Bool {
        shared.withLock { shared in
            if isThere(shared) { return false }
            enrol(&shared, waiter)
            return true
        }
    }
}
