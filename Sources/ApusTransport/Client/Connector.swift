internal import ApusBase
internal import ApusEventLoop

/// One effort to connect: looks the host up, tries its addresses in turn, a quarter of a second apart while one is
/// undecided ("happy eyeballs", RFC 8305), and hands each socket that connects to the channel. When the channel finds
/// that there is no HTTP/2 behind one it goes on.
///
///     lookingUp ──▶ connecting ──▶ handshaking ──SETTINGS──▶ over
///                       ▲───────────────┘ │
///                       └─ next address   └── no address left | time-out ──▶ over
///
/// Sendable, because all of it is confined to the channel's loop.
final class Connector: TimerHandler, @unchecked Sendable {
    private enum Alarm: UInt64 { case timeout, nextAddress, handshake }

    private static let connectionAttemptDelay = Duration.milliseconds(250)
    /// A unix socket whose backlog is full refuses at once (EAGAIN) and gives no event when there is room.
    static let backlogRetryDelay = Duration.milliseconds(5)

    private let channel: ClientChannel
    private var lookUp: Task<Void, Never>?
    private var isLookingUp = false
    /// Yet to be tried, the first first.
    private var addresses: [SocketAddress] = []
    private var attempts: [ConnectAttempt] = []
    /// The address that connected and has not spoken HTTP/2 yet.
    private var handshaking: SocketAddress?
    private var failures: [String] = []
    private var timeout = EventLoop.TimerID.none
    private var nextAddressTimer = EventLoop.TimerID.none
    private var handshakeTimer = EventLoop.TimerID.none
    private var deadline = MonotonicInstant.distantFuture
    private var isOver = false

    init(channel: ClientChannel) { self.channel = channel }

    private var loop: EventLoop { channel.loop }

    func start() {
        deadline = loop.now.advanced(by: channel.limits.connectTimeout)
        timeout = loop.schedule(at: deadline, handler: self, tag: Alarm.timeout.rawValue)
        switch channel.target.destination {
        case .addresses(let addresses): found(addresses)
        case .host(let host, let port):
            if let address = NameResolver.numericAddress(host: host, port: port) { return found([address]) }
            isLookingUp = true
            // The task runs off the loop until there is an answer; a loop that stops meanwhile drops it.
            lookUp = Task.detached { [loop] in
                let result: Result<[SocketAddress], NameResolutionError>
                do throws(NameResolutionError) {
                    result = .success(try await NameResolver.resolve(host: host, port: port))
                } catch {
                    result = .failure(error)
                }
                loop.execute { self.lookedUp(result) }
            }
        }
    }

    /// Gives up, without a word.
    func cancel() {
        guard !isOver else { return }
        isOver = true
        lookUp?.cancel()
        loop.cancel(timeout)
        loop.cancel(nextAddressTimer)
        loop.cancel(handshakeTimer)
        let open = attempts
        attempts = []
        for attempt in open { attempt.cancel() }
    }

    /// What it waits for, for an error message.
    var description: String {
        if isLookingUp { return "the addresses of \(channel.target.text) to be looked up" }
        if let handshaking {
            return channel.isSecuring
                ? "\(handshaking) to go on with the TLS handshake" : "\(handshaking) to send its HTTP/2 SETTINGS"
        }
        let pending = attempts.map { "\($0.address)" }.joined(separator: ", ")
        return "a connection to \(pending.isEmpty ? channel.target.text : pending)"
    }

    // MARK: Addresses

    private func lookedUp(_ result: Result<[SocketAddress], NameResolutionError>) {
        guard !isOver else { return }
        isLookingUp = false
        switch result {
        case .success(let addresses): found(addresses)
        case .failure(let error): fail("\(error)")
        }
    }

    private func found(_ addresses: [SocketAddress]) {
        self.addresses = Self.interleaved(addresses)
        tryNext()
    }

    /// The two families in turn, beginning with that of the first address (RFC 8305 §4).
    static func interleaved(_ addresses: [SocketAddress]) -> [SocketAddress] {
        guard let first = addresses.first else { return [] }
        let preferred = addresses.filter { $0.isIPv6 == first.isIPv6 }
        let others = addresses.filter { $0.isIPv6 != first.isIPv6 }
        var result: [SocketAddress] = []
        for index in 0..<max(preferred.count, others.count) {
            if index < preferred.count { result.append(preferred[index]) }
            if index < others.count { result.append(others[index]) }
        }
        return result
    }

    private func tryNext() {
        loop.cancel(nextAddressTimer)
        guard !isOver, handshaking == nil else { return }
        guard !addresses.isEmpty else {
            if attempts.isEmpty { fail(nil) }
            return
        }
        let attempt = ConnectAttempt(address: addresses.removeFirst(), loop: loop)
        attempts.append(attempt)
        if !addresses.isEmpty {
            let when = loop.now.advanced(by: Self.connectionAttemptDelay)
            nextAddressTimer = loop.schedule(at: when, handler: self, tag: Alarm.nextAddress.rawValue)
        }
        attempt.start { [self] result in decided(attempt, result) }
    }

