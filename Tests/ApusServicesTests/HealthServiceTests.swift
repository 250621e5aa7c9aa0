import Apus
import ApusServices
import Logging
import Testing

@Suite(.timeLimit(.minutes(1))) struct HealthServiceTests {
    private let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    private struct Other: RPCService {
        func register(with registry: inout MethodRegistry) {
            let method = MethodDescriptor(service: "other.Service", method: "M")
            registry.synchronousUnary(method, request: BytesCodec(), response: BytesCodec()) { bytes, _ in bytes }
        }
    }

    private func withHealth(
        _ body: (HealthService, Server, Grpc_Health_V1_Health.Client) async throws -> Void
    ) async throws {
        let health = HealthService()
        // Registered before the other: it must not matter.
        let server = try Server(.tcp(host: "127.0.0.1", port: 0), services: [health, Other()], logger: logger)
        let channel = try Channel("\(try await server.listen())", logger: logger)
        try await body(health, server, Grpc_Health_V1_Health.Client(channel))
        server.stop()
        await server.waitUntilStopped()
    }

    /// The code that something fails with.
    private func code(_ body: () async throws -> Void) async -> StatusCode? {
        do {
            try await body()
            return nil
        } catch {
            return (error as? RPCError)?.code
        }
    }

    @Test func `services of the server serve until they are set otherwise`() async throws {
        try await withHealth { health, _, client in
            #expect(health.status(of: "other.Service") == .serving)
            health.set(.notServing, for: "other.Service")
            let status1 = try await client.check(.with { $0.service = "other.Service" }).status
            #expect(status1 == .notServing)
            let status2 = try await client.check(.init()).status
            #expect(status2 == .serving)
            health.reset("other.Service")
            #expect(health.status(of: "other.Service") == .serving)
            health.set(.unknown)
            let status3 = try await client.check(.init()).status
            #expect(status3 == .unknown)
        }
    }

    @Test func `a service of another server is known while it is set`() async throws {
        try await withHealth { health, _, client in
            #expect(health.status(of: "far.Away") == nil)
            health.set(.serving, for: "far.Away")
            let status4 = try await client.list(.init()).statuses["far.Away"]?.status
            #expect(status4 == .serving)
            health.reset("far.Away")
            #expect(await code { _ = try await client.check(.with { $0.service = "far.Away" }) } == .notFound)
        }
    }

    @Test func `who watches is told of changes, and once of each`() async throws {
        try await withHealth { health, _, client in
            let watch = client.watch(.with { $0.service = "far.Away" })
            let status5 = try await watch.next()?.status
            #expect(status5 == .serviceUnknown)
            health.set(.notServing, for: "far.Away")
            let status6 = try await watch.next()?.status
            #expect(status6 == .notServing)
            health.set(.notServing, for: "far.Away")
            health.set(.serving, for: "far.Away")
            let status7 = try await watch.next()?.status
            #expect(status7 == .serving)
            health.reset("far.Away")
            let status8 = try await watch.next()?.status
            #expect(status8 == .serviceUnknown)
            watch.cancel()
        }
    }

    @Test func `when the server shuts down nothing serves, and watching ends`() async throws {
        try await withHealth { health, server, client in
            let watch = client.watch(.with { $0.service = "other.Service" })
            let status9 = try await watch.next()?.status
            #expect(status9 == .serving)
            server.beginGracefulShutdown()
            let status10 = try await watch.next()?.status
            #expect(status10 == .notServing)
            #expect(await code { _ = try await watch.next() } == .unavailable)
            #expect(health.status() == .notServing)
            health.set(.serving)
            #expect(health.status() == .notServing)
            await server.waitUntilStopped()
        }
    }

    @Test func `a watcher that does not read holds nobody up, and learns the newest when it does`() async throws {
        try await withHealth { health, _, client in
            let watch = client.watch(.with { $0.service = "far.Away" })
            #expect(try await watch.next()?.status == .serviceUnknown)
            for number in 0..<50_000 { health.set(number.isMultiple(of: 2) ? .serving : .notServing, for: "far.Away") }
            health.set(.unknown, for: "far.Away")
            var last: Grpc_Health_V1_HealthCheckResponse.ServingStatus?
            while last != .unknown, let next = try await watch.next() {
                #expect(next.status != last)
                last = next.status
            }
            #expect(last == .unknown)
        }
    }

    @Test func `no more than a hundred services are listed`() async throws {
        try await withHealth { health, _, client in
            // The server, its two services and these.
            for number in 0..<97 { health.set(.serving, for: "s\(number)") }
            let listed = try await client.list(.init()).statuses
            #expect(listed.count == 100)
            health.set(.serving, for: "one more")
            #expect(await code { _ = try await client.list(.init()) } == .resourceExhausted)
        }
    }
}
