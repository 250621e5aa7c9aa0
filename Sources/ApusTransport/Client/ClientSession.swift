internal import ApusBase
internal import ApusEventLoop
internal import Logging

/// The client's end of one HTTP/2 connection as gRPC sees it: calls become streams, what comes back becomes heads,
/// messages and a status. It does no I/O, and is confined to its channel's loop.
///
/// What is sent is in this file, what is received in `ClientSession+Receiving.swift`, and what holds it up, or is too
/// much, in `ClientSession+Limits.swift`.
final class ClientSession: HTTP2Session, TimerHandler {
    let channel: ClientChannel
    let address: SocketAddress
    weak var carrier: (any ClientSessionCarrier)?
    let hot = Confined(Hot())
    let head = Confined(ResponseFields())
    let trailers = Confined(ResponseFields())
    /// The one of the two that is being read.
    private(set) var block: Confined<ResponseFields>
    /// Whose block that is.
    private var blockStream: ClientStreamHandle?
    /// Whether a call was made on this connection, and whether the server has answered one.
    private(set) var hasOpened = false
    /// The carrier is to know of the next call.
    private var announcesOpening = true
    private(set) var hasAnswered = false
    private var growthTimer = EventLoop.TimerID.none
    /// What the server gave as its reason to close the connection.
    private(set) var goAway: String?
    private var wasToldToCalmDown = false
    /// What the server may send of frames that carry nothing.
    let frameBudget: Confined<FrameBudget>

    /// Of the ids that a connection has, how many are used before its calls go to a new one: three quarters of 2³¹.
    private static let streamIDsMax: UInt32 = 0x6000_0000
    /// How long at the most a slot stays empty after a refusal.
    private static let growthInterval = Duration.milliseconds(50)

    /// What every call touches.
    struct Hot {
        var open = OpenStreams<ClientStream>()
        var allowance = StreamAllowance(limit: 100)
        var outputIsAnnounced = false
        var isEstablished = false
        /// No more calls are to be opened here: GOAWAY came, or was sent.
        var isDraining = false
        /// Requests that were submitted and have not left.
        var unsentRequests = 0
        /// The socket is full: what is opened now would wait behind it.
        var isStalled = false
        /// The server's limit of streams may have changed.
        var limitIsNew = false
        /// HEADERS and DATA that left.
        var callFramesSent: UInt32 = 0
        /// Fields of the request being made; kept to be used again.
        var fields = HeaderFields()
        /// Streams that have more to send, and let others send first.
        var waitingForTurn: [Int32] = []
        var tally = Tally()
    }

    init(channel: ClientChannel, address: SocketAddress) throws(RPCError) {
        self.channel = channel
        self.address = address
        self.block = head
        self.frameBudget = Confined(FrameBudget(perSecond: channel.limits.emptyFramesPerSecond, now: channel.loop.now))
        try super.init(role: .client, settings: channel.limits.http2, memory: channel.http2Memory)
        if channel.limits.firstStreamID > 1 { skipStreamIDs(to: channel.limits.firstStreamID) }
    }

    deinit {
        head.destroy()
        trailers.destroy()
        hot.destroy()
        frameBudget.destroy()
    }

    var loop: EventLoop { channel.loop }
    var openStreams: Int { hot.value.open.count }

    // MARK: Opening streams

    /// Whether one more call may be opened here now.
    @inline(__always)
    var mayOpen: Bool {
        hot.value.open.count < hot.value.allowance.current && hot.value.unsentRequests < Self.unsentRequestsMax
            && !hot.value.isDraining && !hot.value.isStalled
    }

    enum Opening {
        case opened
        /// The ids of this connection are used up: it drains.
        case exhausted
        case failed(RPCError)
    }

    /// Opens a stream for a call.
    func open(_ call: ClientCall) -> Opening {
        let (template, templateIsKept) = channel.template(for: call)
        hot.value.fields.removeAll()
        if call.setup.value.deadline != .distantFuture {
            let remaining = call.setup.value.deadline.nanoseconds(since: loop.now)
            hot.value.fields.addUnindexed("grpc-timeout") { GRPCTimeout.encode(nanoseconds: remaining, to: &$0) }
        }
        if call.setup.value.requestEncoding != MessageEncodings.identity {
            addEncodings(call.setup.value.requestEncoding)
        }
        if !call.setup.value.options.metadata.isEmpty { hot.value.fields.add(call.setup.value.options.metadata) }
        let listBytes = template.listBytes + hot.value.fields.listBytes
        if let limit = peerMaxHeaderListBytes, listBytes > limit {
            let message = "the request's header list of \(listBytes) bytes is over the \(limit) that the server takes"
            return .failed(RPCError(code: .resourceExhausted, message: message))
        }
        let stream = channel.streams.value.take()
        guard let id = submitRequest(stream.context, template: template, fields: hot.value.fields) else {
            channel.streams.value.give(stream)
            drain()
            return .exhausted
        }
        stream.value.id = id
        stream.value.call = call
        if announcesOpening { announceOpening() }
        if !templateIsKept { stream.value.template = template }
        hot.value.open.insert(stream)
        hot.value.unsentRequests += 1
        call.opened(stream, on: self)
        announceOutput()
        if UInt32(truncatingIfNeeded: id) > Self.streamIDsMax { drain() }
        return .opened
    }

