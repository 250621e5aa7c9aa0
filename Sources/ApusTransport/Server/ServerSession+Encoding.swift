internal import ApusBase
internal import ApusEventLoop

// Calls with messages that are compressed: what differs from the usual way of a call, kept off it.

extension ServerSession {
    /// A call whose request may be compressed, or whose response is to be.
    ///
    /// A synchronous handler of such a call runs in a task, like an asynchronous one, so that large messages can leave
    /// the loop on both sides of it.
    ///
    /// - Returns: `false` when the call goes on as usual.
    @inline(never)
    func startEncoded(_ call: ServerCall, _ stream: StreamHandle, _ method: ServedMethodRef) -> Bool {
        let isCompressed = stream.value.inbound.isFirstCompressed
        if method.takesOneRequest { call.requestIsCompressed = isCompressed }
        call.chooseEncoding(stream.value.encodings.response)
        guard method.isSynchronous, isCompressed || call.compresses else { return false }
        if hot.value.runningHandlers >= limits.maxHandlersPerConnection {
            call.stream = nil
            shard.runningHandlersInServer?.decrement()
            _ = stream.value.state.sendStatus()
            reset(stream.value.id, .refusedStream)
            return true
        }
        call.setRequest(stream.value.inbound.popFirst() ?? [])
        releaseBuffer(of: stream)
        hot.value.runningHandlers += 1
        stream.value.call = call
        shard.start(call, .eventLoop)
        return true
    }

    /// Answers a call with a message that is compressed, or that was found not to be worth it.
    func reply(_ reply: EncodedReply, on stream: StreamHandle, _ call: ServerCall, _ method: ServedMethod) {
        if let metadata = call.takeResponseMetadata() {
            guard takeTrailers(metadata, stream) else { return }
        }
        sendHead(stream, call)
        guard case .sendMessage = stream.value.state.sendMessage() else { return }
        shareFairly(stream.value.id)
        queue(reply.message, isCompressed: reply.isCompressed, on: stream)
        _ = stream.value.state.sendStatus()
        resume(stream)
    }

    /// Compresses the reply of a handler whose call was found to be compressed when it had returned: of a synchronous
    /// one that chose so while it ran, or where another thread did at the last moment.
    @inline(never)
    func compressAndReply(
        _ message: consuming [UInt8],
        on stream: StreamHandle,
        _ call: ServerCall,
        _ method: ServedMethod
    ) {
        let message = message
        guard MessageEncodings.mustLeaveLoop(toCompress: message.count) else {
            return reply(call.encode(message), on: stream, call, method)
        }
        // Until its reply is compressed the call is like one whose handler still runs.
        hot.value.runningHandlers += 1
        _ = shard.runningHandlersInServer?.increment(upTo: .max)
        stream.value.call = call
        call.repliesLater = true
        let streamID = stream.value.id
        OffLoopThreads.submit {
            let reply = call.encode(message)
            call.loop.execute { call.session?.finish(call, reply, streamID) }
        }
    }

    /// A synchronous handler's call, which has let go of its stream, takes it up again, unless it ended.
    private func finish(_ call: ServerCall, _ reply: EncodedReply, _ streamID: Int32) {
        call.repliesLater = false
        if let context = context(of: streamID) {
            let stream = StreamHandle(context)
            if stream.value.call === call { call.stream = stream }
        }
        handlerEnded(call, .encodedReply(reply))
    }

    /// Adds what the head of a response says of encodings.
    ///
    /// What this server accepts is said to those alone who send messages compressed: nobody else needs it, and every
    /// answer would be longer for it (docs/decisions/0010-compression.md).
    func addEncodings(_ stream: StreamHandle, _ encoding: MessageEncodings.Index) {
        if encoding != MessageEncodings.identity {
            hot.value.fields.add("grpc-encoding", shard.encodings.name(encoding))
        }
        if stream.value.encodings.request != MessageEncodings.identity {
            hot.value.fields.add("grpc-accept-encoding", shard.encodings.acceptValue)
        }
    }
}

/// A reply as it goes out.
struct EncodedReply: Sendable {
    var message: [UInt8]
    var isCompressed: Bool
}
