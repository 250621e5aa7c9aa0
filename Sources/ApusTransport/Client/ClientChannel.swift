internal import ApusBase
package import ApusEventLoop
package import Logging
internal import Synchronization

/// A channel below its public face: one connection at a time to its target, and the calls that go over it.
///
///     idle ──a call──▶ connecting ──SETTINGS──▶ ready ──lost | GOAWAY──▶ idle
///      ▲                  │
///      └──back-off over── transientFailure                     any ──close──▶ closed
///
/// It lives on one loop for good. What is confined to that is in `state`; callers on other threads reach it through
/// `inbox`, with one wake-up for all that comes before the loop looks. The loop keeps a channel that was used until it
/// is closed.
@usableFromInline
package final class ClientChannel: @unchecked Sendable {
    // Sendable, because `state` and `hot` are touched on the loop alone; the rest is immutable, atomic or locked.

    package let loop: EventLoop
    package let target: ClientTarget
    package let limits: ClientLimits
    package let logger: Logger
    let authority: String

    /// Calls that other threads began, or have news for.
    private struct Inbox {
        var new: [ClientCall] = []
        var news: [ClientCall] = []
        var isOnItsWay = false
    }

    private struct State {
        var owner: (any AnyObject & Sendable)?
        var connection: ClientConnection?
        /// Connections whose last calls are ending, and one whose handshake is under way.
        var others: [ObjectIdentifier: ClientConnection] = [:]
        var connector: Connector?
        var backoff: Backoff
        var backoffTimer = EventLoop.TimerID.none
        var lastFailure: RPCError?
        var firstPending: ClientCall?
        var lastPending: ClientCall?
        var pendingCount = 0
        /// Calls that have begun and not ended.
        var liveCalls = 0
        var isResident = false
        /// The application has let go of the channel: it closes with its last call.
        var isReleased = false
        var streamLimitIsNoted = false
        /// Connections in a row that ended before they answered a call.
        var uselessConnections = 0
    }

    private let inbox = Lock(Inbox())
    private let state: Confined<State>
    private let connectivityValue = Atomic<Int>(ConnectivityState.idle.rawValue)
    private let templates = Confined([(method: MethodDescriptor, template: RequestTemplate)]())
    private let spareUnaryCalls = Lock([UnaryCall]())
    private static let spareUnaryCallsMax = 256
    /// Connections that may end without an answer, one after another, before the next one waits for the back-off: a
    /// server that greets and hangs up must not be called in a loop.
    private static let uselessConnectionsMax = 3
    /// Methods of which the header fields are kept; those of further ones are made for each call.
    private static let templatesMax = 64

    let http2Memory = HTTP2Memory()
    let streams = Confined(ClientStreamPool())

    /// - Parameter owner: what keeps the loop running; held until the channel is closed.
    package init(
        target: ClientTarget,
        limits: ClientLimits,
        loop: EventLoop,
        owner: (any AnyObject & Sendable)? = nil,
        logger: Logger
    ) {
        self.target = target
        self.limits = limits
        self.loop = loop
        self.logger = logger
        self.authority = limits.authority ?? target.authority
        self.state = Confined(State(owner: owner, backoff: limits.backoff))
    }

    deinit {
        templates.destroy()
        state.destroy()
        streams.value.removeAll()
        streams.destroy()
    }

    // MARK: From any thread

    package var connectivity: ConnectivityState {
        ConnectivityState(rawValue: connectivityValue.load(ordering: .acquiring)) ?? .idle
    }

    /// Begins to connect, unless there is a connection.
    package func connect() {
        loop.execute { if self.connectivity == .idle { self.startConnecting() } }
    }

    /// Ends every call with `CANCELLED` and closes the connection. Returns at once; harmless when repeated.
    package func close() {
        let queued = loop.execute { self.closeOnLoop("the channel to \(self.target.text) was closed") }
        if !queued { closeWithoutLoop() }
    }

    /// The application has let go of the channel: it closes once no call is left.
    package func release() {
        let queued = loop.execute {
            self.state.value.isReleased = true
            if self.state.value.liveCalls == 0 { self.closeOnLoop(Self.isUnused) }
        }
        if !queued { closeWithoutLoop() }
    }

    /// The loop has ended, and with it all that lived there.
    private func closeWithoutLoop() {
        set(.closed)
        spareUnaryCalls.withLock { $0 = [] }
    }

    private static let isUnused = "nobody uses the channel any more"

    /// The instant by which a call that starts now has to end.
    @inline(__always)
    func deadline(of options: CallOptions) -> MonotonicInstant {
        guard let timeout = options.timeout else { return .distantFuture }
        return loop.clock.now().advanced(by: timeout)
    }

    /// Begins a call: at once on the loop, else when the loop comes to it.
    @inline(__always)
    func start(_ call: ClientCall) {
        if loop.isCurrent { call.begin() } else { startElsewhere(call) }
    }

    private func startElsewhere(_ call: ClientCall) {
        let isFirst = inbox.withLock { inbox in
            inbox.new.append(call)
            defer { inbox.isOnItsWay = true }
            return !inbox.isOnItsWay
        }
        if isFirst { fetch() }
    }

    /// Another thread has messages for a call.
    func announce(_ call: ClientCall) {
        let isFirst = inbox.withLock { inbox in
            inbox.news.append(call)
            defer { inbox.isOnItsWay = true }
            return !inbox.isOnItsWay
        }
        if isFirst { fetch() }
    }

    /// Has the loop take what is in the inbox.
    private func fetch() {
        if loop.execute({ self.takeInbox() }) { return }
        // The loop has ended, so that nothing here is confined to it any more.
        let calls = inbox.withLock { inbox in
            defer { inbox = Inbox() }
            return inbox.new
        }
        for call in calls { call.finish(.failed(loopStopped)) }
    }

    private func takeInbox() {
        let taken = inbox.withLock { inbox in
            defer { inbox = Inbox() }
            return inbox
        }
        for call in taken.new { call.begin() }
        for call in taken.news { call.newsFromElsewhere() }
    }

    private var loopStopped: RPCError {
        RPCError(code: .unavailable, message: "the event loop of the channel to \(target.text) has stopped")
    }

    // MARK: Unary calls

    /// A call object: one that is free, or a new one.
    @inline(__always)
    func takeUnaryCall(_ method: MethodDescriptor, _ options: CallOptions) -> UnaryCall {
        guard let call = spareUnaryCalls.withLock({ $0.popLast() }) else { return UnaryCall(self, method, options) }
        call.prepare(method, options)
        return call
    }

    /// Keeps the object for another call, unless somebody still has it.
    @inline(__always)
    func giveUnaryCall(_ call: consuming UnaryCall) {
        var call = consume call
        guard isKnownUniquelyReferenced(&call) else { return }
        call.recycle()
        // Each holds the channel, which lets go of them when it is closed.
        spareUnaryCalls.withLock { calls in
            if calls.count < Self.spareUnaryCallsMax, connectivity != .closed { calls.append(call) }
        }
    }
}

