internal import ApusBase
internal import ApusEventLoop
internal import Logging

// Starting handlers, and what becomes of the call when they return.

extension ServerSession {
    /// Starts the handlers of the requests that the last read made ready, unless so much is queued for the peer that
    /// they have to wait until it has taken some of it.
    func startReadyCalls() {
        while hot.value.firstReady != nil {
            if isHeldUp { return dropReadyThatAreClosed() }
            guard let stream = popReady() else { return }
            if stream.value.isClosed {
                shard.streams.value.give(stream)
            } else if let method = stream.value.method, !stream.value.state.isDecided {
                start(stream, method)
            }
        }
    }

    @inline(__always)
    private func start(_ stream: StreamHandle, _ method: ServedMethodRef) {
        // The head was let in when there was room; those that came with it in the same read may have taken that.
        if hot.value.runningHandlers >= limits.maxHandlersPerConnection, !method.isSynchronous {
            _ = stream.value.state.sendStatus()
            return reset(stream.value.id, .refusedStream)
        }
        if let count = shard.runningHandlersInServer, let limit = limits.maxHandlers, !count.increment(upTo: limit) {
            let message = "the server runs \(limit) handlers already, which is its limit"
            return fail(stream, RPCError(code: .resourceExhausted, message: message))
        }
        let call = shard.takeCall(method, self)
        call.begin(stream, on: self, method: method)
        if stream.value.encodings.areUnusual, startEncoded(call, stream, method) { return }
        if method.isSynchronous {
            let request = stream.value.inbound.popFirst() ?? []
            releaseBuffer(of: stream)
            method.with { method in
                runSynchronously(call, request, method)
                noteIfSlow(method)
            }
            shard.giveCall(consume call)
        } else {
            if method.takesOneRequest {
                call.setRequest(stream.value.inbound.popFirst() ?? [])
                releaseBuffer(of: stream)
            } else if let made = stream.value.madeMethod {
                call.keep(made)
            }
            hot.value.runningHandlers += 1
            stream.value.call = call
            shard.start(call, method.with { $0.executor })
        }
    }

    @inline(__always)
    private func runSynchronously(_ call: ServerCall, _ request: [UInt8], _ method: ServedMethod) {
        guard let handler = method.synchronousHandler else { return }
        let stream = call.stream
        do {
            let message = try handler(request, CallContext(call))
            if let stream { reply(message, on: stream, call, method) }
        } catch {
            if let stream { fail(stream, describe(error, call), call.takeResponseMetadata()) }
        }
        call.stream = nil
        shard.runningHandlersInServer?.decrement()
    }

    @inline(__always)
    private func noteIfSlow(_ method: ServedMethod) {
        guard let duration = loop.checkStall() else { return }
        shard.reportSlowHandler(method.descriptor, duration)
    }

    /// An asynchronous handler returned.
    func handlerEnded(_ call: ServerCall, _ completion: HandlerCompletion) {
        hot.value.runningHandlers -= 1
        if call.inflatedBytes > 0 { releaseInflated(call) }
        call.handlerReturned()
        shard.runningHandlersInServer?.decrement()
        call.withMethod { complete(call, completion, $0) }
        call.letWaitersGo()
        if !call.repliesLater { call.session = nil }
    }

    /// Sends what the handler's end means, unless the call ended before.
    @inline(__always)
    private func complete(_ call: ServerCall, _ completion: HandlerCompletion, _ method: ServedMethod) {
        guard let stream = call.stream else { return }
        call.stream = nil
        stream.value.call = nil
        switch completion {
        case .reply(let message): reply(message, on: stream, call, method)
        case .encodedReply(let reply): self.reply(reply, on: stream, call, method)
        case .done: succeed(stream, call)
        case .failed(let error): fail(stream, describe(error, call), call.takeResponseMetadata())
        }
    }

    /// The status of what a handler threw.
    private func describe(_ error: any Error, _ call: ServerCall) -> RPCError {
        switch error {
        case var error as RPCError:
            if error.code == .ok { error.code = .unknown }
            return error
        case is CancellationError:
            return RPCError(code: .cancelled, message: "the handler was cancelled")
        default:
            logger.error(
                "a handler failed",
                metadata: ["method": "\(call.method.descriptor)", "error": "\(error)", "peer": "\(peer.address)"]
            )
            let message = limits.sendsErrorDescriptions ? "\(error)" : "the handler failed"
            return RPCError(code: .unknown, message: message, cause: error)
        }
    }
}

// MARK: - Deadlines

extension ServerSession: TimerHandler {
    /// A stream's deadline passed: its handler is cancelled, and the call ends with DEADLINE_EXCEEDED.
    ///
    /// The status goes out in trailers where they can go at once. A bare RST_STREAM CANCEL, which PROTOCOL-HTTP2.md
    /// would have, is CANCELLED to a client whose own timer is a moment behind; it is for streams whose data is stuck.
    func timerFired(tag: UInt64) {
        guard let streamID = Int32(exactly: tag), let context = context(of: streamID) else { return }
        let stream = StreamHandle(context)
        stream.value.timer = .none
        let isBlocked = stream.value.outbound.bytes > 0
        fail(stream, Self.deadlineExceeded)
        if isBlocked { reset(streamID, .cancel) }
        announceOutput()
    }
}

