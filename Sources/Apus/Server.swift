internal import ApusTransport
public import Logging
public import ServiceLifecycle

/// A gRPC server on HTTP/2.
///
///     let server = try Server(.tcp(host: "127.0.0.1", port: 50051), services: [EchoService()])
///     try await server.run()
///
/// It is a `Service` of swift-service-lifecycle: in a `ServiceGroup` a signal drains it. It installs no signal handler
/// itself. Thread-safe.
public final class Server: Service, Sendable {
    private enum Start: Sendable {
        case notStarted([CheckedContinuation<SocketAddress, any Error>])
        case starting([CheckedContinuation<SocketAddress, any Error>])
        case listening(SocketAddress)
        case failed(RPCError)
    }

    private let address: ListenAddress
    private let core: ServerCore
    private let services: ServedServices
    private let eventLoops: EventLoopGroup
    private let tls: TLSContextSource?
    private let logger: Logger
    private let start = Lock(Start.notStarted([]))

    /// Prepares a server; it listens from ``run()`` or ``listen()`` on.
    ///
    /// - Parameters:
    ///   - address: where to listen.
    ///   - services: what to serve.
    ///   - security: whether connections are protected by TLS. In plaintext beyond the machine itself is the choice of
    ///     whoever has a proxy or a network that protects them; it is logged.
    ///   - configuration: limits, windows and times.
    ///   - eventLoops: the threads it runs on; by default those that all of the process shares.
    ///   - logger: where it logs.
    /// - Throws: `INVALID_ARGUMENT`: a configuration value out of range, a method that is registered twice, or TLS that
    ///   cannot be loaded, with the file and what is wrong with it.
    public init(
        _ address: ListenAddress,
        services: [any RPCService],
        security: ServerSecurity = .plaintext,
        configuration: ServerConfiguration = ServerConfiguration(),
        eventLoops: EventLoopGroup = .shared,
        logger: Logger = Logger(label: "apus.server")
    ) throws(RPCError) {
        var registry = MethodRegistry(configuration)
        for service in services { service.register(with: &registry) }
        if let problem = configuration.firstProblem ?? registry.firstProblem {
            throw RPCError(code: .invalidArgument, message: "the server cannot be made: \(problem)")
        }
        switch security {
        case .plaintext: tls = nil
        case .tls(let configuration):
            tls = try TLSContextSource(loading: "the TLS of the server at \(address)") { () throws(TLSError) in
                try TLSContext(configuration)
            }
        }
        self.address = address
        self.eventLoops = eventLoops
        self.logger = logger
        self.services = registry.services
        self.core = ServerCore(
            methods: registry.methods,
            limits: configuration.limits,
            encodings: configuration.encodings,
            loops: eventLoops.loops,
            tls: tls,
            logger: logger
        )
    }

    /// Reads certificates, keys and roots anew from the files of ``ServerSecurity/tls(_:)``. Connections that exist go
    /// on as they are; new ones use what was read. Blocks while it reads files; does nothing in plaintext.
    ///
    /// - Throws: `INVALID_ARGUMENT` with the file and what is wrong with it; then everything stays as it was.
    public func reloadTLS() throws(RPCError) {
        try tls?.reload(describedAs: "the TLS of the server at \(address)")
    }

    /// Gives new connections another TLS configuration; those that exist go on as they are.
    ///
    /// - Throws: `INVALID_ARGUMENT` when it cannot be loaded, then everything stays as it was; `FAILED_PRECONDITION`
    ///   for a server in plaintext.
    public func replaceTLS(_ configuration: ServerTLS) throws(RPCError) {
        guard let tls else {
            throw RPCError(code: .failedPrecondition, message: "the server at \(address) serves plaintext")
        }
        try tls.replace(describedAs: "the TLS of the server at \(address)") { () throws(TLSError) in
            try TLSContext(configuration)
        }
    }

    /// Listens and serves until the server has stopped: by ``beginGracefulShutdown()``, a graceful shutdown of the
    /// task's `ServiceGroup`, ``stop()``, or the cancellation of the task, which stops at once.
    ///
    /// - Throws: ``RPCError`` when it cannot listen: `UNAVAILABLE` with the address and the system's reason.
    public func run() async throws {
        try await listen()
        await withTaskCancellationHandler {
            await withGracefulShutdownHandler {
                await core.waitUntilStopped()
            } onGracefulShutdown: {
                self.beginGracefulShutdown()
            }
        } onCancel: {
            stop()
        }
        logger.info("stopped", metadata: ["address": "\(whereItListens)"])
    }

