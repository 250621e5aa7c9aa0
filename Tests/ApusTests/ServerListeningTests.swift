import Apus
import Glibc
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(1))) struct ServerListeningTests {
    @Test func `a server on TCP answers`() async throws {
        try await withServer { server, port in
            let answers = try await withClient(port) { client in
                try ["Sync", "Unary", "Update"].map { try client.call("/t/\($0)", ["hello"]).text }
            }
            #expect(answers == ["hello", "hello", "hello"])
            #expect(try await server.listeningAddress == .ipv4(host: "127.0.0.1", port: port))
        }
    }

    @Test func `a server on a unix socket answers, and takes its file away`() async throws {
        let path = "/tmp/\(uniqueName("socket"))"
        let server = try makeServer(.unix(path: path))
        #expect(try await server.listen() == .unix(path: path))
        let answer = try await onThread {
            try BlockingClient(descriptor: BlockingClient.connect(path: path)).call("/t/Unary", ["hello"]).text
        }
        #expect(answer == "hello")
        server.stop()
        await server.waitUntilStopped()
        // SAFETY: the path is a string of Swift's, which the call sees for its length.
        let isThere = unsafe access(path, F_OK) == 0
        #expect(!isThere)
    }

    @Test func `a socket that was adopted is served, without a listener`() async throws {
        let server = try makeServer()
        let (mine, its) = try BlockingClient.socketPair()
        try server.adopt(connectedSocket: its)
        let answer = try await onThread { try BlockingClient(descriptor: mine).call("/t/Unary", ["hello"]).text }
        #expect(answer == "hello")
        await eventually("the connection's end") { server.connections == 0 }
        server.stop()
        await server.waitUntilStopped()
    }

    @Test func `a socket that is not connected is an error, and stays the caller's`() throws {
        let server = try makeServer()
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        let error = #expect(throws: SystemError.self) { try server.adopt(connectedSocket: descriptor) }
        #expect(error?.errnoValue == ENOTCONN)
        let closed = close(descriptor)
        #expect(closed == 0)
        #expect(server.connections == 0)
    }

    @Test func `what is no socket is an error`() async {
        await #expect(processExitsWith: .success) {
            let server = try makeServer()
            var pipes: [Int32] = [-1, -1]
            // SAFETY: room for two.
            guard unsafe pipe(&pipes) == 0 else { exit(2) }
            do {
                try server.adopt(connectedSocket: pipes[0])
                exit(3)
            } catch {
                exit(0)
            }
        }
    }

    @Test func `to listen twice is FAILED_PRECONDITION`() async throws {
        try await withServer { server, _ in
            let error = await #expect(throws: RPCError.self) { try await server.listen() }
            #expect(error?.code == .failedPrecondition)
            await #expect(throws: RPCError.self) { try await server.run() }
        }
    }

    @Test func `a port in use is UNAVAILABLE, and its text names the address and the reason`() async throws {
        try await withServer { _, port in
            let second = try makeServer(.tcp(host: "127.0.0.1", port: port))
            let error = await #expect(throws: RPCError.self) { try await second.run() }
            #expect(error?.code == .unavailable)
            #expect(error?.message.contains("127.0.0.1:\(port)") == true)
            #expect(error?.message.contains("Address already in use") == true)
            // Who waits for the address hears the same, and so does who asks later.
            let later = await #expect(throws: RPCError.self) { try await second.listeningAddress }
            #expect(later?.message == error?.message)
        }
    }

    @Test(arguments: [
        ListenAddress.tcp(host: "192.0.2.1", port: 0), .unix(path: "/nonexistent/directory/socket"),
        .unix(path: String(repeating: "x", count: 200)), .unixAbstract(name: String(repeating: "x", count: 200)),
    ])
    func `an address that cannot be had is UNAVAILABLE`(address: ListenAddress) async throws {
        let server = try makeServer(address)
        let error = await #expect(throws: RPCError.self) { try await server.listen() }
        #expect(error?.code == .unavailable)
        #expect(error?.cause != nil)
    }

    @Test func `who asks for the address before the server listens waits for it`() async throws {
        let server = try makeServer()
        async let first = server.listeningAddress
        async let second = server.listeningAddress
        try await Task.sleep(for: .milliseconds(5))
        let address = try await server.listen()
        let heard = try await [first, second]
        #expect(heard == [address, address])
        #expect(try await server.listeningAddress == address)
        server.stop()
        await server.waitUntilStopped()
    }

    @Test func `who waits for the address of a server that fails hears why`() async throws {
        let server = try makeServer(.unix(path: "/nonexistent/directory/socket"))
        let waiting = Task { try await server.listeningAddress }
        await #expect(throws: RPCError.self) { try await server.run() }
        await #expect(throws: RPCError.self) { try await waiting.value }
    }

    @Test func `a server that was stopped before it listened does not listen`() async throws {
        let server = try makeServer()
        server.stop()
        await server.waitUntilStopped()
        let error = await #expect(throws: RPCError.self) { try await server.listen() }
        #expect(error?.code == .unavailable)
    }

    @Test func `connections over the limit wait, and are taken when there is room`() async throws {
        var configuration = ServerConfiguration()
        configuration.maxConnections = 2
        try await withServer(configuration: configuration) { server, port in
            try await onThread {
                var clients = try (0..<2).map { _ in
                    try BlockingClient(descriptor: BlockingClient.connect(port: port))
                }
                for client in clients { #expect(try client.call("/t/Unary").status == 0) }
                let waiting = try (0..<3).map { _ in
                    let client = try BlockingClient(descriptor: BlockingClient.connect(port: port))
                    try client.send(
                        .headers(client.newStream(), .request("/t/Unary")),
                        .data(1, framed([1]), endStream: true)
                    )
                    return client
                }
                #expect(server.connections == 2)
                clients.removeAll()
                try waiting[0].waitForEnd(of: 1)
                try waiting[1].waitForEnd(of: 1)
                #expect(server.connections <= 2)
                waiting[0].closeWriting()
                try waiting[2].waitForEnd(of: 1)
            }
        }
    }

    @Test func `connections that come and go leave none behind`() async throws {
        try await withServer { server, port in
            for _ in 0..<20 {
                let statuses = try await onThread {
                    try (0..<10).map { _ in
                        try BlockingClient(descriptor: BlockingClient.connect(port: port)).call("/t/Unary").status
                    }
                }
                #expect(statuses.allSatisfy { $0 == 0 })
            }
            await eventually("all connections' ends") { server.connections == 0 }
        }
    }

    @Test func `a server that nobody holds any more does not take the process down`() async {
        await #expect(processExitsWith: .success) {
            func listen() async throws -> UInt16 {
                let server = try makeServer()
                guard case .ipv4(_, let port) = try await server.listen() else { exit(2) }
                return port
            }
            let port = try await listen()
            try await onThread {
                // Whether it is served or refused is for the documentation to say.
                let client = try? BlockingClient(descriptor: BlockingClient.connect(port: port))
                _ = try? client?.call("/t/Unary")
            }
            exit(0)
        }
    }
}
