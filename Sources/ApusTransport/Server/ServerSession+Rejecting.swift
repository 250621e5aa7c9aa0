internal import ApusBase

// Heads that no handler gets to see.

extension ServerSession {
    /// Why a head is refused, and with which HTTP status.
    struct Rejection {
        var status: StaticString = "200"
        var error: RPCError
        var allowsPostOnly = false
        var namesEncodings = false
    }

    func rejectionOfHead(_ flags: RequestHead.Flags) -> Rejection? {
        let head = hot.value.head
        if isOverLimit {
            forgetFields()
            let message =
                "the request's header list of \(head.listBytes) bytes and \(head.fieldCount) fields is over the limit "
                + "of \(settings.maxHeaderListBytes) bytes and \(settings.maxHeaderFields) fields"
            return Rejection(status: "431", error: RPCError(code: .resourceExhausted, message: message))
        }
        if !flags.contains(.isPost) {
            let error = RPCError(code: .internal, message: "gRPC calls are POST requests")
            return Rejection(status: "405", error: error, allowsPostOnly: true)
        }
        if !flags.contains(.isGRPC) {
            let type = String(decoding: head.contentType, as: UTF8.self)
            let error = RPCError(code: .invalidArgument, message: "the content type \"\(type)\" is not gRPC's")
            return Rejection(status: "415", error: error)
        }
        if flags.contains(.hasUnsupportedEncoding) {
            let name = String(decoding: head.encoding, as: UTF8.self)
            let error = RPCError(code: .unimplemented, message: "the message encoding \"\(name)\" is not supported")
            return Rejection(error: error, namesEncodings: true)
        }
        if flags.contains(.timeoutIsMalformed) {
            return Rejection(error: RPCError(code: .internal, message: "grpc-timeout is malformed"))
        }
        if flags.contains(.hasMalformedBinary) {
            return Rejection(error: RPCError(code: .internal, message: "a -bin metadata value is not base64"))
        }
        return nil
    }

    func reject(_ stream: StreamHandle, _ rejection: Rejection) {
        guard stream.value.state.sendStatus() != .tooLate else { return }
        stream.value.failure = rejection.error
        logger.debug(
            "refused a request",
            metadata: ["peer": "\(peer.address)", "cause": "\(rejection.error)"]
        )
        hot.value.fields.removeAll()
        hot.value.fields.add(":status", rejection.status)
        hot.value.fields.add("content-type", "application/grpc")
        if rejection.allowsPostOnly { hot.value.fields.add("allow", "POST") }
        if rejection.namesEncodings { hot.value.fields.add("grpc-accept-encoding", shard.encodings.acceptValue) }
        addStatus(rejection.error)
        hot.value.callFramesSent &+= 1
        submitResponseWithoutBody(stream.value.id, head: hot.value.fields)
        announceOutput()
    }
}