    /// The server answers calls.
    func noteAnswer() {
        hasAnswered = true
        channel.state.value.uselessConnections = 0
    }

    private func announceOpening() {
        announcesOpening = false
        hasOpened = true
        carrier?.sessionOpensCall()
    }

    /// Has the carrier told when the next call begins.
    func announceNextOpening() { announcesOpening = true }

    private func addEncodings(_ encoding: MessageEncodings.Index) {
        hot.value.fields.add("grpc-encoding", channel.encodings.name(encoding))
        // In the template already, if every call says so.
        if !channel.encodings.areAnnounced {
            hot.value.fields.add("grpc-accept-encoding", channel.encodings.acceptValue)
        }
    }

    /// Opens no more streams; the session is finished when those that there are have ended.
    func drain() {
        guard !hot.value.isDraining else { return }
        hot.value.isDraining = true
        refuseNewStreams()
        announceOutput()
        carrier?.sessionDrains()
    }

    private func giveBack(_ stream: ClientStreamHandle) {
        hot.value.open.remove(stream)
        if !stream.value.isOnTheWire { hot.value.unsentRequests -= 1 }
        let outcome = stream.value.outcome
        if outcome != .cut { hot.value.tally.streamsSucceeded &+= 1 }
        channel.attemptEnded(isSuccess: outcome == .succeeded)
        channel.streams.value.give(stream)
    }

    // MARK: The end of streams

    /// The call of this stream is over on this side.
    func abandon(_ stream: ClientStreamHandle) {
        stream.value.call = nil
        stream.value.state.abandon()
        // nghttp2 keeps what has not left until it would have. Of a request that has, DATA may be planned already.
        if !stream.value.isOnTheWire { stream.value.outbound.removeAll() }
        reset(stream.value.id, .cancel)
        announceOutput()
    }

    /// What the peer sent ends the call: it is told that the rest is of no use.
    func fail(_ stream: ClientStreamHandle, _ error: RPCError) {
        guard let call = stream.value.call else { return }
        abandon(stream)
        call.finish(.failed(error))
    }

    override func streamClosed(_ context: StreamContext, _ code: HTTP2ErrorCode) {
        let stream = ClientStreamHandle(context)
        if let call = stream.value.call {
            stream.value.call = nil
            let isUntouched = !stream.value.isOnTheWire
            // A server that has answered has not refused, whatever it says.
            let isRefused = code == .refusedStream && stream.value.state.awaitsHead
            let error = error(for: code, stream, call)
            giveBack(stream)
            if isUntouched { noteEnd() } else if isRefused { refused() }
            if isUntouched || isRefused {
                call.tryAgain(neverSent: isUntouched, error)
            } else {
                call.finish(.failed(error))
            }
        } else {
            giveBack(stream)
            hot.value.allowance.ended()
        }
        channel.streamEnded(on: self)
    }

    private func refused() {
        hot.value.allowance.refused(open: hot.value.open.count)
        if growthTimer == .none, hot.value.allowance.isReduced { scheduleGrowth() }
    }

    private func scheduleGrowth() {
        growthTimer = loop.schedule(at: loop.now.advanced(by: Self.growthInterval), handler: self)
    }

    /// The streams that are open may stay so for long: a slot that was refused is tried again.
    func timerFired(tag: UInt64) {
        growthTimer = .none
        hot.value.allowance.grow()
        if hot.value.allowance.isReduced { scheduleGrowth() }
        channel.streamEnded(on: self)
    }

    /// A session that nghttp2 is about to end, for something that the server did, takes no calls.
    private func noteEnd() {
        guard !hot.value.isDraining, !mayRequest else { return }
        hot.value.isDraining = true
        carrier?.sessionDrains()
    }

