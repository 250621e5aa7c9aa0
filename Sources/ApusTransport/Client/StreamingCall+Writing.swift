package import ApusBase
internal import ApusEventLoop

// Request messages, from the application on any thread.

extension StreamingCall {
    /// Queues a request message, and waits while more is queued than the channel's high-water mark.
    ///
    /// - Throws: `RESOURCE_EXHAUSTED` when the message is too large, which leaves the call as it is; the call's error
    ///   when it has ended; `FAILED_PRECONDITION` after ``finishWriting()``, or when the server ended the call with OK;
    ///   `CANCELLED` when the task was cancelled, and with it the call.
    package func write(_ message: [UInt8]) async throws(RPCError) {
        try await finishWriting(message, try writeNow(message))
    }

    /// Does what is left of ``writeNow(_:)``.
    package func finishWriting(_ message: [UInt8], _ result: WriteResult) async throws(RPCError) {
        switch result {
        case .queued, .isElsewhere: return
        case .queueIsFull: try await waitForRoom()
        case .isToBeCompressed:
            let compressed = await channel.encodings.compressAnywhere(message, setup.value.requestEncoding)
            if try queue(compressed ?? message, isCompressed: compressed != nil) { try await waitForRoom() }
        }
    }

    /// Queues a request message as it is, whatever the encoding of the others, and waits like ``write(_:)``.
    package func writeUncompressed(_ message: [UInt8]) async throws(RPCError) {
        try checkSize(message)
        if try queue(message, isCompressed: false) { try await waitForRoom() }
    }

    package func writeBlocking(_ message: [UInt8], isCompressed: Bool = true) throws(RPCError) {
        try checkSize(message)
        let encoding = isCompressed ? setup.value.requestEncoding : MessageEncodings.identity
        let compressed = encoding == MessageEncodings.identity ? nil : channel.encodings.compress(message, encoding)
        guard try queue(compressed ?? message, isCompressed: compressed != nil) else { return }
        let limit = channel.limits.sendQueueBytesHigh
        while try isFull(limit) {
            waitBlocking {
                $0.queuedBytes <= limit || $0.end != nil
            } enrol: {
                $0.writers.append($1)
            }
        }
    }

    private enum Queued {
        /// The caller is on the loop, and hands the message over itself.
        case direct(isFull: Bool)
        case queued(isFirst: Bool, isFull: Bool)
        case refused(CallEnd?)
    }

    private func checkSize(_ message: [UInt8]) throws(RPCError) {
        guard message.count <= maxRequestBytes else { throw tooLarge(message.count) }
    }

    /// Queues a message, unless it is to be compressed, and says whether the writer has to wait before the next.
    @inline(__always)
    package func writeNow(_ message: [UInt8]) throws(RPCError) -> WriteResult {
        guard message.count <= maxRequestBytes else { throw tooLarge(message.count) }
        if setup.value.requestEncoding != MessageEncodings.identity { return .isToBeCompressed }
        return try queue(message, isCompressed: false) ? .queueIsFull : .queued
    }

    /// Queues a message in its final form, and says whether the writer has to wait before the next.
    @inline(__always)
    private func queue(_ message: [UInt8], isCompressed: Bool) throws(RPCError) -> Bool {
        let isOnLoop = loop.isCurrent
        let high = channel.limits.sendQueueBytesHigh
        let queued: Queued = shared.withLock { shared in
            if shared.end != nil || shared.isFinishing { return .refused(shared.end) }
            shared.queuedBytes += message.count + MessageDeframer.prefixBytes
            let isFull = shared.queuedBytes > high
            if isOnLoop, !shared.newsAreDue { return .direct(isFull: isFull) }
            let isFirst = !shared.newsAreDue
            shared.newsAreDue = true
            if isCompressed {
                shared.outbox.append(message, isCompressed: true)
            } else {
                shared.outbox.append(message)
            }
            return .queued(isFirst: isFirst, isFull: isFull)
        }
        switch queued {
        case .direct(let isFull):
            send(message, isCompressed: isCompressed)
            return isFull
        case .queued(let isFirst, let isFull):
            if isFirst { channel.announce(self) }
            return isFull
        case .refused(let end): throw refusal(end)
        }
    }