// MARK: - Calls, on the loop

extension ClientChannel {
    func callBegan() {
        state.value.liveCalls += 1
        if !state.value.isResident, connectivity != .closed {
            state.value.isResident = true
            loop.addResident(self)
        }
    }

    func callEnded() {
        state.value.liveCalls -= 1
        guard state.value.isReleased, state.value.liveCalls == 0 else { return }
        // Not here: nghttp2 may be in the middle of the frame that ended the call.
        loop.execute { if self.state.value.liveCalls == 0 { self.closeOnLoop(Self.isUnused) } }
    }

    /// Finds a stream for a call, or has it wait for one.
    @inline(__always)
    func place(_ call: ClientCall, isRetry: Bool = false) {
        if let connection = state.value.connection, connection.session.mayOpen {
            open(call, on: connection.session)
        } else {
            placeLater(call, isRetry: isRetry)
        }
    }

    private func open(_ call: ClientCall, on session: ClientSession) {
        switch session.open(call) {
        case .opened: break
        // The session drains, so that it is not asked again.
        case .exhausted: place(call)
        case .failed(let error): call.finish(.failed(error))
        }
    }

    private func placeLater(_ call: ClientCall, isRetry: Bool) {
        switch connectivity {
        case .closed: call.finish(.failed(state.value.lastFailure ?? loopStopped))
        case .transientFailure where !call.core.value.options.waitForReady:
            call.finish(.failed(state.value.lastFailure ?? loopStopped))
        case .transientFailure, .connecting: addPending(call, first: isRetry)
        case .ready:
            addPending(call, first: isRetry)
            noteStreamLimit()
        case .idle:
            addPending(call, first: isRetry)
            startConnecting()
        }
    }