    /// The connection is gone: every call ends, or begins anew if it was never sent; the session is of no further use.
    func tearDown(cause: String) {
        close()
        loop.cancel(growthTimer)
        growthTimer = .none
        hot.value.isDraining = true
        while let stream = hot.value.open.first {
            let call = stream.value.call
            let isUntouched = !stream.value.isOnTheWire
            stream.value.call = nil
            giveBack(stream)
            guard let call else { continue }
            let reason = goAway.map { "\(cause), after GOAWAY \($0)" } ?? cause
            let error = RPCError(code: .unavailable, message: "the connection to \(address) was lost: \(reason)")
            if isUntouched { call.tryAgain(neverSent: true, error) } else { call.finish(.failed(error)) }
        }
    }

    /// Ends every call.
    func endCalls(_ error: RPCError) {
        var next = hot.value.open.first
        while let stream = next {
            next = stream.value.nextOpen
            stream.value.call?.abandon(error)
        }
    }

    /// Ends every stream, visibly for the server; their calls have been ended.
    func resetAll() {
        var next = hot.value.open.first
        while let stream = next {
            next = stream.value.nextOpen
            if !stream.value.state.isDecided { abandon(stream) }
        }
    }

    // MARK: What comes in; see `ClientSession+Receiving.swift`

    override func responseFieldsBegan(_ context: StreamContext) -> ResponseBlock {
        let stream = ClientStreamHandle(context)
        let isHead = stream.value.state.awaitsHead
        block = isHead ? head : trailers
        blockStream = stream
        return isHead ? .head : .trailers
    }

    override func fieldsBegan() { block.value.reset() }

    override func fieldReceived(name: Span<UInt8>, value: Span<UInt8>) {
        block.value.add(name: name, value: value, settings)
        guard block.value.isOverLimit, let stream = blockStream else { return }
        // What is only just over the limit is read to its end, so that the error can say how long it is.
        if settings.isFarOverLimit(listBytes: block.value.listBytes, fields: block.value.fieldCount) {
            refuse(block, stream)
        }
    }

    override func invalidFieldReceived(_ context: StreamContext) {
        forgetFields()
        let message = "the response has a header field with a byte that HTTP/2 forbids"
        fail(ClientStreamHandle(context), RPCError(code: .internal, message: message, origin: .peer))
    }

    override func headReceived(_ context: StreamContext, endStream: Bool) {
        readHead(ClientStreamHandle(context), endStream: endStream)
    }

    override func trailersReceived(_ context: StreamContext) { readTrailers(ClientStreamHandle(context)) }

    override func dataReceived(_ context: StreamContext, _ bytes: Span<UInt8>) {
        readBody(ClientStreamHandle(context), bytes)
    }

    override func endReceived(_ context: StreamContext) { readEndWithoutTrailers(ClientStreamHandle(context)) }

    override func settingsReceived() {
        hot.value.allowance.setLimit(peerMaxConcurrentStreams)
        if hot.value.isEstablished {
            hot.value.limitIsNew = true
        } else {
            hot.value.isEstablished = true
            carrier?.sessionEstablished()
        }
    }

    override func controlFrameReceived(_ kind: ControlFrame) {
        // A message that is credited as it is taken may have come in one frame with many others.
        let sent = hot.value.callFramesSent &+ UInt32(truncatingIfNeeded: hot.value.tally.messagesSent)
        if !frameBudget.value.take(now: loop.now, sent: sent) { cutOff(.emptyFrames) }
    }

    override func resetReceived(_ context: StreamContext?) {
        guard let context else { return controlFrameReceived(.other) }
        ClientStreamHandle(context).value.wasResetByPeer = true
    }

    override func goAwayReceived(_ code: HTTP2ErrorCode, lastStreamID: Int32, debugData: String) {
        goAway = debugData.isEmpty ? "\(code)" : "\(code): \(debugData)"
        if code == .enhanceYourCalm, !wasToldToCalmDown {
            wasToldToCalmDown = true
            carrier?.sessionWasToldToCalmDown(debugData)
        }
        sendCallsElsewhere()
    }

    /// No more calls are opened here: the server ends the connection, or did something for which we do.
    func sendCallsElsewhere() {
        guard !hot.value.isDraining else { return }
        hot.value.isDraining = true
        carrier?.sessionDrains()
        moveUnsentCalls()
    }

    /// Requests that nghttp2 still holds back would wait for streams of this connection to end: they go elsewhere.
    private func moveUnsentCalls() {
        var unsent: [ClientCall] = []
        var next = hot.value.open.first
        while let stream = next {
            next = stream.value.nextOpen
            guard !stream.value.isOnTheWire, let call = stream.value.call else { continue }
            unsent.append(call)
            abandon(stream)
        }
        // The list has the last one first.
        for call in unsent {
            call.tryAgain(neverSent: true, RPCError(code: .unavailable, message: "the server closes the connection"))
        }
    }

