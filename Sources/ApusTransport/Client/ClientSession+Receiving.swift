internal import ApusBase
internal import ApusEventLoop
internal import Logging

// What the server answers, as gRPC reads it (PROTOCOL-HTTP2.md, "Responses").

extension ClientSession {
    /// Ends a block of fields; `false` when it cannot be accepted, and the call has ended for it.
    @inline(__always)
    private func accept(_ fields: Confined<ResponseFields>, _ stream: ClientStreamHandle) -> Bool {
        fields.value.end()
        if fields.value.isSound { return true }
        refuse(fields, stream)
        return false
    }

    /// Fails the call of a block that cannot be accepted, of which nothing more is looked at.
    func refuse(_ fields: Confined<ResponseFields>, _ stream: ClientStreamHandle) {
        forgetFields()
        guard fields.value.isOverLimit else {
            let message = "a -bin metadata value of the response is not base64"
            return fail(stream, RPCError(code: .internal, message: message))
        }
        let message =
            "the response's header list of \(fields.value.listBytes) bytes and \(fields.value.fieldCount) fields is "
            + "over the limit of \(settings.maxHeaderListBytes) bytes and \(settings.maxHeaderFields) fields"
        fail(stream, RPCError(code: .resourceExhausted, message: message))
    }

    func readHead(_ stream: ClientStreamHandle, endStream: Bool) {
        if !hasAnswered { noteAnswer() }
        guard accept(head, stream) else { return }
        let httpStatus = head.value.httpStatus
        let isInformational = httpStatus >= 100 && httpStatus < 200
        switch stream.value.state.receiveHead(isInformational: isInformational, endStream: endStream) {
        case .drop, .skip: return
        case .trailersOnly: deliverEnd(stream, head, httpStatus: httpStatus, isTrailersOnly: true)
        case .head:
            guard head.value.contentTypeIsGRPC else { return fail(stream, Self.notGRPC(head)) }
            if httpStatus != 200 { stream.value.httpStatus = httpStatus }
            if !head.value.encoding.isEmpty { setEncoding(head.value.encoding, stream) }
            stream.value.call?.headReceived(head.value.metadata)
        }
    }

    private func setEncoding(_ name: [UInt8], _ stream: ClientStreamHandle) {
        if let index = channel.encodings.index(named: name.span) {
            stream.value.responseEncoding = index
        } else {
            stream.value.unknownEncoding = name
        }
    }

    func readBody(_ stream: ClientStreamHandle, _ bytes: Span<UInt8>) {
        guard stream.value.state.acceptsData, let call = stream.value.call else { return }
        stream.value.heldBytes += bytes.count
        let bytesMax = call.maxResponseBytes
        let encoding = stream.value.responseEncoding
        var position = 0
        while position < bytes.count {
            switch stream.value.deframer.next(
                in: bytes,
                position: &position,
                bytesMax: bytesMax,
                isEncoded: encoding != MessageEncodings.identity
            ) {
            case .message(let message):
                hot.value.tally.messagesReceived &+= 1
                call.messageReceived(message)
            case .compressed(let message):
                hot.value.tally.messagesReceived &+= 1
                call.messageReceived(message, encoding: encoding)
            case .needsMore: break
            case .failed(let failure): return fail(stream, Self.error(for: failure, stream, call))
            }
        }
        call.partReceived(isMidMessage: stream.value.deframer.isMidMessage)
    }

    func readTrailers(_ stream: ClientStreamHandle) {
        guard accept(trailers, stream), stream.value.state.receiveEnd() else { return }
        let httpStatus = stream.value.httpStatus == 0 ? 200 : stream.value.httpStatus
        deliverEnd(stream, trailers, httpStatus: httpStatus, isTrailersOnly: false)
    }

    /// The stream ended with DATA, where trailers should have been.
    func readEndWithoutTrailers(_ stream: ClientStreamHandle) {
        guard stream.value.state.receiveEnd() else { return }
        stream.value.outcome = .ended
        if stream.value.httpStatus != 0 {
            deliver(stream, .failed(Self.error(forHTTPStatus: stream.value.httpStatus, contentType: nil)))
        } else {
            deliver(
                stream,
                .failed(RPCError(code: .internal, message: "the response ended without trailers", origin: .peer))
            )
        }
    }

    /// The status has come, in trailers or in the only block that there is.
    private func deliverEnd(
        _ stream: ClientStreamHandle,
        _ fields: Confined<ResponseFields>,
        httpStatus: Int,
        isTrailersOnly: Bool
    ) {
        stream.value.outcome = .ended
        guard let call = stream.value.call else { return deliver(stream, CallEnd()) }
        if fields.value.status == .code(0), fields.value.contentTypeIsGRPC || !isTrailersOnly {
            if stream.value.deframer.isMidMessage {
                let message = "the response of \(call.method) ended in the middle of a message"
                return deliver(stream, .failed(RPCError(code: .internal, message: message, origin: .peer)))
            }
            stream.value.outcome = .succeeded
            return deliver(stream, CallEnd(error: nil, trailers: fields.value.metadata))
        }
        deliver(stream, .failed(Self.error(fields, httpStatus: httpStatus, isTrailersOnly: isTrailersOnly)))
    }

