// The stub of echo.proto, written by hand in the shape that the generator is to produce.

public import Apus
internal import ApusProtobuf

/// Sends text back, in each of gRPC's four call shapes.
public enum Echo_V1_EchoService {
    /// The service's full name.
    public static let name = "echo.v1.EchoService"

    /// The methods of the service.
    public enum Method {
        public static let get = MethodDescriptor(service: name, method: "Get")
        public static let expand = MethodDescriptor(service: name, method: "Expand")
        public static let collect = MethodDescriptor(service: name, method: "Collect")
        public static let update = MethodDescriptor(service: name, method: "Update")
    }

    /// What a server of the service implements.
    ///
    /// The handlers run on the loop of the connection that the call came by, unless ``options(for:)`` says otherwise.
    public protocol Handler: RPCService {
        /// Returns the text of the request.
        func get(_ request: Echo_V1_EchoRequest, context: CallContext) async throws -> Echo_V1_EchoResponse

        /// Splits the text of the request at white space and streams back each word.
        func expand(
            _ request: Echo_V1_EchoRequest,
            responses: ResponseWriter<Echo_V1_EchoResponse>,
            context: CallContext
        ) async throws

        /// Joins the texts of all requests with a space.
        func collect(
            _ requests: RequestStream<Echo_V1_EchoRequest>,
            context: CallContext
        ) async throws -> Echo_V1_EchoResponse

        /// Returns the text of each request as it comes.
        func update(
            _ requests: RequestStream<Echo_V1_EchoRequest>,
            responses: ResponseWriter<Echo_V1_EchoResponse>,
            context: CallContext
        ) async throws

        /// How a method is served, where that differs from the server's configuration.
        func options(for method: MethodDescriptor) -> MethodOptions
    }

    /// What a server implements whose unary handlers do not suspend: they run without a task, as soon as their request
    /// is whole, and hold their loop while they run.
    public protocol SynchronousHandler: RPCService {
        /// Returns the text of the request.
        func get(_ request: Echo_V1_EchoRequest, context: CallContext) throws -> Echo_V1_EchoResponse

        /// Splits the text of the request at white space and streams back each word.
        func expand(
            _ request: Echo_V1_EchoRequest,
            responses: ResponseWriter<Echo_V1_EchoResponse>,
            context: CallContext
        ) async throws

        /// Joins the texts of all requests with a space.
        func collect(
            _ requests: RequestStream<Echo_V1_EchoRequest>,
            context: CallContext
        ) async throws -> Echo_V1_EchoResponse

        /// Returns the text of each request as it comes.
        func update(
            _ requests: RequestStream<Echo_V1_EchoRequest>,
            responses: ResponseWriter<Echo_V1_EchoResponse>,
            context: CallContext
        ) async throws

        /// How a method is served, where that differs from the server's configuration.
        func options(for method: MethodDescriptor) -> MethodOptions
    }
}

extension Echo_V1_EchoService.Handler {
    public func options(for method: MethodDescriptor) -> MethodOptions { MethodOptions() }

    public func register(with registry: inout MethodRegistry) {
        let get = Echo_V1_EchoService.Method.get
        registry.unary(
            get,
            request: ProtobufCodec<Echo_V1_EchoRequest>(),
            response: ProtobufCodec<Echo_V1_EchoResponse>(),
            options: options(for: get)
        ) { request, context in
            try await self.get(request, context: context)
        }
        let expand = Echo_V1_EchoService.Method.expand
        registry.serverStreaming(
            expand,
            request: ProtobufCodec<Echo_V1_EchoRequest>(),
            response: ProtobufCodec<Echo_V1_EchoResponse>(),
            options: options(for: expand)
        ) { request, responses, context in
            try await self.expand(request, responses: responses, context: context)
        }
        let collect = Echo_V1_EchoService.Method.collect
        registry.clientStreaming(
            collect,
            request: ProtobufCodec<Echo_V1_EchoRequest>(),
            response: ProtobufCodec<Echo_V1_EchoResponse>(),
            options: options(for: collect)
        ) { requests, context in
            try await self.collect(requests, context: context)
        }
        let update = Echo_V1_EchoService.Method.update
        registry.bidirectionalStreaming(
            update,
            request: ProtobufCodec<Echo_V1_EchoRequest>(),
            response: ProtobufCodec<Echo_V1_EchoResponse>(),
            options: options(for: update)
        ) { requests, responses, context in
            try await self.update(requests, responses: responses, context: context)
        }
    }
}

