package import ApusBase
internal import ApusEventLoop
internal import Synchronization

// Response messages, from handlers on any thread.

extension ServerCall {
    /// Queues a response message, and waits while more is queued than the server's high-water mark.
    ///
    /// - Throws: `RESOURCE_EXHAUSTED` when the message is too large; the call's end when it came before; `CANCELLED`
    ///   when the task was cancelled.
    package func write(_ message: [UInt8]) async throws(RPCError) {
        try await finishWriting(message, try writeNow(message))
    }

    /// Queues a response message as it is, whatever the encoding of the others, and waits like ``write(_:)``.
    package func writeUncompressed(_ message: [UInt8]) async throws(RPCError) {
        try checkSize(message)
        try await write(EncodedReply(message: message, isCompressed: false))
    }

    func finishWriting(_ message: [UInt8], _ result: WriteResult) async throws(RPCError) {
        switch result {
        case .queued: return
        case .queueIsFull: try await waitForRoom()
        case .isElsewhere: try await writeElsewhere(EncodedReply(message: message, isCompressed: false))
        case .isToBeCompressed: try await write(await encodeAnywhere(message))
        }
    }

    /// Queues a message that is in its final form.
    private func write(_ message: EncodedReply) async throws(RPCError) {
        guard loop.isCurrent else { return try await writeElsewhere(message) }
        sendWhatIsUnderWay()
        try send(message.message, isCompressed: message.isCompressed)
        try await waitForRoom()
    }

    private func checkSize(_ message: [UInt8]) throws(RPCError) {
        let maxBytes = withMethod { $0.maxResponseBytes }
        guard message.count <= maxBytes else { throw Self.tooLarge(message.count, method) }
    }

    /// Queues a message if the caller is on the loop.
    @inline(__always)
    func writeNow(_ message: [UInt8]) throws(RPCError) -> WriteResult {
        let maxBytes = withMethod { $0.maxResponseBytes }
        guard message.count <= maxBytes else { throw Self.tooLarge(message.count, method) }
        if compresses { return .isToBeCompressed }
        guard loop.isCurrent else { return .isElsewhere }
        sendWhatIsUnderWay()
        try send(message)
        return sendQueueIsFull.load(ordering: .relaxed) ? .queueIsFull : .queued
    }

    /// Waits on the loop until the peer has taken enough.
    func waitForRoom() async throws(RPCError) {
        while sendQueueIsFull.load(ordering: .relaxed) {
            if Task.isCancelled { throw isOver ? hot.value.endError ?? cancelled : cancelled }
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
            message:
                "a response of \(bytes) bytes is over the limit of \(method.maxResponseBytes) of \(method.descriptor)"
        )
    }

    private func writeElsewhere(_ encoded: EncodedReply) async throws(RPCError) {
        if hasReturned.load(ordering: .acquiring) { throw writtenTooLate }
        if isOver { throw await endErrorElsewhere() }
        if Task.isCancelled { throw cancelled }
        let bytes = encoded.message.count + MessageDeframer.prefixBytes
        let underWay = bytesUnderWay.add(bytes, ordering: .releasing).newValue
        let isFirst = messagesUnderWay.withLock { messages in
            defer { messages.append(encoded.message, isCompressed: encoded.isCompressed) }
            return messages.isEmpty
        }
        // Behind the first, the loop is on its way already.
        if isFirst, !loop.execute({ self.sendWhatIsUnderWay() }) { throw loopStopped }
        let limit = shard.limits.sendQueueBytesHigh
        if underWay > limit || sendQueueIsFull.load(ordering: .acquiring) {
            await waitToWriteElsewhere()
            if isOver { throw await endErrorElsewhere() }
            if Task.isCancelled { throw cancelled }
        }
    }

    /// On the loop: what was written on another thread goes ahead of what is written, or ended, here. An actor may take
    /// a handler from thread to thread between two writes.
    @inline(__always)
    func sendWhatIsUnderWay() {
        if bytesUnderWay.load(ordering: .acquiring) > 0 { sendMessagesUnderWay() }
    }

    private func sendMessagesUnderWay() {
        var messages = messagesUnderWay.withLock { messages in
            defer { messages = MessageQueue() }
            return messages
        }
        while let message = messages.popReceived() {
            bytesUnderWay.subtract(message.bytes.count + MessageDeframer.prefixBytes, ordering: .relaxed)
            // The writer learns of the call's end at its next write.
            try? send(message.bytes, isCompressed: message.wasCompressed)
        }
    }

    /// Waits for room by way of the loop's queue: for whoever is on another thread, or may be cancelled on its own.
    private func waitToWriteElsewhere() async {
        await withTaskCancellationHandler {
            await Suspension<Void>.wait { continuation in
                let queued = loop.execute {
                    let isFull = self.sendQueueIsFull.load(ordering: .relaxed)
                    if isFull, self.hot.value.stream != nil {
                        self.hot.value.writers.append(continuation)
                    } else {
                        continuation.resume()
                    }
                }
                if !queued { continuation.resume() }
                // A cancellation that came before this was queued has woken nobody.
                if queued, Task.isCancelled { loop.execute { self.wakeWriters() } }
            }
        } onCancel: {
            loop.execute { self.wakeWriters() }
        }
    }

    private var writtenTooLate: RPCError {
        RPCError(code: .internal, message: "a message was written to \(method.descriptor) after its handler returned")
    }

    private func endErrorElsewhere() async -> RPCError {
        await Suspension<RPCError>.wait { continuation in
            let queued = loop.execute { continuation.resume(returning: self.hot.value.endError ?? self.cancelled) }
            if !queued { continuation.resume(returning: loopStopped) }
        }
    }

    /// On the loop.
    private func send(_ message: [UInt8], isCompressed: Bool = false) throws(RPCError) {
        if let endError = hot.value.endError { throw endError }
        guard let stream, let session else { throw writtenTooLate }
        let queuedBytes = try session.send(message, isCompressed: isCompressed, on: stream, self)
        if queuedBytes > shard.limits.sendQueueBytesHigh { sendQueueIsFull.store(true, ordering: .releasing) }
    }

    /// On the loop: the queue is `queuedBytes` long after the peer took some of it.
    @inline(__always)
    func sendQueueDrained(to queuedBytes: Int) {
        guard sendQueueIsFull.load(ordering: .relaxed), queuedBytes <= shard.limits.sendQueueBytesLow else { return }
        sendQueueIsFull.store(false, ordering: .releasing)
        wakeWriters()
    }

    func wakeWriters() {
        let waiting = hot.value.writers
        hot.value.writers.removeAll()
        for continuation in waiting { continuation.resume() }
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
    /// Nothing was done: the message is to be compressed first.
    case isToBeCompressed
}
