internal import ApusBase
internal import ApusEventLoop
internal import Logging

/// Who carries a session's bytes.
protocol SessionCarrier: AnyObject {
    /// The session has something to send; called once until ``ServerSession/willSend()``.
    func sessionHasOutput()
    /// The peer acknowledged our PING.
    func sessionPingAcknowledged()
    /// The peer's first SETTINGS arrived: the handshake is over.
    func sessionEstablished()
}

/// The server's end of one HTTP/2 connection as gRPC sees it: heads become calls, DATA becomes messages, what handlers
/// answer becomes frames. It does no I/O, and is confined to its shard's loop.
///
/// What comes in is in this file; `ServerSession+Calls.swift` runs handlers, `ServerSession+Sending.swift` answers.
final class ServerSession: HTTP2Session {
    let shard: ServerShard
    let peer: ConnectionPeer
    weak var carrier: (any SessionCarrier)?
    let hot: Confined<Hot>
    private var budgets: PeerBudgets

    /// What every request touches.
    struct Hot {
        /// Handlers that run for this connection, streams that were reset meanwhile included.
        var runningHandlers = 0
        var open = OpenStreams<ServerStream>()
        /// Streams whose handler is to start.
        var firstReady: StreamHandle?
        var lastReady: StreamHandle?
        /// Calls whose handler was to start when the peer had taken so little that it has to wait.
        var heldCalls: [ServerCall] = []
        /// Request bytes held for handlers, whole messages and parts.
        var bufferedBytes = 0
        /// Messages that streaming handlers have not taken.
        var heldMessages = 0
        /// Response bytes queued on all streams.
        var queuedBytes = 0
        /// What the server was told of all these.
        var notedBytes = 0
        /// DATA frames that were sent, and heads of their own: by these a client's control frames are measured.
        var callFramesSent: UInt32 = 0
        var youngStreams = YoungStreams()
        /// Streams whose large message waits until `bufferedBytes` is down, and the one that need not wait.
        var waitingForRoom: [StreamHandle] = []
        var firstInLine: StreamHandle?
        var head: RequestHead
        /// The method that the head's path named last.
        var recentMethod: ServedMethodRef?
        /// That method, if the fallback made it for the path.
        var madeMethod: ServedMethod?
        /// Fields of the answer being made; kept to be used again.
        var fields = HeaderFields()
        var outputIsAnnounced = false
        var isEstablished = false
        /// When the last call ended.
        var idleSince: MonotonicInstant
        var missingTrailersAreNoted = false
        var isTornDown = false
        var tally = Tally()
    }

    init(shard: ServerShard, peer: ConnectionPeer) throws(RPCError) {
        self.shard = shard
        self.peer = peer
        budgets = PeerBudgets(shard.limits, now: shard.loop.now)
        hot = Confined(Hot(head: RequestHead(shard.encodings), idleSince: shard.loop.now))
        try super.init(role: .server, settings: shard.limits.http2, memory: shard.http2Memory)
    }

    deinit { hot.destroy() }

    var openStreams: Int { hot.value.open.count }
    /// When the last call ended, for a connection that has none.
    var idleSince: MonotonicInstant { hot.value.idleSince }
    var loop: EventLoop { shard.loop }
    var limits: ServerLimits { shard.limits }
    var logger: Logger { shard.logger }

    // MARK: The head of a request

    override func requestBegan(_ streamID: Int32) -> StreamContext? {
        guard hot.value.runningHandlers < shard.limits.maxHandlersPerConnection,
            hot.value.open.count < Int(settings.maxConcurrentStreams)
        else { return refuseRequest() }
        shard.noteCallStarted()
        let stream = shard.streams.value.take()
        stream.value.id = streamID
        hot.value.open.insert(stream)
        return stream.context
    }

    private func refuseRequest() -> StreamContext? {
        hot.value.tally.streamsRefused += 1
        shard.noteCallStarted()
        shard.noteCallEnded(isSuccess: false)
        return nil
    }

    override func fieldsBegan() { hot.value.head.reset() }

    override func fieldChanged(value: Span<UInt8>, oldValueBytes: Int) {
        hot.value.head.changeTimeout(value, oldValueBytes: oldValueBytes)
    }

    override func fieldReceived(name: Span<UInt8>, value: Span<UInt8>) {
        hot.value.head.count(name: name, value: value)
        if !isOverLimit { return hot.value.head.add(name: name, value: value) }
        if settings.isFarOverLimit(listBytes: hot.value.head.listBytes, fields: hot.value.head.fieldCount) {
            abandonHead()
        }
    }

