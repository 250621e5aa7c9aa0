internal import ApusBase

// Answers: heads, messages, status and trailers.

extension ServerSession {
    /// From this size on a single answer takes turns with the connection's other streams; smaller ones fit in one
    /// frame.
    private static let fairShareBytesMin = 16 * 1024 - MessageDeframer.prefixBytes

    /// Answers a call with its one message and the status OK.
    @inline(__always)
    func reply(_ message: consuming [UInt8], on stream: StreamHandle, _ call: ServerCall, _ method: ServedMethod) {
        guard message.count <= method.maxResponseBytes else {
            return fail(stream, ServerCall.tooLarge(message.count, method), call.takeResponseMetadata())
        }
        if let metadata = call.takeResponseMetadata() {
            if call.compresses { return compressAndReply(message, on: stream, call, method) }
            guard takeTrailers(metadata, stream) else { return }
            sendHead(stream, call)
        }
        if message.count > Self.fairShareBytesMin { shareFairly(stream.value.id) }
        switch stream.value.state.sendMessage() {
        case .tooLate: return
        case .sendHeadThenMessage:
            queue(message, on: stream)
            _ = stream.value.state.sendStatus()
            submitUsualResponse(stream.value.id, stream.context)
            announceOutput()
        case .sendMessage:
            queue(message, on: stream)
            _ = stream.value.state.sendStatus()
            resume(stream)
        }
    }

    /// Ends a streaming call with the status OK.
    func succeed(_ stream: StreamHandle, _ call: ServerCall) {
        if let metadata = call.takeResponseMetadata() {
            guard takeTrailers(metadata, stream) else { return }
            if !metadata.initial.isEmpty { sendHead(stream, call) }
        }
        finish(stream)
    }

    /// Ends a call with an error. Its handler, if it still runs, is told.
    func fail(_ stream: StreamHandle, _ error: RPCError, _ metadata: ServerCall.ResponseMetadata? = nil) {
        if let call = stream.value.call {
            stream.value.call = nil
            call.end(error)
        }
        releaseBuffer(of: stream)
        stream.value.inbound.removeAll()
        stream.value.failure = error
        if let metadata {
            stream.value.failure?.metadata.add(contentsOf: metadata.trailing)
            if !metadata.initial.isEmpty, problem(with: metadata.initial) == nil {
                sendHead(stream, metadata.initial, MessageEncodings.identity)
            }
        }
        if let problem = stream.value.failure?.metadata.firstProblem {
            stream.value.failure?.metadata = Metadata()
            stream.value.failure?.message += " (its metadata was dropped: \(problem))"
        }
        finish(stream)
    }

    /// Queues a message of a streaming call.
    ///
    /// - Returns: how many bytes the stream has queued now.
    func send(
        _ message: [UInt8],
        isCompressed: Bool,
        on stream: StreamHandle,
        _ call: ServerCall
    ) throws(RPCError) -> Int {
        if stream.value.state.headIsDue {
            let initial = call.takeResponseMetadata()?.initial ?? Metadata()
            if let error = problem(with: initial) { throw error }
            sendHead(stream, initial, call.settleEncoding())
        }
        guard case .sendMessage = stream.value.state.sendMessage() else {
            throw RPCError(
                code: .internal,
                message: "a message was written to \(call.method.descriptor) after it had ended"
            )
        }
        queue(message, isCompressed: isCompressed, on: stream)
        resume(stream)
        return stream.value.outbound.bytes
    }

    /// Sends the head now, with the initial metadata that the handler set, unless it was sent.
    func sendHead(_ stream: StreamHandle, _ call: ServerCall) {
        let initial = call.takeResponseMetadata()?.initial ?? Metadata()
        if let error = problem(with: initial) { return fail(stream, error) }
        sendHead(stream, initial, call.settleEncoding())
    }

    private func sendHead(_ stream: StreamHandle, _ metadata: Metadata, _ encoding: MessageEncodings.Index) {
        guard stream.value.state.sendHead() else { return }
        submitHead(stream, metadata, encoding)
    }

    private func submitHead(_ stream: StreamHandle, _ metadata: Metadata, _ encoding: MessageEncodings.Index) {
        hot.value.callFramesSent &+= 1
        if let method = stream.value.method, method.with({ $0.streamsResponses }) { shareFairly(stream.value.id) }
        if metadata.isEmpty, encoding == MessageEncodings.identity, !stream.value.encodings.areUnusual {
            submitUsualResponse(stream.value.id, stream.context)
        } else {
            hot.value.fields.removeAll()
            hot.value.fields.add(":status", "200")
            hot.value.fields.add("content-type", "application/grpc")
            addEncodings(stream, encoding)
            hot.value.fields.add(metadata)
            submitResponse(stream.value.id, stream.context, head: hot.value.fields)
        }
        announceOutput()
    }