extension Echo_V1_EchoService.SynchronousHandler {
    public func options(for method: MethodDescriptor) -> MethodOptions { MethodOptions() }

    public func register(with registry: inout MethodRegistry) {
        let get = Echo_V1_EchoService.Method.get
        registry.synchronousUnary(
            get,
            request: ProtobufCodec<Echo_V1_EchoRequest>(),
            response: ProtobufCodec<Echo_V1_EchoResponse>(),
            options: options(for: get)
        ) { request, context in
            try self.get(request, context: context)
        }
        let expand = Echo_V1_EchoService.Method.expand
        registry.serverStreaming(
            expand,
            request: ProtobufCodec<Echo_V1_EchoRequest>(),
            response: ProtobufCodec<Echo_V1_EchoResponse>(),
            options: options(for: expand)
        ) { request, responses, context in
            try await self.expand(request, responses: responses, context: context)
        }
        let collect = Echo_V1_EchoService.Method.collect
        registry.clientStreaming(
            collect,
            request: ProtobufCodec<Echo_V1_EchoRequest>(),
            response: ProtobufCodec<Echo_V1_EchoResponse>(),
            options: options(for: collect)
        ) { requests, context in
            try await self.collect(requests, context: context)
        }
        let update = Echo_V1_EchoService.Method.update
        registry.bidirectionalStreaming(
            update,
            request: ProtobufCodec<Echo_V1_EchoRequest>(),
            response: ProtobufCodec<Echo_V1_EchoResponse>(),
            options: options(for: update)
        ) { requests, responses, context in
            try await self.update(requests, responses: responses, context: context)
        }
    }
}

// MARK: - Clients

extension Echo_V1_EchoService {
    /// Calls the service. A value, cheap to make and to copy; thread-safe.
    public struct Client: Sendable {
        /// The channel that the calls go over.
        public let channel: Channel

        public init(_ channel: Channel) { self.channel = channel }

        /// Returns the text of the request.
        public func get(
            _ request: Echo_V1_EchoRequest,
            options: CallOptions = CallOptions()
        ) async throws(RPCError) -> Echo_V1_EchoResponse {
            try await channel.unary(
                Method.get,
                request,
                requestCodec: ProtobufCodec<Echo_V1_EchoRequest>(),
                responseCodec: ProtobufCodec<Echo_V1_EchoResponse>(),
                options: options
            )
        }

        /// Returns the text of the request, with the metadata that came along.
        public func getWithMetadata(
            _ request: Echo_V1_EchoRequest,
            options: CallOptions = CallOptions()
        ) async -> UnaryResponse<Echo_V1_EchoResponse> {
            await channel.unaryWithMetadata(
                Method.get,
                request,
                requestCodec: ProtobufCodec<Echo_V1_EchoRequest>(),
                responseCodec: ProtobufCodec<Echo_V1_EchoResponse>(),
                options: options
            )
        }

        /// Splits the text of the request at white space and streams back each word.
        public func expand(
            _ request: Echo_V1_EchoRequest,
            options: CallOptions = CallOptions()
        ) -> ResponseStream<Echo_V1_EchoResponse> {
            channel.serverStreaming(
                Method.expand,
                request,
                requestCodec: ProtobufCodec<Echo_V1_EchoRequest>(),
                responseCodec: ProtobufCodec<Echo_V1_EchoResponse>(),
                options: options
            )
        }