    override func unreadBlockIsTooLarge() { note(budgets.streamBrokeRules(now: loop.now)) }

    private func abandonHead() {
        // The last stream that was opened is the one whose head is read.
        guard let stream = hot.value.open.first else { return }
        _ = stream.value.state.sendStatus()
        abandonBlock(stream.value.id, .enhanceYourCalm)
        note(budgets.streamBrokeRules(now: loop.now))
    }

    @inline(__always)
    var isOverLimit: Bool {
        hot.value.head.listBytes > settings.maxHeaderListBytes || hot.value.head.fieldCount > settings.maxHeaderFields
    }

    override func invalidFieldReceived(_ context: StreamContext) {
        let stream = StreamHandle(context)
        _ = stream.value.state.sendStatus()
        reset(stream.value.id, .protocolError)
        forgetFields()
    }

    override func headReceived(_ context: StreamContext, endStream: Bool) {
        let stream = StreamHandle(context)
        guard !stream.value.state.isDecided else { return }
        if endStream { stream.value.state.receiveEnd() }
        // The usual: a POST of gRPC's type, and nothing odd about it.
        let flags = hot.value.head.flags
        if isOverLimit || flags.intersection(RequestHead.Flags.decisive) != RequestHead.Flags.usual {
            if let rejection = rejectionOfHead(flags) { return reject(stream, rejection) }
        }
        guard let method = findMethod() else {
            let path = String(decoding: hot.value.head.path, as: UTF8.self)
            let error = RPCError(code: .unimplemented, message: shard.router.explainMissing(path))
            return reject(stream, Rejection(error: error))
        }
        stream.value.method = method
        if let made = hot.value.madeMethod { stream.value.madeMethod = made }
        hot.value.head.end()
        stream.value.encodings = hot.value.head.encodings
        if !flags.contains(.acceptsTrailers) { noteMissingTrailers() }
        // A record that is used again often holds these very buffers: then no reference needs to be counted.
        if !stream.value.metadata.isSameBuffer(as: hot.value.head.metadata) {
            stream.value.metadata = hot.value.head.metadata
        }
        if !stream.value.authority.isSameBuffer(as: hot.value.head.authority) {
            stream.value.authority = hot.value.head.authority
        }
        if let timeout = hot.value.head.timeout, !setDeadline(stream, timeout) { return }
        if !method.takesOneRequest {
            makeReady(stream)
        } else if endStream {
            method.with { fail(stream, Self.wrongRequestCount($0, isEmpty: true)) }
        }
    }

    /// A proxy that does not pass `te: trailers` on may not pass trailers on either (PROTOCOL-HTTP2.md, "Requests").
    private func noteMissingTrailers() {
        guard !hot.value.missingTrailersAreNoted else { return }
        hot.value.missingTrailersAreNoted = true
        shard.faultLog.log(.info, "requests come without \"te: trailers\"", ["peer": "\(peer.address)"])
    }

    /// The method of `:path`; looked up only when it is not the last head's.
    @inline(__always)
    private func findMethod() -> ServedMethodRef? {
        if hot.value.head.pathIsNew {
            let path = hot.value.head.path
            hot.value.recentMethod = shard.router.find(path.span).map { ServedMethodRef($0) }
            if hot.value.recentMethod == nil || hot.value.madeMethod != nil { fallBack(path) }
            hot.value.head.pathWasLookedUp()
        }
        return hot.value.recentMethod
    }

    /// Of a path that is not in the table the fallback makes a method, which its streams and calls keep alive.
    private func fallBack(_ path: [UInt8]) {
        hot.value.madeMethod = nil
        guard hot.value.recentMethod == nil, let made = shard.router.fallback?.method(for: path.span) else { return }
        hot.value.madeMethod = made
        hot.value.recentMethod = ServedMethodRef(made)
    }

    /// Starts the deadline; `false` when it has passed already.
    private func setDeadline(_ stream: StreamHandle, _ timeout: Int64) -> Bool {
        guard timeout > 0 else {
            fail(stream, Self.deadlineExceeded)
            return false
        }
        let deadline = loop.now.advanced(byNanoseconds: timeout)
        stream.value.deadline = deadline
        stream.value.timer = loop.schedule(at: deadline, handler: self, tag: UInt64(stream.value.id))
        return true
    }

    // MARK: The body of a request

    override func dataReceived(_ context: StreamContext, _ bytes: Span<UInt8>) {
        let stream = StreamHandle(context)
        guard stream.value.state.acceptsData, let method = stream.value.method else { return }
        method.with { receive(bytes, on: stream, of: $0) }
    }