    /// Keeps the trailing metadata; metadata that cannot be sent fails the call.
    func takeTrailers(_ metadata: ServerCall.ResponseMetadata, _ stream: StreamHandle) -> Bool {
        if let error = problem(with: metadata.initial) ?? problem(with: metadata.trailing) {
            fail(stream, error)
            return false
        }
        stream.value.trailers = metadata.trailing
        return true
    }

    /// Why metadata that a handler set cannot be sent: HTTP/2 forbids it, or the peer does not take as much.
    private func problem(with metadata: Metadata) -> RPCError? {
        if metadata.isEmpty { return nil }
        if let problem = metadata.firstProblem {
            return RPCError(code: .internal, message: "the handler set metadata that cannot be sent: \(problem)")
        }
        guard let limit = peerMaxHeaderListBytes else { return nil }
        var fields = HeaderFields()
        fields.add(":status", "200")
        fields.add("content-type", "application/grpc")
        fields.add(metadata)
        if fields.listBytes <= limit { return nil }
        let message = "the handler set \(fields.listBytes) bytes of metadata, and the client takes \(limit)"
        return RPCError(code: .resourceExhausted, message: message)
    }

    /// Decides the status, which follows what is queued.
    private func finish(_ stream: StreamHandle) {
        switch stream.value.state.sendStatus() {
        case .tooLate: return
        case .sendTrailersOnly:
            hot.value.callFramesSent &+= 1
            hot.value.fields.removeAll()
            hot.value.fields.add(":status", "200")
            hot.value.fields.add("content-type", "application/grpc")
            addEncodings(stream, MessageEncodings.identity)
            addStatusAndTrailers(stream)
            submitResponseWithoutBody(stream.value.id, head: hot.value.fields)
            announceOutput()
        case .sendTrailers:
            // Nothing is queued and nghttp2 waits for data that will not come: no empty DATA frame is needed.
            if stream.value.isDeferred, stream.value.outbound.bytes == 0 {
                sendTrailers(stream)
                announceOutput()
            } else {
                resume(stream)
            }
        }
    }

    func resume(_ stream: StreamHandle) {
        if stream.value.isDeferred {
            stream.value.isDeferred = false
            resumeData(stream.value.id)
        }
        announceOutput()
    }

    func sendTrailers(_ stream: StreamHandle) {
        if stream.value.failure == nil, stream.value.trailers.isEmpty {
            submitUsualTrailers(stream.value.id)
        } else {
            hot.value.fields.removeAll()
            addStatusAndTrailers(stream)
            submitTrailers(stream.value.id, hot.value.fields)
        }
    }

    private func addStatusAndTrailers(_ stream: StreamHandle) {
        if let failure = stream.value.failure {
            addStatus(failure)
        } else {
            hot.value.fields.add("grpc-status", "0")
            hot.value.fields.add(stream.value.trailers)
        }
    }

    /// The most that a status message may take, whatever a peer says of itself: one field of 64 KiB is a connection
    /// error to nghttp2 (HPACK), and would end all other calls with this one. A message is for people to read.
    private static var messageFieldBytesMax: Int { 16 * 1024 }

    /// Adds status, message and metadata, in as many bytes as the peer takes: the message is shortened first, then the
    /// metadata left out.
    func addStatus(_ error: RPCError) {
        let messageOverhead = "grpc-message".utf8.count + 32
        hot.value.fields.add("grpc-status", Array("\(error.code.rawValue)".utf8))
        let message = PercentEncoding.encode(error.message)
        let room = min((peerMaxHeaderListBytes ?? .max) - hot.value.fields.listBytes, Self.messageFieldBytesMax)
        if message.count + messageOverhead <= room {
            hot.value.fields.add("grpc-message", message)
        } else if room > messageOverhead {
            hot.value.fields.add("grpc-message", PercentEncoding.truncate(message, to: room - messageOverhead))
        }
        guard !error.metadata.isEmpty else { return }
        var metadataFields = HeaderFields()
        metadataFields.add(error.metadata)
        if hot.value.fields.listBytes + metadataFields.listBytes <= peerMaxHeaderListBytes ?? .max {
            hot.value.fields.add(error.metadata)
        }
    }
}