        /// Joins the texts of all requests with a space.
        public func collect(
            options: CallOptions = CallOptions()
        ) -> ClientStreamingCall<Echo_V1_EchoRequest, Echo_V1_EchoResponse> {
            channel.clientStreaming(
                Method.collect,
                requestCodec: ProtobufCodec<Echo_V1_EchoRequest>(),
                responseCodec: ProtobufCodec<Echo_V1_EchoResponse>(),
                options: options
            )
        }

        /// Returns the text of each request as it comes.
        public func update(
            options: CallOptions = CallOptions()
        ) -> BidirectionalCall<Echo_V1_EchoRequest, Echo_V1_EchoResponse> {
            channel.bidirectionalStreaming(
                Method.update,
                requestCodec: ProtobufCodec<Echo_V1_EchoRequest>(),
                responseCodec: ProtobufCodec<Echo_V1_EchoResponse>(),
                options: options
            )
        }
    }

    /// Calls the service from a thread that blocks meanwhile. A value, cheap to make and to copy; thread-safe.
    public struct BlockingClient: Sendable {
        /// The channel that the calls go over.
        public let channel: Channel

        public init(_ channel: Channel) { self.channel = channel }

        /// Returns the text of the request.
        @available(*, noasync, message: "it blocks the thread; use Client")
        public func get(
            _ request: Echo_V1_EchoRequest,
            options: CallOptions = CallOptions()
        ) throws(RPCError) -> Echo_V1_EchoResponse {
            try channel.blockingUnary(
                Method.get,
                request,
                requestCodec: ProtobufCodec<Echo_V1_EchoRequest>(),
                responseCodec: ProtobufCodec<Echo_V1_EchoResponse>(),
                options: options
            )
        }

        /// Returns the text of the request, with the metadata that came along.
        @available(*, noasync, message: "it blocks the thread; use Client")
        public func getWithMetadata(
            _ request: Echo_V1_EchoRequest,
            options: CallOptions = CallOptions()
        ) -> UnaryResponse<Echo_V1_EchoResponse> {
            channel.blockingUnaryWithMetadata(
                Method.get,
                request,
                requestCodec: ProtobufCodec<Echo_V1_EchoRequest>(),
                responseCodec: ProtobufCodec<Echo_V1_EchoResponse>(),
                options: options
            )
        }

        /// Splits the text of the request at white space and streams back each word.
        @available(*, noasync, message: "its stream blocks the thread; use Client")
        public func expand(
            _ request: Echo_V1_EchoRequest,
            options: CallOptions = CallOptions()
        ) -> BlockingResponseStream<Echo_V1_EchoResponse> {
            channel.blockingServerStreaming(
                Method.expand,
                request,
                requestCodec: ProtobufCodec<Echo_V1_EchoRequest>(),
                responseCodec: ProtobufCodec<Echo_V1_EchoResponse>(),
                options: options
            )
        }

        /// Joins the texts of all requests with a space.
        @available(*, noasync, message: "it blocks the thread; use Client")
        public func collect(
            options: CallOptions = CallOptions()
        ) -> BlockingClientStreamingCall<Echo_V1_EchoRequest, Echo_V1_EchoResponse> {
            channel.blockingClientStreaming(
                Method.collect,
                requestCodec: ProtobufCodec<Echo_V1_EchoRequest>(),
                responseCodec: ProtobufCodec<Echo_V1_EchoResponse>(),
                options: options
            )
        }

        /// Returns the text of each request as it comes.
        @available(*, noasync, message: "it blocks the thread; use Client")
        public func update(
            options: CallOptions = CallOptions()
        ) -> BlockingBidirectionalCall<Echo_V1_EchoRequest, Echo_V1_EchoResponse> {
            channel.blockingBidirectionalStreaming(
                Method.update,
                requestCodec: ProtobufCodec<Echo_V1_EchoRequest>(),
                responseCodec: ProtobufCodec<Echo_V1_EchoResponse>(),
                options: options
            )
        }
    }
}
