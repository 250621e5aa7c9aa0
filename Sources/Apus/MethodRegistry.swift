internal import ApusTransport

/// A service as ``Server`` takes it: something that names its methods and their handlers.
public protocol RPCService: Sendable {
    /// Adds each method of the service; called once, when the server is made.
    func register(with registry: inout MethodRegistry)
}

/// How one method is served, where that differs from the server's configuration.
public struct MethodOptions: Hashable, Sendable {
    /// Where its asynchronous handler runs; `nil` for the server's choice.
    public var executor: HandlerExecutor?
    /// Largest request message accepted, in bytes; `nil` for the server's limit.
    public var maxRequestBytes: Int?
    /// Largest response message sent, in bytes; `nil` for the server's limit.
    public var maxResponseBytes: Int?

    public init(executor: HandlerExecutor? = nil, maxRequestBytes: Int? = nil, maxResponseBytes: Int? = nil) {
        self.executor = executor
        self.maxRequestBytes = maxRequestBytes
        self.maxResponseBytes = maxResponseBytes
    }
}

/// The methods of a server while it is made. Generated stubs fill it; a handler can be added by hand as well.
///
/// Handlers run on the loop of the connection that the call came by, unless options say otherwise: they must not block
/// it. An error that a handler throws ends the call: ``RPCError`` with its status, any other with `UNKNOWN`.
public struct MethodRegistry {
    private(set) var methods: [ServedMethod] = []
    /// All services of the server, complete once it is made.
    public let services = ServedServices()
    private let configuration: ServerConfiguration

    init(_ configuration: ServerConfiguration) { self.configuration = configuration }

    /// Says what a service is, for reflection. Generated stubs do it.
    public func describe(_ service: ServiceDescriptor) { services.add(service) }

    /// Adds a method that takes one request and gives one response.
    @inlinable
    public mutating func unary<Request: MessageCodec, Response: MessageCodec>(
        _ method: MethodDescriptor,
        request: Request,
        response: Response,
        options: MethodOptions = MethodOptions(),
        handler: @escaping @Sendable (Request.Message, CallContext) async throws -> Response.Message
    ) {
        addUnary(method, options) { bytes, context in
            let reply = try await handler(try request.decodeRequest(bytes, context), context)
            return try response.encodeResponse(reply, context)
        }
    }

    /// Adds a unary method whose handler does not suspend: it runs without a task, as soon as the request is whole.
    ///
    /// The cheapest way to serve a call. The handler holds its loop while it runs.
    @inlinable
    public mutating func synchronousUnary<Request: MessageCodec, Response: MessageCodec>(
        _ method: MethodDescriptor,
        request: Request,
        response: Response,
        options: MethodOptions = MethodOptions(),
        handler: @escaping @Sendable (Request.Message, CallContext) throws -> Response.Message
    ) {
        addSynchronousUnary(method, options) { bytes, context in
            let reply = try handler(try request.decodeRequest(bytes, context), context)
            return try response.encodeResponse(reply, context)
        }
    }

    /// Adds a method that takes many requests and gives one response.
    @inlinable
    public mutating func clientStreaming<Request: MessageCodec, Response: MessageCodec>(
        _ method: MethodDescriptor,
        request: Request,
        response: Response,
        options: MethodOptions = MethodOptions(),
        handler: @escaping @Sendable (RequestStream<Request.Message>, CallContext) async throws -> Response.Message
    ) {
        addClientStreaming(method, options) { context in
            let requests = RequestStream(context: context) { try request.decodeRequest($0, $1) }
            return try response.encodeResponse(try await handler(requests, context), context)
        }
    }

