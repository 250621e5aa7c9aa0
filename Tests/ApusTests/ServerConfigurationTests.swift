import Apus
import Testing

@Suite struct ServerConfigurationTests {
    struct Field: Sendable {
        let name: String
        let values: [Int]
        let set: @Sendable (inout ServerConfiguration, Int) -> Void

        init(_ name: String, _ values: [Int], _ set: @escaping @Sendable (inout ServerConfiguration, Int) -> Void) {
            self.name = name
            self.values = values
            self.set = set
        }
    }

    private func problem(_ change: (inout ServerConfiguration) -> Void) -> String? {
        var configuration = ServerConfiguration()
        change(&configuration)
        do {
            _ = try makeServer(configuration: configuration)
            return nil
        } catch {
            #expect((error as? RPCError)?.code == .invalidArgument)
            return (error as? RPCError)?.message
        }
    }

    @Test(arguments: [
        Field("maxRequestBytes", [-1, 1 << 32]) { $0.maxRequestBytes = $1 },
        Field("maxResponseBytes", [-1, 1 << 32]) { $0.maxResponseBytes = $1 },
        Field("maxHeaderListBytes", [0, -5, 1 << 31]) { $0.maxHeaderListBytes = $1 },
        Field("maxHeaderFields", [0, 1 << 16]) { $0.maxHeaderFields = $1 },
        Field("streamWindowBytes", [0, -1, 1 << 31]) { $0.streamWindowBytes = $1 },
        Field("connectionWindowBytes", [65_534, 0, 1 << 31]) { $0.connectionWindowBytes = $1 },
        Field("connectionBufferBytes", [-1]) { $0.connectionBufferBytes = $1 },
        Field("sendQueueBytes", [0, -1]) { $0.sendQueueBytes = $1 },
        Field("maxConcurrentStreams", [0, 1 << 32]) { $0.maxConcurrentStreams = $1 },
        Field("maxHandlersPerConnection", [0, -1]) { $0.maxHandlersPerConnection = $1 },
        Field("connectionSendBufferBytes", [0, 65_535]) { $0.connectionSendBufferBytes = $1 },
        Field("serverBufferBytes", [0, 1_048_575]) { $0.serverBufferBytes = $1 },
        Field("maxEarlyCancellationsPerSecond", [0, -1, 1 << 31]) { $0.maxEarlyCancellationsPerSecond = $1 },
        Field("maxStreamErrorsPerSecond", [0, -1, 1 << 31]) { $0.maxStreamErrorsPerSecond = $1 },
        Field("maxEmptyFramesPerSecond", [0, -1, 1 << 31]) { $0.maxEmptyFramesPerSecond = $1 },
        Field("maxPingStrikes", [-1, 1 << 31]) { $0.maxPingStrikes = $1 },
    ])
    func `a number out of range is INVALID_ARGUMENT and names the field`(field: Field) {
        for value in field.values {
            let problem = problem { field.set(&$0, value) }
            #expect(problem?.contains("\(field.name) is \(value)") == true)
        }
    }

