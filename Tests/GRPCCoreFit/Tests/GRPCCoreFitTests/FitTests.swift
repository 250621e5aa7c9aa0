import ApusTransport
import GRPCCore
import GRPCCoreFit
import Testing

/// GRPCCore's own client and server over both transports: what a call carries, and how it ends.
@Suite(.timeLimit(.minutes(1))) struct FitTests {
    static let executors = [HandlerExecutor.eventLoop, .globalConcurrent]

    @Test(arguments: executors)
    func `a unary call carries its message, and metadata both ways`(executor: HandlerExecutor) async throws {
        try await withFitPair(handlersOn: executor) { pair in
            let metadata: Metadata = ["a": "1", "b-bin": [0, 255], "a": "2"]
            let response = try await pair.unary("Get", "ä", metadata: metadata)
            #expect(try response.message == "got ä")
            for returned in [response.metadata, response.trailingMetadata] {
                #expect(Array(returned[stringValues: "a"]) == ["1", "2"])
                #expect(Array(returned[binaryValues: "b-bin"]) == [[0, 255]])
            }
        }
    }

    @Test(arguments: executors)
    func `in a bidirectional call each message is answered before the next is sent`(
        executor: HandlerExecutor
    ) async throws {
        try await withFitPair(handlersOn: executor) { pair in
            let (turns, turn) = AsyncStream<Int>.makeStream()
            turn.yield(0)
            let trailers = try await pair.stream("Update") { writer in
                for await number in turns { try await writer.write("\(number)") }
            } onResponse: { response in
                var received = 0
                var trailers = Metadata()
                for try await part in try response.accepted.get().bodyParts {
                    switch part {
                    case .message(let text):
                        #expect(text == "\(received)")
                        received += 1
                        if received < 500 { turn.yield(received) } else { turn.finish() }
                    case .trailingMetadata(let metadata): trailers = metadata
                    }
                }
                #expect(received == 500)
                return trailers
            }
            #expect(Array(trailers[stringValues: "count"]) == ["500"])
        }
    }

    @Test(arguments: executors)
    func `a stream of more than the windows hold flows through`(executor: HandlerExecutor) async throws {
        try await withFitPair(handlersOn: executor) { pair in
            let message = String(repeating: "x", count: 200_000)
            let count = try await pair.stream("Update") { writer in
                for _ in 0..<50 { try await writer.write(message) }
            } onResponse: { response in
                var count = 0
                for try await text in response.messages {
                    #expect(text.utf8.count == 200_000)
                    count += 1
                }
                return count
            }
            #expect(count == 50)
        }
    }

    @Test func `many calls share the connection`() async throws {
        try await withFitPair { pair in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for index in 0..<300 {
                    group.addTask {
                        let answer = try await pair.message("Get", "\(index)")
                        #expect(answer == "got \(index)")
                    }
                }
                try await group.waitForAll()
            }
        }
    }

    @Test func `an error ahead of everything is a response that was not accepted`() async throws {
        try await withFitPair { pair in
            let response = try await pair.unary("Refuse")
            guard case .failure(let error) = response.accepted else {
                Issue.record("accepted: \(response)")
                return
            }
            #expect(error.code == .notFound)
            #expect(error.message == "no such thing: ä")
            #expect(Array(error.metadata[binaryValues: "reason-bin"]) == [[0, 255]])
        }
    }

    @Test func `an error behind a message comes after both, with its metadata`() async throws {
        try await withFitPair { pair in
            try await pair.stream("FailLate") { _ in
            } onResponse: { response in
                let contents = try response.accepted.get()
                #expect(Array(contents.metadata[stringValues: "early"]) == ["yes"])
                var received: [String] = []
                let failure = await error {
                    for try await text in response.messages { received.append(text) }
                }
                #expect(received == ["one"])
                #expect(failure?.code == .dataLoss)
                #expect(failure?.message == "lost the rest")
                #expect(failure.map { Array($0.metadata[stringValues: "late"]) } == ["yes"])
            }
        }
    }

    @Test func `GRPCCore answers what it does not serve`() async throws {
        try await withFitPair { pair in
            let failure = await error { try await pair.message("Missing") }
            #expect(failure?.code == .unimplemented)
            #expect(failure?.message == "Requested RPC isn't implemented by this server.")
        }
    }

    @Test func `a request that does not deserialize fails the call with the error of the service`() async throws {
        try await withFitPair { pair in
            // "got !" is a good answer; the request "!" cannot be made by the serializer that the service knows.
            let failure = await error {
                try await pair.client.unary(
                    request: ClientRequest(message: "!"),
                    descriptor: FitService.method("Get"),
                    serializer: AnythingGoes(),
                    deserializer: TextCoding(),
                    options: .defaults
                ) { try $0.message }
            }
            #expect(failure?.code == .invalidArgument)
            #expect(failure?.message == "not to be deserialized")
        }
    }

    @Test func `a request that does not serialize cancels the call`() async throws {
        try await withFitPair { pair in
            let failure = await error {
                try await pair.stream("Wait") {
                    try await $0.write("!")
                } onResponse: { response in
                    for try await _ in response.messages {}
                }
            }
            #expect(failure?.code == .cancelled)
        }
    }

    @Test func `the limit of a response holds`() async throws {
        try await withFitPair { pair in
            var options = CallOptions.defaults
            options.maxResponseMessageBytes = 10
            let answer = try await pair.message("Get", "123456", options: options)
            #expect(answer == "got 123456")
            let failure = await error { try await pair.message("Get", "1234567", options: options) }
            #expect(failure?.code == .resourceExhausted)
        }
    }

    @Test func `GRPCCore retries a call that was refused`() async throws {
        try await withFitPair { pair in
            var options = CallOptions.defaults
            options.executionPolicy = .retry(
                RetryPolicy(
                    maxAttempts: 3,
                    initialBackoff: .milliseconds(1),
                    maxBackoff: .milliseconds(10),
                    backoffMultiplier: 2,
                    retryableStatusCodes: [.unavailable]
                )
            )
            let answer = try await pair.message("EverySecond", options: options)
            #expect(answer == "at last")
            #expect(pair.notes.all.count == 2)
            #expect(await error { try await pair.message("EverySecond") }?.code == .unavailable)
        }
    }

    @Test func `the context of a handler names the method and the peers`() async throws {
        try await withFitPair { pair in
            let words = try await pair.message("Peers").split(separator: " ")
            #expect(words.count == 3)
            #expect(words.first == "fit.v1.FitService/Peers")
            #expect(words.dropFirst().allSatisfy { $0.hasPrefix("ipv4:127.0.0.1:") })
        }
    }
}

private struct AnythingGoes: MessageSerializer {
    func serialize<Bytes: GRPCContiguousBytes>(_ text: String) throws -> Bytes { Bytes(text.utf8) }
}