    // MARK: Output

    /// Lets the carrier know, once, that there is something to send.
    @inline(__always)
    func announceOutput() {
        if hot.value.outputIsAnnounced { return }
        hot.value.outputIsAnnounced = true
        carrier?.sessionHasOutput()
    }

    /// The carrier is about to ask for output.
    func willSend() {
        hot.value.outputIsAnnounced = false
        let now = loop.now
        noteOpened(now)
        hot.value.tally.messagesSentTime.batchBegins(hot.value.tally.messagesSent, now: now)
    }

    /// The server's next bytes are about to be read.
    func willReceive() {
        hot.value.tally.messagesReceivedTime.batchBegins(hot.value.tally.messagesReceived, now: loop.now)
    }

    /// There is more to send on a stream, or its end.
    @inline(__always)
    func resume(_ stream: ClientStreamHandle) {
        if stream.value.isDeferred {
            stream.value.isDeferred = false
            resumeData(stream.value.id)
        }
        announceOutput()
    }

    override func requestSent(_ context: StreamContext) {
        let stream = ClientStreamHandle(context)
        if stream.value.isOnTheWire { return }
        stream.value.isOnTheWire = true
        hot.value.unsentRequests -= 1
        hot.value.callFramesSent &+= 1
    }

    override func planData(_ context: StreamContext, bytesMax: Int) -> DataPlan {
        let stream = ClientStreamHandle(context)
        let queuedBytes = stream.value.outbound.bytes
        // A client cannot tell nghttp2 to share the connection fairly: it would send one stream's queue to its end
        // before the next. So a stream that has sent a frame stands back until all others had their turn.
        if stream.value.hasHadItsTurn, hot.value.open.count > 1 {
            stream.value.hasHadItsTurn = false
            stream.value.isDeferred = true
            hot.value.waitingForTurn.append(stream.value.id)
            return DataPlan(bytes: 0, ending: .later)
        }
        if queuedBytes > bytesMax {
            stream.value.hasHadItsTurn = true
            return DataPlan(bytes: bytesMax, ending: .more)
        }
        if stream.value.state.isFinishing {
            stream.value.state.endSent()
            return DataPlan(bytes: queuedBytes, ending: .stream)
        }
        if queuedBytes == 0 { stream.value.isDeferred = true }
        return DataPlan(bytes: queuedBytes, ending: .later)
    }

    override func copyData(_ context: StreamContext, into target: UnsafeMutableRawBufferPointer) {
        // SAFETY: `target` is the caller's for the length of this call.
        let stream = ClientStreamHandle(context)
        let count = target.count
        hot.value.callFramesSent &+= 1
        hot.value.tally.messagesSent &+= unsafe stream.value.outbound.move(to: target)
        stream.value.call?.bytesSent(count)
    }

    /// All streams had their turn: those that stood back go on. `false` when there is none.
    func nextTurn() -> Bool {
        if hot.value.waitingForTurn.isEmpty { return false }
        var waiting: [Int32] = []
        swap(&waiting, &hot.value.waitingForTurn)
        for streamID in waiting {
            guard let context = context(of: streamID) else { continue }
            let stream = ClientStreamHandle(context)
            if stream.value.isDeferred {
                stream.value.isDeferred = false
                resumeData(streamID)
            }
        }
        return true
    }

    override func headersNotSent(_ context: StreamContext, reason: String) {
        let stream = ClientStreamHandle(context)
        // Of a session that is about to end the calls go elsewhere (`streamClosed`).
        guard mayRequest, let call = stream.value.call else { return }
        stream.value.call = nil
        stream.value.state.abandon()
        call.finish(
            .failed(RPCError(code: .resourceExhausted, message: "the request's head could not be sent: \(reason)"))
        )
    }
}

/// Who carries a client session's bytes.
protocol ClientSessionCarrier: AnyObject {
    /// The session has something to send; called once until ``ClientSession/willSend()``.
    func sessionHasOutput()
    /// The peer's first SETTINGS arrived: the connection is of use.
    func sessionEstablished()
    /// A call begins; said of the first one, and again when ``ClientSession/announceNextOpening()`` asked for it.
    func sessionOpensCall()
    /// The server ends the connection with ENHANCE_YOUR_CALM.
    func sessionWasToldToCalmDown(_ debugData: String)
    /// No more calls are to be opened on the session.
    func sessionDrains()
}
