import Apus
import Glibc
import ServiceLifecycle
import TestSupport
import Testing

/// The end of a server (`rule 25`).
@Suite(.timeLimit(.minutes(1))) struct ServerShutdownTests {
    /// A client with a call under way that waits in its handler.
    private func withRunningCall(
        grace: Duration?,
        _ body: @escaping @Sendable (Server, BlockingClient, UInt32, Signal) throws -> Void
    ) async throws -> [String] {
        let (go, notes) = (Signal(), Notes())
        var configuration = ServerConfiguration()
        configuration.shutdownGracePeriod = grace
        let services: [any RPCService] = [TestService.waiting(go, notes), TestService.echo]
        let server = try makeServer(.tcp(host: "127.0.0.1", port: 0), services, configuration: configuration)
        guard case .ipv4(_, let port) = try await server.listen() else { return [] }
        try await withClient(port) { client in
            #expect(try client.call("/t/Unary").status == 0)
            let stream = try client.open("/t/Wait")
            try client.send(.data(stream, framed([1]), endStream: true))
            while !notes.all.contains("began") { usleep(1000) }
            try body(server, client, stream, go)
        }
        go.send()
        server.stop()
        await server.waitUntilStopped()
        await eventually("the handler's end") { notes.all.count == 2 }
        return notes.all
    }

    @Test func `a graceful shutdown lets calls end, says GOAWAY in two steps and closes`() async throws {
        let notes = try await withRunningCall(grace: .seconds(3600)) { server, client, stream, go in
            server.beginGracefulShutdown()
            server.beginGracefulShutdown()
            try client.wait(for: "both GOAWAYs") { $0.goAways.count == 2 }
            #expect(client.output.goAways[0].last == 0x7FFF_FFFF)
            #expect(client.output.goAways[1].last == stream)
            #expect(client.output.goAways.allSatisfy { $0.code == ErrorCode.noError })
            #expect(!client.answer(stream).isOver)
            go.send()
            let answer = try client.waitForEnd(of: stream)
            #expect(answer.status == 0)
            try client.waitUntilClosed()
        }
        #expect(notes == ["began", "ended"])
    }

    @Test func `a call that comes between the two GOAWAYs is served`() async throws {
        _ = try await withRunningCall(grace: .seconds(3600)) { server, client, stream, go in
            client.answersPings = false
            server.beginGracefulShutdown()
            try client.wait(for: "the first GOAWAY and its PING") { $0.goAways.count == 1 && $0.pings.count == 1 }
            #expect(try client.call("/t/Unary").status == 0)
            try client.send(Frame(type: Frame.ping, flags: Frame.ackFlag, payload: client.output.pings[0]))
            try client.wait(for: "the second GOAWAY") { $0.goAways.count == 2 }
            #expect(client.output.goAways[1].last == stream + 2)
            go.send()
            try client.waitForEnd(of: stream)
            try client.waitUntilClosed()
        }
    }

    @Test func `new connections are not taken while calls end`() async throws {
        _ = try await withRunningCall(grace: .seconds(3600)) { server, client, stream, go in
            server.beginGracefulShutdown()
            try client.wait(for: "both GOAWAYs") { $0.goAways.count == 2 }
            go.send()
            try client.waitUntilClosed()
        }
    }

    @Test func `calls that outlast the grace period are cancelled`() async throws {
        let notes = try await withRunningCall(grace: .milliseconds(50)) { server, client, stream, _ in
            server.beginGracefulShutdown()
            let answer = try client.waitForEnd(of: stream)
            #expect(answer.reset == ErrorCode.cancel)
            try client.waitUntilClosed()
        }
        #expect(notes == ["began", "cancelled"])
    }

    @Test func `stop ends calls and connections at once`() async throws {
        let notes = try await withRunningCall(grace: nil) { server, client, stream, _ in
            server.stop()
            server.stop()
            let answer = try client.waitForEnd(of: stream)
            #expect(answer.reset == ErrorCode.cancel)
            try client.waitUntilClosed()
        }
        #expect(notes == ["began", "cancelled"])
    }

    @Test func `stop ends a graceful shutdown`() async throws {
        _ = try await withRunningCall(grace: nil) { server, client, stream, _ in
            server.beginGracefulShutdown()
            try client.wait(for: "both GOAWAYs") { $0.goAways.count == 2 }
            server.stop()
            #expect(try client.waitForEnd(of: stream).reset == ErrorCode.cancel)
            try client.waitUntilClosed()
        }
    }

    @Test func `a connection without calls closes at once, one without a preface too`() async throws {
        let server = try makeServer()
        guard case .ipv4(_, let port) = try await server.listen() else { return }
        try await onThread {
            let idle = try BlockingClient(descriptor: BlockingClient.connect(port: port))
            #expect(try idle.call("/t/Unary").status == 0)
            let silent = try BlockingClient.connect(port: port)
            while server.connections < 2 { usleep(1000) }
            server.beginGracefulShutdown()
            try idle.waitUntilClosed()
            var byte: UInt8 = 0
            // SAFETY: one byte, of a local.
            let count = unsafe read(silent, &byte, 1)
            #expect(count <= 0)
            close(silent)
        }
        await server.waitUntilStopped()
        #expect(server.connections == 0)
    }

    @Test func `run returns when a graceful shutdown is over`() async throws {
        let server = try makeServer()
        let running = Task { try await server.run() }
        _ = try await server.listeningAddress
        server.beginGracefulShutdown()
        try await running.value
    }

    @Test func `to cancel the task of run stops the server`() async throws {
        let (go, notes) = (Signal(), Notes())
        let server = try makeServer(.tcp(host: "127.0.0.1", port: 0), [TestService.waiting(go, notes)])
        let running = Task { try await server.run() }
        guard case .ipv4(_, let port) = try await server.listeningAddress else { return }
        try await withClient(port) { client in
            let stream = try client.open("/t/Wait")
            try client.send(.data(stream, framed([1]), endStream: true))
            while notes.all != ["began"] { usleep(1000) }
            running.cancel()
            #expect(try client.waitForEnd(of: stream).reset == ErrorCode.cancel)
            try client.waitUntilClosed()
        }
        try await running.value
        go.send()
    }

    @Test func `a task that was cancelled before it runs the server returns`() async throws {
        let server = try makeServer()
        let running = Task {
            while !Task.isCancelled { await Task.yield() }
            try? await server.run()
        }
        running.cancel()
        await running.value
    }

    @Test func `a ServiceGroup's graceful shutdown drains it`() async throws {
        let (go, notes) = (Signal(), Notes())
        let server = try makeServer(
            .tcp(host: "127.0.0.1", port: 0),
            [TestService.waiting(go, notes), TestService.echo]
        )
        let group = ServiceGroup(configuration: .init(services: [.init(service: server)], logger: silentLogger))
        let running = Task { try await group.run() }
        guard case .ipv4(_, let port) = try await server.listeningAddress else { return }
        try await withClient(port) { client in
            let stream = try client.open("/t/Wait")
            try client.send(.data(stream, framed([1]), endStream: true))
            while notes.all != ["began"] { usleep(1000) }
            let triggered = Signal()
            Task {
                await group.triggerGracefulShutdown()
                triggered.send()
            }
            try client.wait(for: "both GOAWAYs") { $0.goAways.count == 2 }
            go.send()
            #expect(try client.waitForEnd(of: stream).status == 0)
            try client.waitUntilClosed()
            #expect(triggered.block())
        }
        try await running.value
        #expect(notes.all == ["began", "ended"])
    }

    @Test func `a server whose loops are shut down ends, and its calls with it`() async throws {
        let (go, notes) = (Signal(), Notes())
        let loops = try EventLoopGroup(threads: 2, logger: silentLogger)
        let server = try makeServer(
            .tcp(host: "127.0.0.1", port: 0),
            [TestService.waiting(go, notes)],
            eventLoops: loops
        )
        let running = Task { try await server.run() }
        guard case .ipv4(_, let port) = try await server.listeningAddress else { return }
        try await withClient(port) { client in
            let stream = try client.open("/t/Wait")
            try client.send(.data(stream, framed([1]), endStream: true))
            while notes.all != ["began"] { usleep(1000) }
            loops.shutdown()
            try client.waitUntilClosed()
        }
        try await running.value
        #expect(server.connections == 0)
        go.send()
    }

    @Test func `servers that share loops end one by one`() async throws {
        let loops = try EventLoopGroup(threads: 2, logger: silentLogger)
        let first = try makeServer(eventLoops: loops)
        let second = try makeServer(eventLoops: loops)
        guard case .ipv4(_, let port) = try await first.listen(),
            case .ipv4(_, let otherPort) = try await second.listen()
        else { return }
        #expect(try await withClient(port) { try $0.call("/t/Unary").status } == 0)
        first.stop()
        await first.waitUntilStopped()
        await #expect(throws: BlockingClient.Failure.self) { try await withClient(port) { _ in } }
        #expect(try await withClient(otherPort) { try $0.call("/t/Unary").status } == 0)
        second.stop()
        await second.waitUntilStopped()
        try await onThread { loops.shutdown() }
    }
}