// MARK: - Credit: what the peer may send next

extension ServerSession {
    /// A handler took a message: the peer may send as much again.
    func messageTaken(_ stream: StreamHandle, bytes: Int) {
        let taken = min(bytes + MessageDeframer.prefixBytes, stream.value.heldBytes)
        stream.value.heldBytes -= taken
        let ahead = min(stream.value.creditedAhead, taken)
        stream.value.creditedAhead -= ahead
        credit(stream, taken - ahead)
        hot.value.heldMessages -= 1
        makeRoom(taken, by: stream)
    }

    /// A handler waits for a message, of which a part may be here.
    func readerWaits(_ stream: StreamHandle) {
        guard stream.value.deframer.isMidMessage, let method = stream.value.method else { return }
        method.with { creditMessageUnderWay(stream, $0) }
    }

    /// A message larger than the stream's window is credited as it comes, when somebody waits for it: else it would
    /// wait for itself. Over the connection's buffer limit one stream at a time may go on.
    func creditMessageUnderWay(_ stream: StreamHandle, _ method: ServedMethod) {
        if !method.takesOneRequest {
            guard stream.value.inbound.isEmpty, let call = stream.value.call, call.isWaitingToRead else { return }
        }
        if hot.value.bufferedBytes > limits.connectionBufferBytes, hot.value.firstInLine != stream {
            if hot.value.firstInLine == nil {
                hot.value.firstInLine = stream
            } else {
                if !stream.value.waitsForRoom { hot.value.waitingForRoom.append(stream) }
                stream.value.waitsForRoom = true
                return
            }
        }
        let uncredited = stream.value.heldBytes - stream.value.creditedAhead
        stream.value.creditedAhead += uncredited
        credit(stream, uncredited)
    }

    private func credit(_ stream: StreamHandle, _ bytes: Int) {
        guard bytes > 0, !stream.value.state.peerEnded else { return }
        creditStream(stream.value.id, bytes: bytes)
        announceOutput()
    }

    /// What the stream held is held no longer: its handler has it, or the stream is gone.
    @inline(__always)
    func releaseBuffer(of stream: StreamHandle) {
        if stream.value.heldBytes > 0 || stream.value.waitsForRoom { releaseHeldBuffer(of: stream) }
    }

    private func releaseHeldBuffer(of stream: StreamHandle) {
        let held = stream.value.heldBytes
        if let method = stream.value.method, !method.takesOneRequest {
            hot.value.heldMessages -= stream.value.inbound.count
        }
        stream.value.heldBytes = 0
        stream.value.creditedAhead = 0
        if stream.value.waitsForRoom {
            stream.value.waitsForRoom = false
            hot.value.waitingForRoom.removeAll { $0 == stream }
        }
        makeRoom(held, by: stream)
    }

    private func makeRoom(_ bytes: Int, by stream: StreamHandle) {
        if hot.value.firstInLine == stream { hot.value.firstInLine = nil }
        makeRoom(bytes)
    }

    func makeRoom(_ bytes: Int) {
        hot.value.bufferedBytes -= bytes
        while !hot.value.waitingForRoom.isEmpty,
            hot.value.firstInLine == nil || hot.value.bufferedBytes <= limits.connectionBufferBytes
        {
            let next = hot.value.waitingForRoom.removeFirst()
            next.value.waitsForRoom = false
            // Its message may have come whole meanwhile: then it is in nobody's way.
            if next.value.deframer.isMidMessage, let method = next.value.method {
                method.with { creditMessageUnderWay(next, $0) }
            }
        }
    }
}

// MARK: - Errors that the transport makes

extension ServerSession {
    static let deadlineExceeded = RPCError(code: .deadlineExceeded, message: "the deadline passed")

    static func wrongRequestCount(_ method: ServedMethod, isEmpty: Bool) -> RPCError {
        let what = isEmpty ? "no request message" : "more than one request message"
        return RPCError(code: .unimplemented, message: "\(method.descriptor) takes one request message and got \(what)")
    }

    static func error(for failure: MessageDeframer.Failure, _ method: ServedMethod) -> RPCError {
        switch failure {
        case .invalidFlag(let flag):
            RPCError(code: .internal, message: "a message of \(method.descriptor) has the flag byte \(flag)")
        case .compressedWithoutEncoding:
            RPCError(code: .internal, message: "a message is flagged as compressed and no encoding was declared")
        case .tooLarge(let bytes, let limit):
            RPCError(
                code: .resourceExhausted,
                message: "a request of \(bytes) bytes is over the limit of \(limit) of \(method.descriptor)"
            )
        }
    }
}
