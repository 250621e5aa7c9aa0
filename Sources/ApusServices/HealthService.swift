public import Apus
internal import ApusBase
internal import ApusServiceProtos

/// `grpc.health.v1.Health`: tells load balancers, supervisors and people whether a server's services work.
///
///     let health = HealthService()
///     let server = try Server(.tcp(host: "::", port: 50051), services: [echo, health])
///     health.set(.notServing, for: Echo_V1_EchoService.name)
///
/// Every service of the server is `SERVING` until it is set otherwise; so is the server itself, whose name is empty.
/// When the server begins to shut down, all of them become `NOT_SERVING` for good: who watches is told so, and its call
/// ends, so that it does not hold the shutdown up.
///
/// For one server. Thread-safe.
public final class HealthService: Sendable {
    /// What a service can be.
    public enum Status: Hashable, Sendable {
        case serving
        case notServing
        /// Nobody can tell.
        case unknown
    }

    /// The name that stands for the server as a whole.
    public static let wholeServer = ""

    private typealias Watcher = AsyncStream<Grpc_Health_V1_HealthCheckResponse.ServingStatus>.Continuation

    private struct State {
        /// What was set by hand.
        var statuses: [String: Status] = [:]
        var watchers: [String: [UInt64: Watcher]] = [:]
        var nextWatcher: UInt64 = 0
        var isShuttingDown = false
        /// Those of the server that this is registered with.
        var services: ServedServices?

        /// `nil` for a service that there is not.
        func status(of service: String) -> Status? {
            if let status = statuses[service] { return isShuttingDown ? .notServing : status }
            guard service == HealthService.wholeServer || services?.contains(service) == true else { return nil }
            return isShuttingDown ? .notServing : .serving
        }

        var names: Set<String> {
            Set(statuses.keys).union(services?.names ?? []).union([HealthService.wholeServer])
        }
    }

    private let state = Lock(State())

    public init() {}

    /// Says how a service does, to those who ask and those who watch. Without effect on the service itself.
    ///
    /// - Parameters:
    ///   - status: how it does.
    ///   - service: its full name, such as `echo.v1.EchoService`; it need not be a service of this server.
    public func set(_ status: Status, for service: String = HealthService.wholeServer) {
        state.withLock { state in
            state.statuses[service] = status
            Self.tellWatchers(of: service, state)
        }
    }

    /// Forgets what was set for a service: it is `SERVING` again if the server has it, and unknown otherwise.
    public func reset(_ service: String) {
        state.withLock { state in
            state.statuses[service] = nil
            Self.tellWatchers(of: service, state)
        }
    }

    /// How a service does; `nil` if there is none of that name.
    public func status(of service: String = HealthService.wholeServer) -> Status? {
        state.withLock { $0.status(of: service) }
    }

    private var allStatuses: [String: Status?] {
        state.withLock { state in
            Dictionary(uniqueKeysWithValues: state.names.map { ($0, state.status(of: $0)) })
        }
    }

    private static func tellWatchers(of service: String, _ state: State) {
        guard let watchers = state.watchers[service] else { return }
        let status = wire(state.status(of: service))
        for watcher in watchers.values { watcher.yield(status) }
    }

    private func shutdownBegins() {
        let ended = state.withLock { state in
            state.isShuttingDown = true
            for service in state.watchers.keys { Self.tellWatchers(of: service, state) }
            defer { state.watchers = [:] }
            return state.watchers.values.flatMap(\.values)
        }
        // Not under the lock, which the end of a stream takes.
        for watcher in ended { watcher.finish() }
    }

    /// The statuses of a service from now on; the newest alone waits to be read.
    private func watch(_ service: String) -> AsyncStream<Grpc_Health_V1_HealthCheckResponse.ServingStatus> {
        AsyncStream(bufferingPolicy: .bufferingNewest(1)) { watcher in
            let number: UInt64? = state.withLock { state in
                watcher.yield(wire(state.status(of: service)))
                if state.isShuttingDown { return nil }
                state.nextWatcher += 1
                state.watchers[service, default: [:]][state.nextWatcher] = watcher
                return state.nextWatcher
            }
            guard let number else { return watcher.finish() }
            watcher.onTermination = { [weak self] _ in
                self?.state.withLock { state in
                    state.watchers[service]?[number] = nil
                    if state.watchers[service]?.isEmpty == true { state.watchers[service] = nil }
                }
            }
        }
    }
}

extension HealthService: RPCService {
    public func register(with registry: inout MethodRegistry) {
        let services = registry.services
        state.withLock { $0.services = services }
        services.whenShutdownBegins { [weak self] in self?.shutdownBegins() }
        Handler(health: self).register(with: &registry)
    }

    private struct Handler: Grpc_Health_V1_Health.SynchronousHandler {
        let health: HealthService

        func check(
            _ request: Grpc_Health_V1_HealthCheckRequest,
            context: CallContext
        ) throws -> Grpc_Health_V1_HealthCheckResponse {
            guard let status = health.status(of: request.service) else {
                throw RPCError(code: .notFound, message: "there is no service \"\(request.service)\"")
            }
            return .with { $0.status = wire(status) }
        }

        func list(
            _ request: Grpc_Health_V1_HealthListRequest,
            context: CallContext
        ) throws -> Grpc_Health_V1_HealthListResponse {
            let statuses = health.allStatuses
            guard statuses.count <= listedServicesMax else {
                let message = "there are \(statuses.count) services, more than \(listedServicesMax)"
                throw RPCError(code: .resourceExhausted, message: message)
            }
            return .with { response in
                for (name, status) in statuses { response.statuses[name] = .with { $0.status = wire(status) } }
            }
        }

        func watch(
            _ request: Grpc_Health_V1_HealthCheckRequest,
            responses: ResponseWriter<Grpc_Health_V1_HealthCheckResponse>,
            context: CallContext
        ) async throws {
            var last: Grpc_Health_V1_HealthCheckResponse.ServingStatus?
            for await status in health.watch(request.service) where status != last {
                try await responses.write(.with { $0.status = status })
                last = status
            }
            try Task.checkCancellation()
            throw RPCError(code: .unavailable, message: "the server is shutting down")
        }
    }
}

/// More services than this are not listed (the protocol's rule).
private let listedServicesMax = 100

private func wire(_ status: HealthService.Status?) -> Grpc_Health_V1_HealthCheckResponse.ServingStatus {
    switch status {
    case .serving: .serving
    case .notServing: .notServing
    case .unknown: .unknown
    case nil: .serviceUnknown
    }
}