    /// Calls that wait for the server's leave are a common cause of slowness that nobody sees (gRPC A105).
    private func noteStreamLimit() {
        guard !state.value.streamLimitIsNoted, let session = state.value.connection?.session else { return }
        state.value.streamLimitIsNoted = true
        logger.notice(
            "calls wait: the server allows no more at once (MAX_CONCURRENT_STREAMS)",
            metadata: ["peer": "\(session.address)", "limit": "\(session.hot.value.maxStreams)"]
        )
    }

    /// A stream of a session ended, or its limit was raised: calls that wait may begin.
    @inline(__always)
    func streamEnded(on session: ClientSession) {
        while state.value.firstPending != nil, session.mayOpen, state.value.connection?.session === session,
            let call = popPending()
        {
            open(call, on: session)
        }
    }

    /// For the message of a call whose deadline passes meanwhile.
    var whatPendingCallsWaitFor: String {
        if let connector = state.value.connector { return connector.description }
        if let session = state.value.connection?.session {
            return "one of the \(session.hot.value.maxStreams) streams that \(session.address) allows at once"
        }
        let last = state.value.lastFailure.map { ", after: \($0.message)" } ?? ""
        return "the next attempt to connect to \(target.text)\(last)"
    }

    // MARK: The calls that wait, a list through the calls

    /// A call that was tried before goes ahead of those that were not.
    private func addPending(_ call: ClientCall, first: Bool) {
        if first, let next = state.value.firstPending {
            call.core.value.nextPending = next
            next.core.value.previousPending = call
            state.value.firstPending = call
            state.value.pendingCount += 1
            return
        }
        if let last = state.value.lastPending {
            call.core.value.previousPending = last
            last.core.value.nextPending = call
        } else {
            state.value.firstPending = call
        }
        state.value.lastPending = call
        state.value.pendingCount += 1
    }

    private func popPending() -> ClientCall? {
        guard let call = state.value.firstPending else { return nil }
        removePending(call)
        return call
    }

    /// Takes a call out of the list; harmless when it is not in it.
    func removePending(_ call: ClientCall) {
        let previous = call.core.value.previousPending.take()
        guard previous != nil || state.value.firstPending === call else { return }
        let next = call.core.value.nextPending.take()
        if let previous { previous.core.value.nextPending = next } else { state.value.firstPending = next }
        if let next { next.core.value.previousPending = previous } else { state.value.lastPending = previous }
        state.value.pendingCount -= 1
    }

    /// The header fields that all requests of a method share; kept as long as the channel, or to be kept by the
    /// stream that uses it.
    @inline(__always)
    func template(for call: ClientCall) -> (template: RequestTemplate, isKept: Bool) {
        for index in templates.value.indices where templates.value[index].method == call.core.value.method {
            return (templates.value[index].template, true)
        }
        return makeTemplate(call.method)
    }

    private func makeTemplate(_ method: MethodDescriptor) -> (template: RequestTemplate, isKept: Bool) {
        let template = RequestTemplate(
            path: method.path,
            scheme: "http",
            authority: authority,
            userAgent: limits.userAgent
        )
        guard templates.value.count < Self.templatesMax else { return (template, false) }
        templates.value.append((method, template))
        return (template, true)
    }
}

// MARK: - Connections, on the loop

extension ClientChannel: LoopResident {
    private func set(_ new: ConnectivityState) {
        let old = ConnectivityState(
            rawValue: connectivityValue.exchange(new.rawValue, ordering: .acquiringAndReleasing)
        )
        if old == new { return }
        logger.debug("channel is \(new)", metadata: ["target": "\(target.text)"])
    }

    private func startConnecting() {
        if !state.value.isResident {
            state.value.isResident = true
            loop.addResident(self)
        }
        set(.connecting)
        let connector = Connector(channel: self)
        state.value.connector = connector
        connector.start()
    }

    /// The connector has a socket that is connected.
    func socketConnected(_ descriptor: CInt, _ address: SocketAddress) {
        let connection: ClientConnection
        do throws(RPCError) {
            connection = try ClientConnection(descriptor: descriptor, address: address, channel: self)
        } catch {
            SystemCalls.close(descriptor)
            state.value.connector?.handshakeFailed(address, cause: "\(error)")
            return
        }
        state.value.others[ObjectIdentifier(connection)] = connection
        do throws(SystemError) {
            try connection.start()
        } catch {
            connection.close("\(error)")
        }
    }

