internal import ApusBase

// How much a connection holds, and what it has to wait with meanwhile.

extension ServerSession {
    /// The server is told what a connection holds in steps of this; what is less does not count.
    static let noteStepBytes = 64 * 1024
    /// What a message costs beside its bytes until it is taken: the array's header, and its place in the queue.
    static let heldMessageBytes = 48

    static let serverIsFull = RPCError(
        code: .resourceExhausted,
        message: "the server holds as many bytes of messages as it may"
    )

    /// Queues a response message.
    @inline(__always)
    func queue(_ message: consuming [UInt8], on stream: StreamHandle) {
        hot.value.queuedBytes += MessageDeframer.prefixBytes + message.count
        stream.value.outbound.append(message)
    }

    func queue(_ message: consuming [UInt8], isCompressed: Bool, on stream: StreamHandle) {
        hot.value.queuedBytes += MessageDeframer.prefixBytes + message.count
        stream.value.outbound.append(message, isCompressed: isCompressed)
    }

    /// A request was inflated, and its handler has it until it returns: a few bytes on the wire may be millions.
    ///
    /// - Returns: why the call cannot go on, when the server holds too much.
    func hold(inflated bytes: Int, _ call: ServerCall) -> RPCError? {
        call.inflatedBytes = bytes
        hot.value.bufferedBytes += bytes
        return hot.value.bufferedBytes > Self.noteStepBytes && isOverServersLimit() ? Self.serverIsFull : nil
    }

    func releaseInflated(_ call: ServerCall) {
        let bytes = call.inflatedBytes
        call.inflatedBytes = 0
        makeRoom(bytes)
    }

    /// Whether a connection that holds much takes part in holding too much.
    @inline(never)
    func isOverServersLimit() -> Bool {
        noteHeldBytes()
        return shard.heldBytesInServer.isOverLimit
    }

    /// Tells the server how much is held here, if that has changed by a step. Where much is held this happens before
    /// output is made, which is after each read; where little is, never.
    @inline(never)
    func noteHeldBytes() {
        let messages = hot.value.heldMessages * Self.heldMessageBytes
        let held = hot.value.bufferedBytes + hot.value.queuedBytes + messages
        let steps = held / Self.noteStepBytes * Self.noteStepBytes
        guard steps != hot.value.notedBytes, !hot.value.isTornDown else { return }
        shard.heldBytesInServer.add(steps - hot.value.notedBytes)
        hot.value.notedBytes = steps
    }

    /// The connection is gone.
    func forgetNotedBytes() {
        shard.heldBytesInServer.add(-hot.value.notedBytes)
        hot.value.notedBytes = 0
        hot.value.isTornDown = true
    }

    // MARK: Calls that wait

    /// Whether calls wait to start: the peer does not take the answers that it has.
    @inline(__always)
    var isHeldUp: Bool { hot.value.queuedBytes > Self.noteStepBytes && isHeldUpByMuch() }

    @inline(never)
    private func isHeldUpByMuch() -> Bool {
        hot.value.queuedBytes > limits.connectionSendBufferBytes || shard.heldBytesInServer.isOverLimit
    }

    /// A handler that was to start now has to wait.
    func hold(_ call: ServerCall) { hot.value.heldCalls.append(call) }

    /// The peer has taken some: calls that waited start. `false` when there are none, or they still have to wait.
    func startHeldCalls() -> Bool {
        guard hot.value.firstReady != nil || !hot.value.heldCalls.isEmpty, !isHeldUp else { return false }
        releaseHeldCalls()
        startReadyCalls()
        return true
    }

    func releaseHeldCalls() {
        guard !hot.value.heldCalls.isEmpty else { return }
        var calls: [ServerCall] = []
        swap(&calls, &hot.value.heldCalls)
        for call in calls { shard.start(call, call.withMethod { $0.executor }) }
    }

    /// A stream that is closed while it waits is kept until it is looked at: a peer must not have us collect them.
    func dropReadyThatAreClosed() {
        var next = hot.value.firstReady
        hot.value.firstReady = nil
        hot.value.lastReady = nil
        while let stream = next {
            next = stream.value.next
            stream.value.next = nil
            stream.value.isReady = false
            if stream.value.isClosed { shard.streams.value.give(stream) } else { makeReady(stream) }
        }
    }
}