    @Test func `limits that may be absent may not be zero`() {
        #expect(problem { $0.maxHandlers = 0 }?.contains("maxHandlers is 0") == true)
        #expect(problem { $0.maxConnections = 0 }?.contains("maxConnections is 0") == true)
        #expect(
            problem {
                $0.maxHandlers = nil; $0.maxConnections = nil; $0.serverBufferBytes = nil
                $0.maxEarlyCancellationsPerSecond = nil; $0.maxStreamErrorsPerSecond = nil
                $0.maxEmptyFramesPerSecond = nil; $0.writeStallTimeout = nil; $0.keepaliveTime = nil
            } == nil
        )
    }

    @Test func `a time that no peer could keep to is INVALID_ARGUMENT and names the field`() {
        #expect(problem { $0.handshakeTimeout = .seconds(-1) }?.contains("handshakeTimeout") == true)
        #expect(problem { $0.handshakeTimeout = .zero }?.contains("handshakeTimeout") == true)
        #expect(problem { $0.shutdownGracePeriod = .seconds(-1) }?.contains("shutdownGracePeriod") == true)
        #expect(problem { $0.headerTimeout = .zero }?.contains("headerTimeout is") == true)
        #expect(problem { $0.writeStallTimeout = .zero }?.contains("writeStallTimeout is") == true)
        #expect(problem { $0.keepaliveTime = .zero }?.contains("keepaliveTime is") == true)
        #expect(problem { $0.keepaliveTimeout = .zero }?.contains("keepaliveTimeout is") == true)
        #expect(problem { $0.maxConnectionAge = .zero }?.contains("maxConnectionAge is") == true)
        #expect(problem { $0.maxConnectionIdle = .seconds(-1) }?.contains("maxConnectionIdle is") == true)
        #expect(problem { $0.maxConnectionAgeGrace = .seconds(-1) }?.contains("maxConnectionAgeGrace is") == true)
        #expect(problem { $0.minPingInterval = .seconds(-1) }?.contains("minPingInterval is") == true)
        #expect(problem { $0.shutdownGracePeriod = .zero } == nil)
        #expect(problem { $0.shutdownGracePeriod = nil } == nil)
    }

    @Test func `the edges of each range are in it`() {
        let edges: [(inout ServerConfiguration) -> Void] = [
            { $0.maxRequestBytes = 0 }, { $0.maxRequestBytes = Int(UInt32.max) }, { $0.maxResponseBytes = 0 },
            { $0.streamWindowBytes = 1 }, { $0.streamWindowBytes = Int(Int32.max) }, { $0.maxHandlers = 1 },
            { $0.connectionWindowBytes = 65_535 }, { $0.connectionWindowBytes = Int(Int32.max) },
            { $0.maxConcurrentStreams = 1 }, { $0.maxHeaderListBytes = 1024 }, { $0.sendQueueBytes = 1 },
            { $0.maxPingStrikes = 0 }, { $0.minPingInterval = .zero }, { $0.maxConnectionAgeGrace = .zero },
            { $0.serverBufferBytes = 1_048_576 }, { $0.connectionSendBufferBytes = 65_536 },
        ]
        for edge in edges { #expect(problem(edge) == nil) }
    }

    // MARK: Methods

    private func problem(registering registration: @escaping @Sendable (inout MethodRegistry) -> Void) -> String? {
        do {
            _ = try makeServer(.unix(path: "unused"), [TestService(registration)])
            return nil
        } catch {
            #expect((error as? RPCError)?.code == .invalidArgument)
            return (error as? RPCError)?.message
        }
    }

    private func register(_ service: String, _ name: String, _ options: MethodOptions = MethodOptions()) -> String? {
        problem { registry in
            let method = MethodDescriptor(service: service, method: name)
            registry.synchronousUnary(method, request: BytesCodec(), response: BytesCodec(), options: options) {
                bytes,
                _ in bytes
            }
        }
    }

    @Test func `a method that is registered twice is INVALID_ARGUMENT and named`() throws {
        let error = #expect(throws: RPCError.self) {
            _ = try makeServer(.unix(path: "unused"), [TestService.echo, TestService.echo])
        }
        #expect(error?.code == .invalidArgument)
        #expect(error?.message.contains("t/Sync is registered twice") == true)
    }

    @Test func `names that no path can have are INVALID_ARGUMENT`() {
        #expect(register("s", "M") == nil)
        for (service, name) in [("", "M"), ("s", ""), ("a/b", "M"), ("s", "M/N")] {
            #expect(register(service, name) != nil, "\(service) \(name)")
        }
    }

    @Test func `a method's own limits are held to the server's ranges`() {
        #expect(register("s", "M", MethodOptions(maxRequestBytes: 0, maxResponseBytes: 0)) == nil)
        #expect(register("s", "M", MethodOptions(maxRequestBytes: -1)) != nil)
        #expect(register("s", "M", MethodOptions(maxResponseBytes: -1)) != nil)
        // A prefix has 32 bits for a length.
        #expect(register("s", "M", MethodOptions(maxRequestBytes: 1 << 32)) != nil)
        #expect(register("s", "M", MethodOptions(maxResponseBytes: 1 << 32)) != nil)
    }
}