    /// Hands the call its end, and tells a server that still listens that there is no need to (RFC 9113 §8.1).
    private func deliver(_ stream: ClientStreamHandle, _ end: CallEnd) {
        if !stream.value.state.hasEnded {
            stream.value.state.abandon()
            reset(stream.value.id, .noError)
            announceOutput()
        }
        guard let call = stream.value.call else { return }
        stream.value.call = nil
        call.finish(end)
    }
}

// MARK: - Credit: what the server may send next

extension ClientSession {
    /// A reader took messages: the server may send as much again.
    func messagesTaken(_ stream: ClientStreamHandle, bytes: Int) {
        let taken = min(bytes, stream.value.heldBytes)
        stream.value.heldBytes -= taken
        let ahead = min(stream.value.creditedAhead, taken)
        stream.value.creditedAhead -= ahead
        credit(stream, taken - ahead)
    }

    /// Somebody waits for the message of which a part is here: a message larger than the stream's window would wait
    /// for itself.
    func creditMessageUnderWay(_ stream: ClientStreamHandle) {
        let uncredited = stream.value.heldBytes - stream.value.creditedAhead
        stream.value.creditedAhead += uncredited
        credit(stream, uncredited)
    }

    private func credit(_ stream: ClientStreamHandle, _ bytes: Int) {
        guard bytes > 0, stream.value.state.acceptsData else { return }
        creditStream(stream.value.id, bytes: bytes)
        announceOutput()
    }
}

// MARK: - Errors

extension ClientSession {
    private static func error(
        _ fields: Confined<ResponseFields>,
        httpStatus: Int,
        isTrailersOnly: Bool
    ) -> RPCError {
        if isTrailersOnly, !fields.value.contentTypeIsGRPC { return notGRPC(fields) }
        let message = PercentEncoding.decode(fields.value.message.span)
        switch fields.value.status {
        case .code(let value):
            let code = StatusCode(rawValue: value)
            let unknown = "the server sent status \(value), which gRPC does not know"
            return RPCError(
                code: code ?? .unknown,
                message: code == nil ? message.isEmpty ? unknown : "\(unknown): \(message)" : message,
                metadata: fields.value.metadata,
                origin: .peer
            )
        case .malformed:
            let message = "the server sent a grpc-status that is not a number"
            return RPCError(code: .unknown, message: message, metadata: fields.value.metadata, origin: .peer)
        case .missing:
            if httpStatus != 200 { return error(forHTTPStatus: httpStatus, contentType: nil) }
            let message = "the server sent no grpc-status"
            return RPCError(code: .unknown, message: message, metadata: fields.value.metadata, origin: .peer)
        }
    }

    private static func notGRPC(_ fields: Confined<ResponseFields>) -> RPCError {
        let contentType = String(decoding: fields.value.contentType, as: UTF8.self)
        return error(forHTTPStatus: fields.value.httpStatus, contentType: contentType)
    }

    /// gRPC's http-grpc-status-mapping.md.
    static func error(forHTTPStatus status: Int, contentType: String?) -> RPCError {
        let code: StatusCode =
            switch status {
            case 400: .internal
            case 401: .unauthenticated
            case 403: .permissionDenied
            case 404: .unimplemented
            case 429, 502, 503, 504: .unavailable
            default: .unknown
            }
        var message = "the server answered with HTTP status \(status)"
        if let contentType {
            message += contentType.isEmpty ? " and no content type" : " and content type \"\(contentType)\""
        }
        return RPCError(code: code, message: message, origin: .peer)
    }

    /// PROTOCOL-HTTP2.md, "Errors": what a stream that was reset means, by the server, or for what it sent.
    func error(for code: HTTP2ErrorCode, _ stream: ClientStreamHandle, _ call: ClientCall) -> RPCError {
        let status: StatusCode
        switch code {
        case .refusedStream: status = .unavailable
        case .cancel:
            if call.setup.value.deadline <= call.loop.now { return call.deadlineExceeded(nil) }
            status = .cancelled
        case .enhanceYourCalm: status = .resourceExhausted
        case .inadequateSecurity: status = .permissionDenied
        case .noError, .protocolError, .internalError, .flowControlError, .settingsTimeout, .frameSizeError,
            .compressionError, .connectError:
            status = .internal
        default: status = .unknown
        }
        // REFUSED_STREAM without a reset follows GOAWAY.
        if stream.value.wasResetByPeer || code == .refusedStream || code == .noError {
            return RPCError(code: status, message: "the stream was reset: \(code)", origin: .peer)
        }
        let why = diagnosis(of: stream.value.id).map { "\(code): \($0)" } ?? "\(code)"
        return RPCError(code: status, message: "the response breaks the rules of HTTP/2: \(why)", origin: .peer)
    }

    private static func error(
        for failure: MessageDeframer.Failure,
        _ stream: ClientStreamHandle,
        _ call: ClientCall
    ) -> RPCError {
        switch failure {
        case .invalidFlag(let flag):
            return RPCError(code: .internal, message: "a response of \(call.method) has the flag byte \(flag)")
        case .compressedWithoutEncoding:
            let name = String(decoding: stream.value.unknownEncoding, as: UTF8.self)
            let message =
                name.isEmpty
                ? "a response is flagged as compressed and no encoding was declared"
                : "the response's message encoding \"\(name)\" is not supported"
            return RPCError(code: .internal, message: message)
        case .tooLarge(let bytes, let limit):
            let message = "a response of \(bytes) bytes is over the limit of \(limit) of \(call.method)"
            return RPCError(code: .resourceExhausted, message: message)
        }
    }
}