    @inline(__always)
    private func receive(_ bytes: Span<UInt8>, on stream: StreamHandle, of method: ServedMethod) {
        stream.value.heldBytes += bytes.count
        hot.value.bufferedBytes += bytes.count
        let isEncoded = stream.value.encodings.request != MessageEncodings.identity
        var position = 0
        var hasNews = false
        while position < bytes.count {
            switch stream.value.deframer.next(
                in: bytes,
                position: &position,
                bytesMax: method.maxRequestBytes,
                isEncoded: isEncoded
            ) {
            case .message(let message):
                guard mayTakeMessage(stream, method) else { return }
                stream.value.inbound.append(message)
                hot.value.tally.messagesReceived &+= 1
                hasNews = true
            case .compressed(let message):
                guard mayTakeMessage(stream, method) else { return }
                stream.value.inbound.append(message, isCompressed: true)
                hot.value.tally.messagesReceived &+= 1
                hasNews = true
            case .needsMore: break
            case .failed(let failure): return fail(stream, Self.error(for: failure, method))
            }
        }
        if hot.value.bufferedBytes > Self.noteStepBytes, isOverServersLimit() {
            return fail(stream, Self.serverIsFull)
        }
        if stream.value.deframer.isMidMessage { creditMessageUnderWay(stream, method) }
        if hasNews, let call = stream.value.call { call.wakeReader() }
    }

    /// Counts a message that is whole, or fails the call that has one too many.
    @inline(__always)
    private func mayTakeMessage(_ stream: StreamHandle, _ method: ServedMethod) -> Bool {
        if !method.takesOneRequest {
            hot.value.heldMessages += 1
        } else if !stream.value.inbound.isEmpty {
            fail(stream, Self.wrongRequestCount(method, isEmpty: false))
            return false
        }
        return true
    }

    override func endReceived(_ context: StreamContext) { endOfRequest(StreamHandle(context)) }

    override func trailersReceived(_ context: StreamContext) { endOfRequest(StreamHandle(context)) }

    private func endOfRequest(_ stream: StreamHandle) {
        let accepted = stream.value.state.acceptsData
        stream.value.state.receiveEnd()
        guard accepted, let method = stream.value.method else { return }
        method.with { method in
            if stream.value.deframer.isMidMessage {
                let message = "the request ended in the middle of a message"
                return fail(stream, RPCError(code: .internal, message: message))
            }
            if !method.takesOneRequest {
                stream.value.call?.wakeReader()
            } else if stream.value.inbound.isEmpty {
                fail(stream, Self.wrongRequestCount(method, isEmpty: true))
            } else {
                makeReady(stream)
            }
        }
    }

    // MARK: The end of a stream

    override func streamClosed(_ context: StreamContext, _ code: HTTP2ErrorCode) {
        let stream = StreamHandle(context)
        if let call = stream.value.call {
            let error = RPCError(code: .cancelled, message: "the client ended the call: \(code)", origin: .peer)
            stream.value.call = nil
            call.end(error)
        }
        giveBack(stream)
    }

    /// The connection is gone: every call ends, and the session is of no further use.
    func tearDown(cause: String) {
        close()
        while let stream = popReady() {
            if stream.value.isClosed { shard.streams.value.give(stream) }
        }
        while let stream = hot.value.open.first {
            if let call = stream.value.call {
                stream.value.call = nil
                call.end(RPCError(code: .cancelled, message: "the connection to \(peer.address) ended: \(cause)"))
            }
            giveBack(stream)
        }
        forgetNotedBytes()
        // Their calls are over, and the handlers need not start: who counts them has to know.
        releaseHeldCalls()
    }

    /// Ends every call, visibly for the client.
    func resetAll() {
        var next = hot.value.open.first
        while let stream = next {
            next = stream.value.nextOpen
            if let call = stream.value.call {
                stream.value.call = nil
                call.end(RPCError(code: .cancelled, message: "the server stopped"))
            }
            reset(stream.value.id, .cancel)
        }
    }

    private func giveBack(_ stream: StreamHandle) {
        hot.value.open.remove(stream)
        let hasSentEnd = stream.value.state.hasSentEnd
        if hasSentEnd { hot.value.tally.streamsSucceeded &+= 1 }
        shard.noteCallEnded(isSuccess: hasSentEnd && stream.value.failure == nil)
        if hot.value.open.count == 0 { hot.value.idleSince = loop.now }
        if stream.value.outbound.bytes > 0 { hot.value.queuedBytes -= stream.value.outbound.bytes }
        if stream.value.timer != .none { loop.cancel(stream.value.timer) }
        releaseBuffer(of: stream)
        if stream.value.isReady {
            stream.value.isClosed = true
        } else {
            shard.streams.value.give(stream)
        }
    }