    private func decided(_ attempt: ConnectAttempt, _ result: Result<CInt, SystemError>) {
        attempts.removeAll { $0 === attempt }
        guard !isOver else {
            if case .success(let descriptor) = result { SystemCalls.close(descriptor) }
            return
        }
        switch result {
        case .success(let descriptor):
            // The first to connect wins; the others' addresses are tried again should it turn out to be of no use.
            loop.cancel(nextAddressTimer)
            addresses.insert(contentsOf: attempts.map(\.address), at: 0)
            let open = attempts
            attempts = []
            for other in open { other.cancel() }
            handshaking = attempt.address
            limitHandshake()
            channel.socketConnected(descriptor, attempt.address)
        case .failure(let error):
            failures.append("\(error)")
            tryNext()
        }
    }

    /// An address that connects and says nothing must not use up the time of those behind it: it gets its share.
    private func limitHandshake() {
        guard !addresses.isEmpty else { return }
        let share = deadline.nanoseconds(since: loop.now) / Int64(addresses.count + 1)
        let when = loop.now.advanced(byNanoseconds: share)
        handshakeTimer = loop.schedule(at: when, handler: self, tag: Alarm.handshake.rawValue)
    }

    /// There was no HTTP/2 behind the socket that connected last.
    func handshakeFailed(_ address: SocketAddress, cause: String) {
        guard !isOver, handshaking == address else { return }
        handshaking = nil
        loop.cancel(handshakeTimer)
        failures.append("\(address): \(cause)")
        tryNext()
    }

    // MARK: The end

    func timerFired(tag: UInt64) {
        switch Alarm(rawValue: tag) {
        case .nextAddress: return tryNext()
        case .handshake: return channel.giveUpHandshake("it sent no HTTP/2 SETTINGS in its share of the time")
        case .timeout, nil: break
        }
        fail("nothing within \(channel.limits.connectTimeout); it waited for \(description)")
    }

    private func fail(_ cause: String?) {
        if let cause { failures.append(cause) }
        if failures.isEmpty { failures.append("the host has no address") }
        cancel()
        channel.connectingFailed(failures.joined(separator: "; "))
    }
}

/// One socket on its way to being connected. Confined to its loop.
final class ConnectAttempt: DescriptorHandler {
    let address: SocketAddress
    private let loop: EventLoop
    private var descriptor: CInt?
    private var registration: EventLoop.Registration?
    private var retryTimer = EventLoop.TimerID.none
    private var decided: ((Result<CInt, SystemError>) -> Void)?

    init(address: SocketAddress, loop: EventLoop) {
        self.address = address
        self.loop = loop
    }

    /// Calls back once, maybe before this returns, unless it is cancelled.
    func start(_ decided: @escaping (Result<CInt, SystemError>) -> Void) {
        self.decided = decided
        connect()
    }

    func cancel() {
        decided = nil
        loop.cancel(retryTimer)
        if let registration { loop.deregister(registration) }
        registration = nil
        if let descriptor { SystemCalls.close(descriptor) }
        descriptor = nil
    }

    private func connect() {
        do throws(SystemError) {
            let raw = try RawSocketAddress(address)
            let descriptor = try SystemCalls.streamSocket(for: raw)
            self.descriptor = descriptor
            if raw.isInternet {
                // Many clients of one address may share a source port (and so have more connections than ports), and
                // small messages are not held back.
                try? SystemCalls.setOption(.bindAddressNoPort, to: 1, on: descriptor)
                try SystemCalls.setOption(.noDelay, to: 1, on: descriptor)
            }
            switch SystemCalls.connect(descriptor, to: raw) {
            case .connected: succeed()
            case .inProgress: registration = try loop.register(descriptor, interest: .write, handler: self)
            case .failed(let error) where error.isBacklogFull: retryLater()
            case .failed(let error): fail(error)
            }
        } catch {
            fail(error)
        }
    }

    func descriptorReady(_ readiness: EventLoop.Readiness) {
        guard let descriptor else { return }
        if let error = SystemCalls.pendingError(descriptor, operation: "connect \(address)") {
            fail(error)
        } else {
            succeed()
        }
    }

    private func retryLater() {
        if let descriptor { SystemCalls.close(descriptor) }
        descriptor = nil
        retryTimer = loop.schedule(after: Connector.backlogRetryDelay) { [weak self] in self?.connect() }
    }

    private func succeed() {
        guard let descriptor, let decided else { return cancel() }
        if let registration { loop.deregister(registration) }
        registration = nil
        self.descriptor = nil
        self.decided = nil
        decided(.success(descriptor))
    }

    private func fail(_ error: SystemError) {
        let decided = self.decided
        cancel()
        decided?(.failure(error))
    }
}
