import Apus
import EchoV1
import Foundation
import Testing

// The quick start of README.md, compiled and run; the last test holds the two to each other.

private struct Echo: Echo_V1_EchoService.Handler {
    func get(_ request: Echo_V1_EchoRequest, context: CallContext) async throws -> Echo_V1_EchoResponse {
        guard !request.text.isEmpty else { throw RPCError(code: .invalidArgument, message: "the text is empty") }
        context.addTrailers(["characters": "\(request.text.count)"])
        return .with { $0.text = request.text }
    }

    func expand(
        _ request: Echo_V1_EchoRequest,
        responses: ResponseWriter<Echo_V1_EchoResponse>,
        context: CallContext
    ) async throws {
        for word in request.text.split(separator: " ") {
            // Suspends while the client reads more slowly than this writes.
            try await responses.write(.with { $0.text = String(word) })
        }
    }

    func collect(
        _ requests: RequestStream<Echo_V1_EchoRequest>,
        context: CallContext
    ) async throws -> Echo_V1_EchoResponse {
        var words: [String] = []
        // What is not read is not asked for: the client waits.
        for try await request in requests { words.append(request.text) }
        return .with { $0.text = words.joined(separator: " ") }
    }

    func update(
        _ requests: RequestStream<Echo_V1_EchoRequest>,
        responses: ResponseWriter<Echo_V1_EchoResponse>,
        context: CallContext
    ) async throws {
        for try await request in requests { try await responses.write(.with { $0.text = request.text }) }
    }
}

private func quickStart() async throws {
    let server = try Server(.tcp(host: "127.0.0.1", port: 50051), services: [Echo()])
    try await server.run()
}

private func makeSecuredServer() throws {
    var tls = ServerTLS(credentials: [.pem(chainFile: "server.pem", keyFile: "server.key")])
    tls.clientCertificates = .required(.file("clients-ca.pem"))  // mutual TLS; context.tls?.peer says who calls
    let secured = try Server(.tcp(host: "0.0.0.0", port: 443), services: [Echo()], security: .tls(tls))
    try secured.reloadTLS()  // reads all files anew; connections that exist go on
}

private func makeChannel() throws -> Channel {
    let channel = try Channel("dns:///localhost:50051")  // connects when first used; there is no task to keep alive
    return channel
}

private func callServer(over channel: Channel) async throws {
    let echo = Echo_V1_EchoService.Client(channel)

    let reply = try await echo.get(.with { $0.text = "hi" }, options: .timeout(.seconds(1)))
    print(reply.text)

    for try await part in echo.expand(.with { $0.text = "one two three" }) { print(part.text) }

    let dialogue = echo.update()
    try await dialogue.requests.write(.with { $0.text = "are you there?" })
    print(try await dialogue.responses.next()?.text ?? "the server has nothing more to say")
    dialogue.requests.finish()

    let response = await echo.getWithMetadata(.with { $0.text = "hi" }, options: .metadata(["tenant": "a"]))
    print(response.initialMetadata, response.trailers, try response.message.text)
}

private func callServerBlocking(over channel: Channel) throws {
    let blocking = Echo_V1_EchoService.BlockingClient(channel)
    let answer = try blocking.get(.with { $0.text = "hi" })
    print(answer.text)
}

private func callServerCompressed(_ echo: Echo_V1_EchoService.Client, _ request: Echo_V1_EchoRequest) async throws {
    // A client, by the call; for all calls: the configuration's requestCompression.
    let short = try await echo.get(request, options: .compression(.gzip))
    print(short.text)
}

private func answerCompressed(
    _ secret: Echo_V1_EchoResponse,
    _ responses: ResponseWriter<Echo_V1_EchoResponse>,
    _ context: CallContext
) async throws {
    // A handler, if the client accepts it; for all calls: the configuration's responseCompression.
    context.setResponseCompression(.gzip)
    // On either side, for a single message of a stream:
    try await responses.write(secret, compressed: false)
}

@Suite struct QuickStartTests {
    @Test func `the server of the quick start listens`() async throws {
        let server = try Server(.tcp(host: "127.0.0.1", port: 0), services: [Echo()])
        async let ended: Void = server.run()
        guard case .ipv4("127.0.0.1", let port) = try await server.listeningAddress else {
            Issue.record("it listens on another kind of address")
            return
        }
        #expect(port > 0)
        server.beginGracefulShutdown()
        try await ended
    }

    @Test func `the client of the quick start calls the server of the quick start`() async throws {
        let server = try Server(.tcp(host: "127.0.0.1", port: 0), services: [Echo()])
        let address = try await server.listen()
        #expect(throws: Never.self) { try makeChannel() }
        #expect(throws: RPCError.self) { try makeSecuredServer() }
        let channel = try Channel("\(address)")
        defer { channel.close() }
        try await callServer(over: channel)
        let long = Echo_V1_EchoRequest.with { $0.text = String(repeating: "again ", count: 1000) }
        try await callServerCompressed(Echo_V1_EchoService.Client(channel), long)
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            Thread.detachNewThread { continuation.resume(with: Result { try callServerBlocking(over: channel) }) }
        }
        server.stop()
    }

    @Test func `the quick start of README is the code that is compiled here`() throws {
        func lines(_ text: some StringProtocol) -> [String] {
            text.split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
        }
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let readme = try String(contentsOf: root.appending(path: "README.md"), encoding: .utf8)
        let blocks = readme.components(separatedBy: "```").filter { $0.hasPrefix("swift\n") }
            // That of ConcurrentMap is compiled with its tests.
            .filter { !$0.contains("import ConcurrentMap") }
        #expect(blocks.count == 5)
        let block = blocks.map { $0.dropFirst("swift\n".count) }.joined(separator: "\n")
        let here = try String(contentsOf: URL(filePath: #filePath), encoding: .utf8)
        let compiled = Set(lines(here.replacing("private struct Echo", with: "struct Echo")))
        let missing = lines(block).filter { !compiled.contains($0) }
        #expect(missing.isEmpty)
        #expect(lines(block).count > 45)
    }
}