    /// Listens and returns; calls are served from then on. For who does not want a task for the server.
    ///
    /// - Returns: where it listens.
    /// - Throws: ``RPCError``: `UNAVAILABLE` when it cannot listen, `FAILED_PRECONDITION` when it was started before.
    @discardableResult
    public func listen() async throws -> SocketAddress {
        let refusal: RPCError? = start.withLock { start in
            switch start {
            case .notStarted(let waiting):
                start = .starting(waiting)
                return nil
            case .failed(let error): return error
            case .starting, .listening:
                return RPCError(code: .failedPrecondition, message: "the server at \(address) was started before")
            }
        }
        if let refusal { throw refusal }
        do throws(RPCError) {
            let local = try await bind()
            let security = tls == nil ? "plaintext" : "TLS"
            logger.info("listening", metadata: ["address": "\(local)", "security": "\(security)"])
            if tls == nil, !local.isLoopback {
                logger.notice(
                    "serving plaintext beyond this machine: whoever is on the way can read and change everything",
                    metadata: ["address": "\(local)"]
                )
            }
            settle(.listening(local))
            return local
        } catch {
            settle(.failed(error))
            throw error
        }
    }

    /// Where the server listens, with the port that the kernel chose for port 0. Waits until it listens.
    ///
    /// - Throws: what kept it from listening.
    public var listeningAddress: SocketAddress {
        get async throws {
            try await withCheckedThrowingContinuation { continuation in
                let result: Result<SocketAddress, any Error>? = start.withLock { start in
                    switch start {
                    case .notStarted(let waiting): start = .notStarted(waiting + [continuation])
                    case .starting(let waiting): start = .starting(waiting + [continuation])
                    case .listening(let address): return .success(address)
                    case .failed(let error): return .failure(error)
                    }
                    return nil
                }
                if let result { continuation.resume(with: result) }
            }
        }
    }

    /// Serves a connected stream socket beside those that the server accepts: one end of a socket pair, or a socket
    /// that a supervisor passed on. The server owns the descriptor from here on.
    ///
    /// - Throws: ``SystemError`` when it is not a connected socket.
    public func adopt(connectedSocket descriptor: Int32) throws(SystemError) {
        try core.adopt(descriptor)
    }

    /// The number of connections that are open.
    public var connections: Int { core.connections }

    /// Takes no more connections and calls, tells the clients (GOAWAY), and lets the calls that run end; those that
    /// have not within ``ServerConfiguration/shutdownGracePeriod`` are cancelled. Returns at once; harmless when
    /// repeated.
    public func beginGracefulShutdown() {
        giveUpListening()
        logger.info("shutting down", metadata: ["address": "\(whereItListens)"])
        services.shutdownBegins()
        core.beginDraining()
    }

    /// Cancels every call and closes every connection. Returns at once; harmless when repeated.
    public func stop() {
        giveUpListening()
        services.shutdownBegins()
        core.stop()
    }

    /// Waits until the server has stopped.
    public func waitUntilStopped() async { await core.waitUntilStopped() }

    private func bind() async throws(RPCError) -> SocketAddress {
        switch address {
        case .unix(let path): return try core.listen(on: .unix(path: path))
        case .unixAbstract(let name): return try core.listen(on: .unixAbstract(name: name))
        case .tcp(let host, let port):
            let candidates: [SocketAddress]
            do {
                candidates = try await NameResolver.resolve(host: host, port: port)
            } catch {
                let message = "could not listen on \(address): \(error)"
                throw RPCError(code: .unavailable, message: message, cause: error)
            }
            var firstError: RPCError?
            for candidate in candidates {
                do {
                    return try core.listen(on: candidate)
                } catch {
                    firstError = firstError ?? error
                }
            }
            throw firstError ?? RPCError(code: .unavailable, message: "could not listen on \(address): no address")
        }
    }

    /// A server that is stopped before it was told to listen never will: who waits for its address learns that.
    private func giveUpListening() {
        let error = RPCError(code: .unavailable, message: "the server at \(address) was stopped before it listened")
        let waiting = start.withLock { start in
            guard case .notStarted(let waiting) = start else {
                return [CheckedContinuation<SocketAddress, any Error>]()
            }
            start = .failed(error)
            return waiting
        }
        for continuation in waiting { continuation.resume(throwing: error) }
    }

    /// For a log line: the address that the kernel gave, once there is one.
    private var whereItListens: String {
        start.withLock { start in
            if case .listening(let local) = start { "\(local)" } else { "\(address)" }
        }
    }

    private func settle(_ result: Start) {
        let waiting = start.withLock { start in
            guard case .starting(let waiting) = start else { return [CheckedContinuation<SocketAddress, any Error>]() }
            start = result
            return waiting
        }
        for continuation in waiting {
            switch result {
            case .listening(let address): continuation.resume(returning: address)
            case .failed(let error): continuation.resume(throwing: error)
            case .notStarted, .starting: break
            }
        }
    }
}
