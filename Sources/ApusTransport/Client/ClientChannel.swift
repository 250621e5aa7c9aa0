internal import ApusBase
package import ApusEventLoop
package import ApusTLS
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

    /// By which channelz knows the channel and its one subchannel.
    package let channelzID: Int64
    package let subchannelID: Int64
    /// What happened to the channel, and to its connections, for channelz.
    let trace: EventTrace
    let subchannelTrace: EventTrace
    package let loop: EventLoop
    package let target: ClientTarget
    package let limits: ClientLimits
    let encodings: MessageEncodings
    package let logger: Logger
    let authority: String
    /// `nil` for plaintext.
    package let tls: TLSContextSource?

    /// Calls that other threads began, or have news for.
    private struct Inbox {
        var new: [ClientCall] = []
        var news: [ClientCall] = []
        var isOnItsWay = false
    }

    struct State {
        var owner: (any AnyObject & Sendable)?
        var connection: ClientConnection?
        /// Connections whose last calls are ending, and one whose handshake is under way.
        var others: [ObjectIdentifier: ClientConnection] = [:]
        var connector: Connector?
        /// For new connections; a server that finds it too often doubles its time.
        var keepalive: Keepalive.Times?
        /// Fires when the channel may have been without a call for long enough to let its connection go.
        var idleTimer = EventLoop.TimerID.none
        /// When the last call ended.
        var lastCallEnded = MonotonicInstant(nanoseconds: 0)
        var backoff: Backoff
        var backoffTimer = EventLoop.TimerID.none
        var lastFailure: RPCError?
        var firstPending: ClientCall?
        var lastPending: ClientCall?
        /// Calls that have begun and not ended.
        var liveCalls = 0
        var isResident = false
        /// The application has let go of the channel: it closes with its last call.
        var isReleased = false
        var streamLimitNotedAt: MonotonicInstant?
        /// Connections in a row that ended before they answered a call.
        var uselessConnections = 0
        var tally = Tally()
    }

    private let inbox = Lock(Inbox())
    let state: Confined<State>
    private let connectivityValue = Atomic<Int>(ConnectivityState.idle.rawValue)
    private let templates = Confined([(method: MethodDescriptor, template: RequestTemplate)]())
    let spareUnaryCalls = Lock([UnaryCall]())
    private static let spareUnaryCallsMax = 256
    /// Connections that may end without an answer, one after another, before the next one waits for the back-off: a
    /// server that greets and hangs up must not be called in a loop.
    static let uselessConnectionsMax = 3
    /// Connections that may be closing, one beside the other, before further ones are closed without waiting for the
    /// server to have taken leave.
    static let lingeringMax = 16
    /// How often it is said that calls wait.
    static let noteInterval = Duration.seconds(60)
    /// Methods of which the header fields are kept; those of further ones are made for each call.
    private static let templatesMax = 64

    let http2Memory = HTTP2Memory()
    let streams = Confined(ClientStreamPool())

    /// - Parameter owner: what keeps the loop running; held until the channel is closed.
    package init(
        target: ClientTarget,
        limits: ClientLimits,
        encodings: MessageEncodings = MessageEncodings(),
        loop: EventLoop,
        owner: (any AnyObject & Sendable)? = nil,
        tls: TLSContextSource? = nil,
        logger: Logger
    ) {
        self.target = target
        self.limits = limits
        self.encodings = encodings
        self.loop = loop
        self.logger = logger
        self.tls = tls
        self.authority = limits.authority ?? target.authority
        self.state = Confined(State(owner: owner, keepalive: limits.keepalive, backoff: limits.backoff))
        self.channelzID = ChannelzID.make(count: 2)
        self.subchannelID = channelzID + 1
        self.trace = EventTrace(clock: loop.clock)
        self.subchannelTrace = EventTrace(clock: loop.clock)
        ChannelzRegistry.channels.add(ChannelzChannel(self))
    }

    deinit {
        ChannelzRegistry.channels.remove(channelzID)
        templates.destroy()
        state.destroy()
        streams.value.removeAll()
        streams.destroy()
    }

    // MARK: From any thread

    package var connectivity: ConnectivityState {
        ConnectivityState(rawValue: connectivityValue.load(ordering: .acquiring)) ?? .idle
    }

    /// Changes the state that the application sees.
    func set(_ new: ConnectivityState) {
        let old = ConnectivityState(
            rawValue: connectivityValue.exchange(new.rawValue, ordering: .acquiringAndReleasing)
        )
        if old == new { return }
        trace.log("\(new)", new == .transientFailure ? .warning : .info)
        logger.debug("channel is \(new)", metadata: ["target": "\(target.text)"])
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

    static let isUnused = "nobody uses the channel any more"

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

    var loopStopped: RPCError {
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
        // Whoever else had it is done with it, and what it did has been seen from here on.
        atomicMemoryFence(ordering: .acquiring)
        call.core.announceTakeOver()
        call.recycle()
        // Each holds the channel, which lets go of them when it is closed.
        spareUnaryCalls.withLock { calls in
            if calls.count < Self.spareUnaryCallsMax, connectivity != .closed { calls.append(call) }
        }
    }
}

// MARK: - Header fields, on the loop

extension ClientChannel {
    /// The header fields that all requests of a method share; kept as long as the channel, or to be kept by the
    /// stream that uses it.
    @inline(__always)
    func template(for call: ClientCall) -> (template: RequestTemplate, isKept: Bool) {
        for index in templates.value.indices where templates.value[index].method == call.setup.value.method {
            return (templates.value[index].template, true)
        }
        return makeTemplate(call.method)
    }

    private func makeTemplate(_ method: MethodDescriptor) -> (template: RequestTemplate, isKept: Bool) {
        let template = RequestTemplate(
            path: method.path,
            scheme: tls == nil ? "http" : "https",
            authority: authority,
            userAgent: limits.userAgent,
            acceptEncoding: encodings.areAnnounced ? String(decoding: encodings.acceptValue, as: UTF8.self) : nil
        )
        guard templates.value.count < Self.templatesMax else { return (template, false) }
        templates.value.append((method, template))
        return (template, true)
    }
}
