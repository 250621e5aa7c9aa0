package import ApusBase
package import ApusEventLoop
package import ApusTLS
package import Logging
internal import Synchronization

/// A server below its public face: listening sockets, connections spread over loops, and an orderly end.
///
///     serving ──beginDraining──▶ draining ──last connection gone | grace period over──▶ stopped
///        └────────────────────────────stop────────────────────────────────────────────────▲
///
/// Thread-safe.
package final class ServerCore: Sendable {
    private enum Phase { case serving, draining, stopped }

    private struct State: Sendable {
        var phase = Phase.serving
        var listeners: [ListenSocket] = []
        var waiting: [Suspension<Void>] = []
        var shardsToEmpty: Set<ObjectIdentifier> = []
    }

    /// By which channelz knows the server.
    package let channelzID = ChannelzID.make()
    /// What happened to it, for channelz.
    let trace: EventTrace
    let shards: [ServerShard]
    private let limits: ServerLimits
    private let logger: Logger
    private let connectionCount = SharedCount()
    private let state = Lock(State())

    package init(
        methods: [ServedMethod],
        fallback: Fallback? = nil,
        limits: ServerLimits,
        encodings: MessageEncodings = MessageEncodings(),
        loops: [EventLoop],
        tls: TLSContextSource? = nil,
        logger: Logger
    ) {
        let router = Router(methods, fallback: fallback)
        let runningHandlers = limits.maxHandlers == nil ? nil : SharedCount()
        let heldBytes = HeldBytes(limit: limits.serverBufferBytes)
        self.limits = limits
        self.logger = logger
        self.trace = EventTrace(clock: loops[0].clock)
        self.shards = loops.map { loop in
            ServerShard(
                loop: loop,
                router: router,
                limits: limits,
                encodings: encodings,
                logger: logger,
                runningHandlersInServer: runningHandlers,
                heldBytesInServer: heldBytes,
                tls: tls
            )
        }
        for (index, shard) in shards.enumerated() {
            shard.observeStalls()
            shard.loop.atEnd { [weak self, weak shard] in
                if let self, let shard { self.loopEnds(shard, hasListeners: index == 0) }
            }
        }
        ChannelzRegistry.servers.add(ChannelzServer(self))
    }

    deinit { ChannelzRegistry.servers.remove(channelzID) }

    /// On a loop that was stopped under the server: its connections end, and without the loop that accepts there is no
    /// server.
    private func loopEnds(_ shard: ServerShard, hasListeners: Bool) {
        if hasListeners { beginDraining() }
        shard.forEachConnection { $0.abort() }
        shard.stop()
    }

    /// How many connections are open.
    package var connections: Int { connectionCount.value }

    /// What it listens on.
    var listenSockets: [ListenSocket] { state.withLock { $0.listeners } }

    // MARK: Listening

    /// Binds an address and takes connections from it.
    ///
    /// - Returns: where it listens, with the port that the kernel chose for port 0.
    package func listen(on address: SocketAddress) throws(RPCError) -> SocketAddress {
        let socket: ListeningSocket
        do {
            socket = try ListeningSocket.bind(address)
        } catch {
            throw RPCError(code: .unavailable, message: "could not listen on \(address): \(error)", cause: error)
        }
        let loop = shards[0].loop
        let handle = ListenSocket(socket.localAddress, loop)
        let isServing = state.withLock { state in
            guard state.phase == .serving else { return false }
            state.listeners.append(handle)
            return true
        }
        guard isServing else {
            socket.close()
            throw RPCError(code: .unavailable, message: "the server has been shut down")
        }
        let queued = loop.execute { self.open(socket, handle) }
        if !queued { throw RPCError(code: .unavailable, message: "the event loops of the server have stopped") }
        trace.log("listening on \(socket.localAddress)")
        return socket.localAddress
    }

    private func open(_ socket: ListeningSocket, _ handle: ListenSocket) {
        guard !handle.isClosed else { return socket.close() }
        let listener = Listener(
            socket: socket,
            loop: shards[0].loop,
            logger: logger,
            mayAccept: { [limits, connectionCount] in connectionCount.value < limits.maxConnections ?? .max },
            // Whoever lets go of a server that listens has it serve on; `ListenSocket.close` breaks the cycle.
            accepted: { [self] descriptor, remote in
                take(descriptor, ConnectionPeer(remote: remote, descriptor: descriptor))
            }
        )
        handle.start(listener, on: socket.descriptor)
        do {
            try listener.start()
        } catch {
            logger.error("could not listen", metadata: ["address": "\(socket.localAddress)", "cause": "\(error)"])
            trace.log("could not listen on \(socket.localAddress): \(error)", .error)
            handle.close()
            state.withLock { $0.listeners.removeAll { $0 === handle } }
        }
    }

    /// Serves a connected stream socket, such as one end of a socket pair or one that a supervisor passed on. The
    /// server owns the descriptor from here on, and makes it non-blocking.
    package func adopt(_ descriptor: CInt) throws(SystemError) {
        let remote = try SystemCalls.peerAddress(of: descriptor)
        try SystemCalls.setNonBlocking(descriptor)
        take(descriptor, ConnectionPeer(remote: remote, descriptor: descriptor))
    }

    /// Gives a connection to the loop that has the fewest.
    private func take(_ descriptor: CInt, _ peer: ConnectionPeer) {
        _ = connectionCount.increment(upTo: .max)
        let shard = shards.dropFirst().reduce(shards[0]) { fewest, shard in
            shard.connectionsAssigned < fewest.connectionsAssigned ? shard : fewest
        }
        shard.loop.connectionAdded()
        let queued = shard.loop.execute { self.serve(descriptor, peer, shard) }
        if !queued {
            SystemCalls.close(descriptor)
            connectionClosed(shard)
        }
    }

    /// On the shard's loop.
    private func serve(_ descriptor: CInt, _ peer: ConnectionPeer, _ shard: ServerShard) {
        do {
            let connection = try ServerConnection(
                descriptor: descriptor,
                peer: peer,
                shard: shard,
                onClose: { self.connectionClosed(shard) }
            )
            try connection.start()
            if state.withLock({ $0.phase != .serving }) { connection.drain() }
        } catch {
            logger.error("could not serve a connection", metadata: ["peer": "\(peer.address)", "cause": "\(error)"])
            SystemCalls.close(descriptor)
            connectionClosed(shard)
        }
    }

    private func connectionClosed(_ shard: ServerShard) {
        shard.loop.connectionRemoved()
        connectionCount.decrement()
        guard limits.maxConnections != nil else { return }
        let listeners = state.withLock { $0.listeners }
        shards[0].loop.execute { for handle in listeners { handle.listener?.connectionClosed() } }
    }

    // MARK: The end

    /// Takes no more connections and calls, lets the calls that run end, and stops; after the grace period it stops
    /// whatever runs. Returns at once; harmless when repeated.
    package func beginDraining() {
        let listeners: [ListenSocket]? = state.withLock { state in
            guard state.phase == .serving else { return nil }
            state.phase = .draining
            state.shardsToEmpty = Set(shards.map { ObjectIdentifier($0) })
            defer { state.listeners = [] }
            return state.listeners
        }
        guard let listeners else { return }
        trace.log("shutting down: no more connections and calls are taken")
        // From the loop of the listeners, so that connections which they handed on are there before they are drained.
        let queued = shards[0].loop.execute { [self] in
            for handle in listeners { handle.close() }
            for shard in shards {
                let queued = shard.loop.execute {
                    shard.forEachConnection { $0.drain() }
                    shard.whenEmpty { self.shardIsEmpty(shard) }
                }
                if !queued { shardIsDone(shard) }
            }
            if let grace = limits.shutdownGracePeriod {
                shards[0].loop.schedule(after: grace) { [weak self] in self?.stop() }
            }
        }
        if !queued { for shard in shards { shardIsDone(shard) } }
    }

    /// Ends every call and connection now. Returns at once; harmless when repeated.
    package func stop() {
        beginDraining()
        for shard in shards {
            shard.loop.execute { shard.forEachConnection { $0.abort() } }
        }
    }

    private func shardIsEmpty(_ shard: ServerShard) {
        shard.stop()
        shardIsDone(shard)
    }

    /// From any thread: the shard has no connection left, or no loop.
    private func shardIsDone(_ shard: ServerShard) {
        let isLast = state.withLock { state in
            state.shardsToEmpty.remove(ObjectIdentifier(shard)) != nil && state.shardsToEmpty.isEmpty
        }
        if isLast { finish() }
    }

    private func finish() {
        let waiting = state.withLock { state in
            state.phase = .stopped
            defer { state.waiting = [] }
            return state.waiting
        }
        ChannelzRegistry.servers.remove(channelzID)
        for suspension in waiting { suspension.resume() }
    }

    /// Waits until the server has stopped. To cancel the task has no effect here: call ``stop()``.
    package func waitUntilStopped() async {
        await Suspension<Void>.wait { suspension in
            let isStopped = state.withLock { state in
                if state.phase != .stopped { state.waiting.append(suspension) }
                return state.phase == .stopped
            }
            if isStopped { suspension.resume() }
        }
    }
}

/// A socket that listens, which any thread may name. What may change is touched on its loop alone, and so it is
/// Sendable.
final class ListenSocket: @unchecked Sendable {
    /// By which channelz knows the socket.
    let channelzID = ChannelzID.make()
    let address: SocketAddress
    let loop: EventLoop
    private(set) var listener: Listener?
    /// `nil` before it listens, and when it is closed.
    private(set) var descriptor: CInt?
    private(set) var isClosed = false

    init(_ address: SocketAddress, _ loop: EventLoop) {
        self.address = address
        self.loop = loop
    }

    func start(_ listener: Listener, on descriptor: CInt) {
        self.listener = listener
        self.descriptor = descriptor
    }

    func close() {
        isClosed = true
        descriptor = nil
        listener?.close()
        listener = nil
    }
}