    /// Adds a method that takes one request and gives many responses.
    @inlinable
    public mutating func serverStreaming<Request: MessageCodec, Response: MessageCodec>(
        _ method: MethodDescriptor,
        request: Request,
        response: Response,
        options: MethodOptions = MethodOptions(),
        handler:
            @escaping @Sendable (Request.Message, ResponseWriter<Response.Message>, CallContext) async throws -> Void
    ) {
        addServerStreaming(method, options) { bytes, context in
            let responses = ResponseWriter<Response.Message>(context: context) { try response.encodeResponse($0, $1) }
            try await handler(try request.decodeRequest(bytes, context), responses, context)
        }
    }

    /// Adds a method that takes many requests and gives many responses, independently of each other.
    @inlinable
    public mutating func bidirectionalStreaming<Request: MessageCodec, Response: MessageCodec>(
        _ method: MethodDescriptor,
        request: Request,
        response: Response,
        options: MethodOptions = MethodOptions(),
        handler:
            @escaping @Sendable (
                RequestStream<Request.Message>, ResponseWriter<Response.Message>, CallContext
            ) async throws -> Void
    ) {
        addBidirectionalStreaming(method, options) { context in
            let requests = RequestStream(context: context) { try request.decodeRequest($0, $1) }
            let responses = ResponseWriter<Response.Message>(context: context) { try response.encodeResponse($0, $1) }
            try await handler(requests, responses, context)
        }
    }
}

// MARK: - Below the codec

extension MethodRegistry {
    @usableFromInline
    mutating func addUnary(
        _ method: MethodDescriptor,
        _ options: MethodOptions,
        _ handler: @escaping @Sendable ([UInt8], CallContext) async throws -> [UInt8]
    ) {
        add(method, options, .unary(handler))
    }

    @usableFromInline
    mutating func addSynchronousUnary(
        _ method: MethodDescriptor,
        _ options: MethodOptions,
        _ handler: @escaping @Sendable ([UInt8], CallContext) throws -> [UInt8]
    ) {
        add(method, options, .synchronousUnary(handler))
    }

    @usableFromInline
    mutating func addClientStreaming(
        _ method: MethodDescriptor,
        _ options: MethodOptions,
        _ handler: @escaping @Sendable (CallContext) async throws -> [UInt8]
    ) {
        add(method, options, .clientStreaming(handler))
    }

    @usableFromInline
    mutating func addServerStreaming(
        _ method: MethodDescriptor,
        _ options: MethodOptions,
        _ handler: @escaping @Sendable ([UInt8], CallContext) async throws -> Void
    ) {
        add(method, options, .serverStreaming(handler))
    }

    @usableFromInline
    mutating func addBidirectionalStreaming(
        _ method: MethodDescriptor,
        _ options: MethodOptions,
        _ handler: @escaping @Sendable (CallContext) async throws -> Void
    ) {
        add(method, options, .bidirectionalStreaming(handler))
    }

    private mutating func add(_ method: MethodDescriptor, _ options: MethodOptions, _ handler: MethodHandler) {
        services.add(method: method)
        methods.append(
            ServedMethod(
                descriptor: method,
                handler: handler,
                executor: options.executor ?? configuration.handlerExecutor,
                maxRequestBytes: options.maxRequestBytes ?? configuration.maxRequestBytes,
                maxResponseBytes: options.maxResponseBytes ?? configuration.maxResponseBytes
            )
        )
    }

    /// Why the methods cannot be served together, or `nil` when they can.
    var firstProblem: String? {
        var seen: Set<MethodDescriptor> = []
        for method in methods {
            let name = method.descriptor
            if name.service.isEmpty || name.method.isEmpty { return "a method has an empty name: \"\(name)\"" }
            if name.service.contains("/") || name.method.contains("/") { return "\"\(name)\" has a slash in a name" }
            if !seen.insert(name).inserted { return "\(name) is registered twice" }
            // A message's prefix has 32 bits for its length.
            let limits = 0...Int(UInt32.max)
            if !limits.contains(method.maxRequestBytes) || !limits.contains(method.maxResponseBytes) {
                return "\(name) has a limit of message bytes that is not \(limits.lowerBound) to \(limits.upperBound)"
            }
        }
        return nil
    }
}
