internal import ApusBase
internal import ApusTransport

/// What a service is, for those who ask a running server: its name, and the proto files that define it. Generated.
public struct ServiceDescriptor: Sendable {
    /// One proto file, as protoc understood it.
    public struct File: Sendable {
        /// The path by which other files import it, such as `echo/v1/echo.proto`.
        public let name: String
        private let base64: String

        /// - Parameters:
        ///   - name: the path by which other files import it.
        ///   - base64: a `google.protobuf.FileDescriptorProto`, encoded; generated code holds it as text because the
        ///     compiler takes long over large arrays.
        public init(name: String, base64: String) {
            self.name = name
            self.base64 = base64
        }

        /// The file as a serialized `google.protobuf.FileDescriptorProto`; empty if it was made from something that is
        /// not base64. Decoded in each call.
        public var serialized: [UInt8] { Base64.decode(Array(base64.utf8).span) ?? [] }
    }

    /// The service's full name, such as `echo.v1.EchoService`.
    public let name: String
    /// The file that the service is in and all that it imports, each after its own imports.
    public let files: [File]

    public init(name: String, files: [File]) {
        self.name = name
        self.files = files
    }
}

/// The services of one server, for a service that tells clients about the others, such as health or reflection: it
/// keeps this when it is registered and looks when it is called. Complete when the server is made. Thread-safe.
public final class ServedServices: Sendable {
    private struct State {
        var names: Set<String> = []
        var descriptors: [ServiceDescriptor] = []
        var isShuttingDown = false
        var observers: [@Sendable () -> Void] = []
    }

    private let state = Lock(State())

    init() {}

    /// The full names of all services that have a method, sorted.
    public var names: [String] { state.withLock { $0.names.sorted() } }

    /// What services said of themselves, in the order of registration.
    public var descriptors: [ServiceDescriptor] { state.withLock { $0.descriptors } }

    /// Whether a service of that full name has a method.
    public func contains(_ name: String) -> Bool { state.withLock { $0.names.contains(name) } }

    /// Calls something when the server begins to shut down, gracefully or not: once, on the thread that tells it to; at
    /// once when it has begun. What it calls must not block.
    public func whenShutdownBegins(_ body: @escaping @Sendable () -> Void) {
        let hasBegun = state.withLock { state in
            if !state.isShuttingDown { state.observers.append(body) }
            return state.isShuttingDown
        }
        if hasBegun { body() }
    }

    func add(method: MethodDescriptor) { state.withLock { _ = $0.names.insert(method.service) } }
    func add(_ descriptor: ServiceDescriptor) { state.withLock { $0.descriptors.append(descriptor) } }

    func shutdownBegins() {
        let observers = state.withLock { state in
            defer { state.observers = [] }
            state.isShuttingDown = true
            return state.observers
        }
        for observer in observers { observer() }
    }
}