    /// Waits until the server has taken enough.
    package func waitForRoom() async throws(RPCError) {
        let limit = channel.limits.sendQueueBytesHigh
        while try isFull(limit) {
            await wait {
                $0.queuedBytes <= limit || $0.end != nil
            } enrol: {
                $0.writers.append($1)
            }
        }
    }

    private func isFull(_ limit: Int) throws(RPCError) -> Bool {
        let (end, isFull) = shared.withLock { ($0.end, $0.queuedBytes > limit) }
        if let error = end?.error { throw error }
        return isFull
    }

    /// The last message was written: the server learns that there are no more. Harmless when repeated.
    package func finishWriting() {
        let isOnLoop = loop.isCurrent
        let (isNew, isDirect) = shared.withLock { shared -> (Bool, Bool) in
            if shared.isFinishing || shared.isGivenUp || shared.end != nil { return (false, false) }
            shared.isFinishing = true
            if shared.newsAreDue { return (false, false) }
            shared.newsAreDue = !isOnLoop
            return (true, isOnLoop)
        }
        guard isNew else { return }
        if isDirect { finishOnLoop() } else { channel.announce(self) }
    }

    /// Before the call begins: the one request of a call that has one.
    func setOnlyRequest(_ message: [UInt8], compressed: [UInt8]? = nil) {
        outgoing.value.replay.append(compressed ?? message, isCompressed: compressed != nil)
        outgoing.value.isFinished = true
        shared.withLock { $0.isFinishing = true }
    }

    private func refusal(_ end: CallEnd?) -> RPCError {
        if let error = end?.error { return error }
        let message =
            end == nil
            ? "a request of \(method) was written after the last one"
            : "the server has ended \(method), with OK, and reads no more requests"
        return RPCError(code: .failedPrecondition, message: message)
    }

    private func tooLarge(_ bytes: Int) -> RPCError {
        let message = "a request of \(bytes) bytes is over the limit of \(maxRequestBytes) of \(method)"
        return RPCError(code: .resourceExhausted, message: message)
    }

    // MARK: On the loop

    func takeOutbox() {
        var (messages, isFinishing) = shared.withLock { shared in
            var messages = MessageQueue()
            swap(&messages, &shared.outbox)
            shared.newsAreDue = false
            return (messages, shared.isFinishing)
        }
        while true {
            let isCompressed = messages.isFirstCompressed
            guard let message = messages.popFirst() else { break }
            send(message, isCompressed: isCompressed)
        }
        if isFinishing { finishOnLoop() }
    }

    @inline(__always)
    private func send(_ message: [UInt8], isCompressed: Bool) {
        guard core.value.phase != .ended else { return }
        if !outgoing.value.isCommitted { keep(message, isCompressed: isCompressed) }
        guard let stream = core.value.stream, let session = core.value.session else { return }
        if isCompressed {
            stream.value.outbound.append(message, isCompressed: true)
        } else {
            stream.value.outbound.append(message)
        }
        session.resume(stream)
    }

    /// For another attempt; and for the first, when there is no stream yet.
    private func keep(_ message: [UInt8], isCompressed: Bool) {
        outgoing.value.replay.append(message, isCompressed: isCompressed)
        // A call that has not left yet can always be tried again, and needs its messages for that.
        guard let stream = core.value.stream, stream.value.isOnTheWire,
            outgoing.value.replay.bytes > channel.limits.replayBytesMax
        else { return }
        outgoing.value.isCommitted = true
        outgoing.value.replay.removeAll()
    }

    private func finishOnLoop() {
        guard core.value.phase != .ended, !outgoing.value.isFinished else { return }
        outgoing.value.isFinished = true
        guard let stream = core.value.stream, let session = core.value.session else { return }
        stream.value.state.finish()
        session.resume(stream)
    }

    func wakeWriters(after count: Int) {
        let low = channel.limits.sendQueueBytesLow
        let writers: [Waiter] = shared.withLock { shared in
            shared.queuedBytes = max(shared.queuedBytes - count, 0)
            guard shared.queuedBytes <= low, !shared.writers.isEmpty else { return [] }
            let writers = shared.writers
            shared.writers = []
            return writers
        }
        for writer in writers { writer.wake() }
    }
}
