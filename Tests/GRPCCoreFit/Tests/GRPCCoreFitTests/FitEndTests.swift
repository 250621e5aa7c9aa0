import ApusBase
import ApusTransport
import GRPCCore
import GRPCCoreFit
import Testing

/// Ends that come from outside of a call: it is cancelled, its time is up, a side shuts down or is not there.
@Suite(.timeLimit(.minutes(1))) struct FitEndTests {
    @Test(arguments: FitTests.executors)
    func `the cancellation of the client's task reaches the handler`(executor: HandlerExecutor) async throws {
        try await withFitPair(handlersOn: executor) { pair in
            let (began, hasBegun) = AsyncStream<Void>.makeStream()
            let call = Task {
                await error {
                    try await pair.stream("Wait") { _ in
                        try await Task.sleep(for: .seconds(3600))
                    } onResponse: { response in
                        for try await _ in response.messages { hasBegun.yield() }
                    }
                }
            }
            for await _ in began { break }
            call.cancel()
            #expect(await call.value?.code == .cancelled)
            try await eventually("the handler is cancelled") { !pair.notes.all.isEmpty }
            #expect(pair.notes.all == ["cancelled: true, task: true"])
        }
    }

    @Test func `a response that is not read to its end cancels the call`() async throws {
        try await withFitPair { pair in
            try await pair.stream("Wait") { _ in
            } onResponse: { response in
                for try await text in response.messages {
                    #expect(text == "began")
                    break
                }
            }
            try await eventually("the handler is cancelled") { !pair.notes.all.isEmpty }
            #expect(pair.notes.all == ["cancelled: true, task: true"])
        }
    }

    @Test func `a stream ends with the closure that it was opened for, kept or not`() async throws {
        try await withFitPair { pair in
            let kept = try await pair.clientTransport.withStream(
                descriptor: FitService.method("Wait"),
                options: .defaults
            ) { stream, _ in
                try await stream.outbound.write(.metadata([:]))
                var parts = stream.inbound.makeAsyncIterator()
                #expect(try await parts.next() == .metadata([:]))
                #expect(try await parts.next() == .message(Array("began".utf8)))
                return stream
            }
            try await eventually("the handler is cancelled") { !pair.notes.all.isEmpty }
            let failure = await error { try await kept.outbound.write(.message([])) }
            #expect(failure?.code == .cancelled)
        }
    }

    @Test func `a deadline ends the call at both ends`() async throws {
        try await withFitPair { pair in
            // On a machine that is busy the first may pass before the handler has begun.
            for timeout in [Duration.milliseconds(200), .seconds(2), .seconds(10)] where pair.notes.all.isEmpty {
                var options = CallOptions.defaults
                options.timeout = timeout
                let (began, hasBegun) = AsyncStream<Bool>.makeStream()
                let failure = await error { [options] in
                    try await pair.stream("Wait", options: options) { _ in
                    } onResponse: { response in
                        for try await _ in response.messages { hasBegun.yield(true) }
                    }
                }
                #expect(failure?.code == .deadlineExceeded)
                hasBegun.finish()
                if await began.contains(true) {
                    try await eventually("the handler is cancelled") { !pair.notes.all.isEmpty }
                }
            }
            #expect(Set(pair.notes.all) == ["cancelled: true, task: true"])
        }
    }

    @Test func `a call that runs when the server shuts down goes on to its end`() async throws {
        try await withFitPair { pair in
            let (turns, turn) = AsyncStream<String>.makeStream()
            turn.yield("one")
            let received = try await pair.stream("Update") { writer in
                for await text in turns { try await writer.write(text) }
            } onResponse: { response in
                var received: [String] = []
                for try await text in response.messages {
                    received.append(text)
                    if received.count == 1 {
                        pair.server.beginGracefulShutdown()
                        turn.yield("two")
                        turn.finish()
                    }
                }
                return received
            }
            #expect(received == ["one", "two"])
        }
    }

    @Test func `a client that is shut down opens no stream, and waits for those that are open`() async throws {
        try await withFitPair { pair in
            let received = try await pair.stream("Update") {
                try await $0.write("one")
            } onResponse: { response in
                pair.client.beginGracefulShutdown()
                var received: [String] = []
                for try await text in response.messages { received.append(text) }
                return received
            }
            #expect(received == ["one"])
        }
        let transport = try ApusClientTransport("ipv4:127.0.0.1:1", logger: silentLogger)
        transport.beginGracefulShutdown()
        try await transport.connect()
        let failure = await error {
            try await transport.withStream(descriptor: FitService.method("Get"), options: .defaults) { _, _ in }
        }
        #expect(failure?.code == .failedPrecondition)
    }

    @Test func `a server that is not there is UNAVAILABLE`() async throws {
        let transport = try ApusClientTransport("ipv4:127.0.0.1:1", logger: silentLogger)
        try await withGRPCClient(transport: transport) { client in
            let failure = await error {
                try await client.unary(
                    request: ClientRequest(message: "m"),
                    descriptor: FitService.method("Get"),
                    serializer: TextCoding(),
                    deserializer: TextCoding(),
                    options: .defaults
                ) { try $0.message }
            }
            #expect(failure?.code == .unavailable)
        }
    }

    @Test func `a target that is none is refused`() async throws {
        #expect(await error { try ApusClientTransport("nowhere", logger: silentLogger) }?.code == .invalidArgument)
    }

    @Test func `a transport that cannot listen says why`() async throws {
        let transport = ApusServerTransport(address: .unix(path: "/missing/folder/socket"), logger: silentLogger)
        let failure = await error { try await transport.listen { _, _ in } }
        #expect(failure?.code == .unavailable)
        #expect(failure?.message.contains("/missing/folder/socket") == true)
        #expect(await error { try await transport.listeningAddress }?.code == .failedPrecondition)
    }
}
