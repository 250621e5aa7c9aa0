internal import ApusBase
internal import ApusEventLoop
internal import Logging

/// A listening socket on its loop: takes connections and hands them on. Confined to that loop.
final class Listener: DescriptorHandler, TimerHandler {
    /// Connections taken in one turn before the loop's other work gets its own.
    private static let acceptsPerTurnMax = 16
    /// How long to leave the backlog alone when descriptors or memory are used up.
    private static let pauseWhenExhausted = Duration.milliseconds(250)

    private let socket: ListeningSocket
    private let loop: EventLoop
    private let logger: Logger
    private let faultLog: PeerFaultLog
    private let mayAccept: () -> Bool
    private let accepted: (CInt, RawSocketAddress) -> Void
    private var registration: EventLoop.Registration?
    private var timer = EventLoop.TimerID.none
    private var isFull = false
    /// Whether the last attempt to accept failed, which is said once.
    private var isExhausted = false
    private var fruitlessEvents = FruitlessEvents()

    init(
        socket: ListeningSocket,
        loop: EventLoop,
        logger: Logger,
        mayAccept: @escaping () -> Bool,
        accepted: @escaping (CInt, RawSocketAddress) -> Void
    ) {
        self.socket = socket
        self.loop = loop
        self.logger = logger
        self.faultLog = PeerFaultLog(logger: logger, loop: loop)
        self.mayAccept = mayAccept
        self.accepted = accepted
    }

    func start() throws(SystemError) {
        registration = try loop.register(socket.descriptor, interest: .read, handler: self)
    }

    func close() {
        loop.cancel(timer)
        if let registration { loop.deregister(registration) }
        registration = nil
        socket.close()
    }

    /// A connection of this server closed: there may be room again.
    func connectionClosed() {
        guard isFull, mayAccept() else { return }
        isFull = false
        setInterest(.read)
    }

    func descriptorReady(_ readiness: EventLoop.Readiness) {
        for index in 0..<Self.acceptsPerTurnMax {
            guard mayAccept() else { return pauseUntilConnectionCloses() }
            switch socket.accept() {
            case .connection(let descriptor, let remote):
                isExhausted = false
                accepted(descriptor, remote)
            case .wouldBlock:
                if index == 0, fruitlessEvents.note(now: loop.now) { pause(for: FruitlessEvents.pause) }
                return
            case .failed(let error): return pause(error)
            }
        }
    }

    func timerFired(tag: UInt64) {
        timer = .none
        setInterest(.read)
    }

    private func pauseUntilConnectionCloses() {
        isFull = true
        setInterest([])
        // This comes again with each connection that closes while another waits.
        faultLog.log(
            .warning,
            "the server has as many connections as it may; new ones wait",
            ["address": "\(socket.localAddress)"]
        )
    }

    /// The backlog stays readable when it cannot be taken: without a pause the loop would spin on it.
    private func pause(_ error: SystemError) {
        if !isExhausted {
            isExhausted = true
            logger.error(
                "cannot accept connections; trying again until it works",
                metadata: ["address": "\(socket.localAddress)", "cause": "\(error)"]
            )
        }
        pause(for: Self.pauseWhenExhausted)
    }

    private func pause(for duration: Duration) {
        setInterest([])
        loop.cancel(timer)
        timer = loop.schedule(at: loop.now.advanced(by: duration), handler: self)
    }

    private func setInterest(_ interest: EventLoop.Interest) {
        if let registration { loop.update(registration, interest: interest) }
    }
}
