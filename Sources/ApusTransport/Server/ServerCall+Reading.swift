package import ApusBase
internal import ApusEventLoop
internal import Synchronization

// Request messages, for handlers on any thread.

extension ServerCall {
    /// The next request message, if it is there and the caller on the loop.
    @inline(__always)
    func messageNow() -> [UInt8]? {
        guard loop.isCurrent, !hot.value.isReadElsewhere, hot.value.endError == nil, let stream = hot.value.stream,
            !stream.value.inbound.isFirstCompressed, let message = stream.value.inbound.popFirst()
        else { return nil }
        hot.value.session?.messageTaken(stream, bytes: message.count)
        return message
    }

    /// The next request message; `nil` after the last one.
    ///
    /// - Throws: the call's end, when it came before the client's; `CANCELLED` when the task was cancelled.
    package func nextMessage() async throws(RPCError) -> ReceivedBytes? {
        // `messageNow` comes first in the usual case, and needs no asynchronous frame.
        while loop.isCurrent {
            // What was fetched for another thread and not read there comes first.
            if hot.value.isReadElsewhere, let message = takePrefetched() { return try await inflated(message) }
            switch takeMessage() {
            case .message(let message):
                return message.wasCompressed ? try await inflated(message) : message
            case .end: return nil
            case .failed(let error): throw error
            case .nothingYet: try await waitToRead()
            }
        }
        return try await nextMessageElsewhere()
    }

    /// A message as the handler gets it, of one that is as it came.
    private func inflated(_ message: ReceivedBytes) async throws(RPCError) -> ReceivedBytes {
        guard message.wasCompressed else { return message }
        return ReceivedBytes(bytes: try await inflate(message.bytes), wasCompressed: true)
    }

    private func takePrefetched() -> ReceivedBytes? { prefetched.withLock { $0.popReceived() } }

    enum Taken {
        case message(ReceivedBytes)
        case nothingYet
        case end
        case failed(RPCError)
    }

    /// On the loop.
    func takeMessage() -> Taken {
        if let endError = hot.value.endError { return .failed(endError) }
        guard let stream, let session else { return .end }
        if let message = stream.value.inbound.popReceived() {
            session.messageTaken(stream, bytes: message.bytes.count)
            return .message(message)
        }
        return stream.value.state.acceptsData ? .nothingYet : .end
    }

    private func waitToRead() async throws(RPCError) {
        guard case .none = hot.value.reader else {
            throw RPCError(code: .internal, message: "two tasks read the requests of \(method.descriptor) at once")
        }
        if Task.isCancelled { throw cancelled }
        // Only the loop cancels the handler's own task, and wakes the reader when it does; any other task may be
        // cancelled by the application at any time, and needs the (costlier) handler.
        if let worker, worker.isRunning(on: loop) {
            await Suspension.wait { startToWait($0) }
        } else {
            await withTaskCancellationHandler {
                await Suspension.wait { startToWait($0) }
            } onCancel: {
                loop.execute { self.wakeReader() }
            }
        }
    }

    /// On the loop. In this order: a message is credited as it comes only if somebody waits for it.
    @inline(__always)
    private func startToWait(_ suspension: Suspension<Void>) {
        hot.value.reader = .onLoop(suspension)
        if let stream { session?.readerWaits(stream) }
    }

    private func nextMessageElsewhere() async throws(RPCError) -> ReceivedBytes? {
        if let message = takePrefetched() { return try await inflated(message) }
        if Task.isCancelled { throw cancelled }
        let batch = await withTaskCancellationHandler {
            await Suspension<Batch>.wait { continuation in
                let queued = loop.execute { self.giveBatch(to: continuation) }
                if !queued { continuation.resume(returning: .failed(self.loopStopped)) }
                // A cancellation that came before this was queued has cancelled nobody.
                if queued, Task.isCancelled { loop.execute { self.cancelReader() } }
            }
        } onCancel: {
            loop.execute { self.cancelReader() }
        }
        switch batch {
        case .end: return nil
        case .failed(let error): throw error
        case .messages(let messages):
            let first = prefetched.withLock {
                $0.append(contentsOf: messages)
                return $0.popReceived()
            }
            guard let first else { return nil }
            return try await inflated(first)
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
            case .message(let message): batch.append(message.bytes, isCompressed: message.wasCompressed)
            case .nothingYet: return .messages(batch)
            case .end: return batch.isEmpty ? .end : .messages(batch)
            case .failed(let error): return .failed(error)
            }
        }
    }

    var cancelled: RPCError {
        RPCError(code: .cancelled, message: "the task that reads or writes this call was cancelled")
    }

    var loopStopped: RPCError {
        RPCError(code: .unavailable, message: "the event loop of this call has stopped")
    }
}