    // MARK: Streams whose handler is to start

    /// Handlers start when nghttp2 has returned, so that what they do cannot disturb it.
    func makeReady(_ stream: StreamHandle) {
        stream.value.isReady = true
        if let last = hot.value.lastReady { last.value.next = stream } else { hot.value.firstReady = stream }
        hot.value.lastReady = stream
    }

    func popReady() -> StreamHandle? {
        guard let stream = hot.value.firstReady else { return nil }
        hot.value.firstReady = stream.value.next
        if hot.value.firstReady == nil { hot.value.lastReady = nil }
        stream.value.next = nil
        stream.value.isReady = false
        return stream
    }

    // MARK: The connection

    override func settingsReceived() {
        guard !hot.value.isEstablished else { return }
        hot.value.isEstablished = true
        carrier?.sessionEstablished()
    }

    override func pingAcknowledged() { carrier?.sessionPingAcknowledged() }

    // MARK: What the peer does too much of

    override func resetReceived(_ context: StreamContext?) {
        guard let context else { return controlFrameReceived(.other) }
        let stream = StreamHandle(context)
        guard stream.value.state.headIsDue, hot.value.youngStreams.isYoung(stream.value.id) else { return }
        note(budgets.youngCallCancelled(now: loop.now))
    }

    override func resetSent(_ code: HTTP2ErrorCode) {
        switch code {
        case .protocolError, .flowControlError, .streamClosed, .frameSizeError:
            note(budgets.streamBrokeRules(now: loop.now))
        default: break
        }
    }

    override func controlFrameReceived(_ kind: ControlFrame) {
        if kind == .ping {
            let hasCalls = openStreams > 0
            note(budgets.pingReceived(now: loop.now, hasCalls: hasCalls, callFramesSent: hot.value.callFramesSent))
        }
        note(budgets.emptyFrameReceived(now: loop.now, callFramesSent: hot.value.callFramesSent))
    }

    private func note(_ excess: PeerExcess?) {
        if let excess { cutOff(excess) }
    }

    /// The peer's next bytes are about to be read.
    @inline(__always)
    func willReceive() {
        let now = loop.now
        if hot.value.youngStreams.isDue(now) {
            hot.value.youngStreams.note(lastStreamID: lastStreamID, now: now)
        }
        hot.value.tally.streamsOpenedTime.batchBegins(hot.value.open.opened, now: now)
        hot.value.tally.messagesReceivedTime.batchBegins(hot.value.tally.messagesReceived, now: now)
        shard.mayStartCalls(now: now)
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
        hot.value.tally.messagesSentTime.batchBegins(hot.value.tally.messagesSent, now: loop.now)
        if hot.value.notedBytes > 0 || hot.value.queuedBytes > Self.noteStepBytes { noteHeldBytes() }
    }

    override func planData(_ context: StreamContext, bytesMax: Int) -> DataPlan {
        let stream = StreamHandle(context)
        let queuedBytes = stream.value.outbound.bytes
        if queuedBytes > bytesMax { return DataPlan(bytes: bytesMax, ending: .more) }
        if stream.value.state.isFinishing { return DataPlan(bytes: queuedBytes, ending: .trailers) }
        if queuedBytes == 0 { stream.value.isDeferred = true }
        return DataPlan(bytes: queuedBytes, ending: .later)
    }

    override func copyData(_ context: StreamContext, into target: UnsafeMutableRawBufferPointer) {
        // SAFETY: `target` is the caller's for the length of this call.
        let stream = StreamHandle(context)
        hot.value.callFramesSent &+= 1
        hot.value.queuedBytes -= target.count
        hot.value.tally.messagesSent &+= unsafe stream.value.outbound.move(to: target)
        if let call = stream.value.call { call.sendQueueDrained(to: stream.value.outbound.bytes) }
    }

    override func trailersWanted(_ context: StreamContext) { sendTrailers(StreamHandle(context)) }

    override func endOfHeadersSent(_ context: StreamContext) {
        let stream = StreamHandle(context)
        if stream.value.state.trailersSent() == .resetWithNoError { reset(stream.value.id, .noError) }
    }

    override func headersNotSent(_ context: StreamContext, reason: String) {
        let stream = StreamHandle(context)
        logger.warning("could not send header fields", metadata: ["peer": "\(peer.address)", "cause": "\(reason)"])
        reset(stream.value.id, .internalError)
    }
}
