internal import ApusBase

/// What a client keeps for one stream, which is one attempt at a call, while its bytes flow. The call itself, which may
/// have more than one attempt, is ``ClientCall``.
struct ClientStream: OpenRecord {
    var id: Int32 = 0
    var state = ClientStreamState()
    /// The call that this is an attempt at; `nil` once it has its end.
    var call: ClientCall?
    var deframer = MessageDeframer()
    var outbound = OutboundQueue()
    /// The request's fields, when the channel does not keep them.
    var template: RequestTemplate?
    /// Body bytes that came and were not taken by the call's reader, in whole messages and the one under way.
    var heldBytes = 0
    /// How many of them were credited as they came: a message larger than the window must not wait for itself.
    var creditedAhead = 0
    /// `:status` of the head, and whether its content type is gRPC's.
    var httpStatus = 0
    /// The encoding of the response's messages, as the head has it, and its name when there is no codec for it.
    var responseEncoding = MessageEncodings.identity
    var unknownEncoding: [UInt8] = []
    /// nghttp2 was told "later": it has to be told when there is more.
    var isDeferred = false
    /// Has sent a frame and lets the connection's other streams send theirs.
    var hasHadItsTurn = false
    /// The request's head was sent: the server may have seen the call.
    var isOnTheWire = false
    /// RST_STREAM came: what closes the stream is not nghttp2's finding.
    var wasResetByPeer = false
    /// How the server ended the stream, for channelz.
    var outcome = Outcome.cut
    var next: ClientStreamHandle?
    /// The neighbours in the session's list of open streams.
    var nextOpen: ClientStreamHandle?
    var previousOpen: ClientStreamHandle?

    enum Outcome {
        /// It did not, so far or at all.
        case cut
        /// END_STREAM came.
        case ended
        /// END_STREAM came, and with it the status OK.
        case succeeded
    }

    init() {}

    /// As new. Field by field, because to drop what is not there costs a reference count all the same.
    @inline(__always)
    mutating func reset() {
        id = 0
        state = ClientStreamState()
        if call != nil { call = nil }
        if deframer.isMidMessage { deframer.reset() }
        if outbound.bytes > 0 { outbound.removeAll() }
        if template != nil { template = nil }
        heldBytes = 0
        creditedAhead = 0
        httpStatus = 0
        responseEncoding = MessageEncodings.identity
        if !unknownEncoding.isEmpty { unknownEncoding = [] }
        isDeferred = false
        hasHadItsTurn = false
        isOnTheWire = false
        wasResetByPeer = false
        outcome = .cut
        next = nil
        nextOpen = nil
        previousOpen = nil
    }
}

typealias ClientStreamHandle = RecordHandle<ClientStream>
typealias ClientStreamPool = RecordPool<ClientStream>