    /// The connector has waited long enough for an address to speak HTTP/2.
    func giveUpHandshake(_ cause: String) {
        for connection in state.value.others.values where !connection.isEstablished { connection.close(cause) }
    }

    func connectionEstablished(_ connection: ClientConnection) {
        guard connectivity == .connecting else { return }
        state.value.others[ObjectIdentifier(connection)] = nil
        state.value.connector?.cancel()
        state.value.connector = nil
        if state.value.uselessConnections == 0 { state.value.backoff.reset() }
        state.value.connection = connection
        state.value.streamLimitIsNoted = false
        set(.ready)
        logger.debug("connected", metadata: ["peer": "\(connection.address)"])
        streamEnded(on: connection.session)
        if state.value.firstPending != nil { noteStreamLimit() }
    }

    /// No more calls go over this connection; those that it has go on.
    func connectionDrains(_ connection: ClientConnection) {
        guard state.value.connection === connection else { return }
        state.value.others[ObjectIdentifier(connection)] = connection
        connectionEnds(connection)
    }

    /// The connection is to be used no more. Before its calls hear of it, so that one that is tried again goes
    /// elsewhere.
    func connectionEnds(_ connection: ClientConnection) {
        guard state.value.connection === connection else { return }
        state.value.connection = nil
        guard connectivity == .ready else { return }
        state.value.uselessConnections = connection.session.hasAnswered ? 0 : state.value.uselessConnections + 1
        if state.value.uselessConnections > Self.uselessConnectionsMax {
            return waitForBackoff("\(connection.address) ends each connection before it answers a call")
        }
        set(.idle)
        if state.value.firstPending != nil { startConnecting() }
    }

    func connectionClosed(_ connection: ClientConnection, cause: String) {
        state.value.others[ObjectIdentifier(connection)] = nil
        if !connection.isEstablished { state.value.connector?.handshakeFailed(connection.address, cause: cause) }
    }

    /// No address led to a server: calls fail, and the next attempt waits.
    func connectingFailed(_ cause: String) {
        state.value.connector = nil
        waitForBackoff(cause)
        // One that is still in its handshake has had its time.
        giveUpHandshake(cause)
        failPending(waitingToo: false)
    }

    private func waitForBackoff(_ cause: String) {
        let delay = state.value.backoff.next()
        let message = "could not connect to \(target.text): \(cause)"
        state.value.lastFailure = RPCError(code: .unavailable, message: message)
        logger.info(
            "could not connect",
            metadata: ["target": "\(target.text)", "cause": "\(cause)", "retry": "\(delay)"]
        )
        set(.transientFailure)
        state.value.backoffTimer = loop.schedule(after: delay) { [weak self] in self?.backoffEnded() }
    }

    private func backoffEnded() {
        state.value.backoffTimer = .none
        guard connectivity == .transientFailure else { return }
        set(.idle)
        if state.value.firstPending != nil { startConnecting() }
    }

    /// Ends the calls that wait for a connection and do not wait for better times.
    private func failPending(waitingToo: Bool) {
        var next = state.value.firstPending
        while let call = next {
            next = call.core.value.nextPending
            if !waitingToo, call.core.value.options.waitForReady { continue }
            call.finish(.failed(state.value.lastFailure ?? loopStopped))
        }
    }

    package func loopEnds() { closeOnLoop(loopStopped) }

    private func closeOnLoop(_ why: String) { closeOnLoop(RPCError(code: .cancelled, message: why)) }

    private func closeOnLoop(_ error: RPCError) {
        guard connectivity != .closed else { return }
        set(.closed)
        state.value.connector?.cancel()
        state.value.connector = nil
        loop.cancel(state.value.backoffTimer)
        state.value.lastFailure = error
        failPending(waitingToo: true)
        let connections = Array(state.value.others.values) + (state.value.connection.map { [$0] } ?? [])
        state.value.connection = nil
        state.value.others = [:]
        for connection in connections {
            connection.session.endCalls(error)
            connection.shutDown()
        }
        spareUnaryCalls.withLock { $0 = [] }
        state.value.owner = nil
        if state.value.isResident {
            state.value.isResident = false
            loop.removeResident(self)
        }
    }
}
