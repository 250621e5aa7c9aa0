import ApusBase
import ApusEventLoop
import TestSupport
import Testing

@testable import ApusTransport

/// Unary call objects are used again: nothing of one call is left for the next.
@Suite(.timeLimit(.minutes(1))) struct PooledCallTests {
    /// What one call sends and gets, for the pool to mix.
    private enum Kind: CaseIterable {
        case plain, withMetadata, withDeadline, failed, trailersOnly, twoMessages, noMessage, refusedOnce, cancelled
        case tooLarge, reset
    }

    private func answer(_ kind: Kind, _ stream: UInt32, _ connection: FrameConnection) throws {
        let head = Frame.headers(stream, .responseHead + ["initial": "\(stream)"])
        let message = Frame.data(stream, framed(Array("m\(stream)".utf8)))
        let end = Frame.headers(stream, .trailers() + ["trailing": "\(stream)"], endStream: true)
        switch kind {
        case .plain, .withMetadata, .withDeadline, .refusedOnce: try connection.send(head, message, end)
        case .failed: try connection.send(head, message, .headers(stream, .trailers(5, "f\(stream)"), endStream: true))
        case .trailersOnly: try connection.refuse(stream, 9, "t\(stream)")
        case .twoMessages: try connection.send(head, message, message, end)
        case .noMessage: try connection.send(head, end)
        case .cancelled: try connection.send(head, message)
        case .tooLarge: try connection.send(head, .data(stream, [0] + bigEndian(1 << 30)))
        case .reset: try connection.send(head, message, .reset(stream, code: 11))
        }
    }

    private func expected(_ kind: Kind) -> StatusCode {
        switch kind {
        case .plain, .withMetadata, .withDeadline, .refusedOnce: .ok
        case .failed: .notFound
        case .trailersOnly: .failedPrecondition
        case .twoMessages, .noMessage: .unimplemented
        case .cancelled: .cancelled
        case .tooLarge, .reset: .resourceExhausted
        }
    }

    @Test func `whatever the last call was, the next is as the first`() async throws {
        try await withChannel(clock: ManualClock()) { client in
            let connection = try await client.connect()
            var random = RandomSource(seed: 3)
            var stream: UInt32 = 1
            for round in 0..<200 {
                let kind = Kind.allCases.randomElement(using: &random) ?? .plain
                var options = CallOptions()
                if kind == .withMetadata { options.metadata = ["k": "\(round)"] }
                if kind == .withDeadline { options.timeout = .seconds(1000) }
                let call = await client.beginUnary("r\(round)", options)
                var request = try await connection.waitForEnd(of: stream)
                if kind == .refusedOnce {
                    try connection.send(.reset(stream, code: ErrorCode.refusedStream))
                    stream += 2
                    request = try await connection.waitForEnd(of: stream)
                }
                #expect(request.texts == ["r\(round)"])
                #expect(request.head?["k"] == (kind == .withMetadata ? "\(round)" : nil))
                #expect((request.head?["grpc-timeout"] != nil) == (kind == .withDeadline))
                try answer(kind, stream, connection)
                if kind == .cancelled {
                    try await connection.roundTrip()
                    call.cancel()
                }
                let outcome = await call.value
                #expect(outcome.code == expected(kind), "round \(round), \(kind): \(outcome)")
                if expected(kind) == .ok { #expect(outcome.text == "m\(stream)") }
                if kind == .failed { #expect(outcome.message == "f\(stream)") }
                if kind == .trailersOnly { #expect(outcome.message == "t\(stream)") }
                #expect(outcome.error?.metadata["trailing"] == (expected(kind) == .unimplemented ? "\(stream)" : nil))
                stream += 2
            }
        }
    }

    @Test func `a response of a call is gone with it`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            for (index, text) in ["a long first answer", "", "b"].enumerated() {
                let call = await client.beginUnary()
                try await connection.waitForEnd(of: UInt32(2 * index + 1))
                try connection.answer(UInt32(2 * index + 1), text)
                #expect(await call.value.text == text)
            }
        }
    }

    @Test func `an object is used again, and is not while somebody has it`() async throws {
        try await withChannel { client in
            let channel = client.channel
            let first = channel.takeUnaryCall(.unary, CallOptions(timeout: .seconds(1), metadata: ["a": "b"]))
            let identity = ObjectIdentifier(first)
            let other = channel.takeUnaryCall(.unary, CallOptions())
            #expect(ObjectIdentifier(other) != identity)
            channel.giveUnaryCall(consume first)
            let options = CallOptions(waitForReady: true)
            let again = channel.takeUnaryCall(MethodDescriptor(service: "t", method: "Other"), options)
            #expect(ObjectIdentifier(again) == identity)
            #expect(again.method.method == "Other")
            #expect(again.setup.value.options == options)
            #expect(again.setup.value.deadline == .distantFuture)
            let held = again
            channel.giveUnaryCall(consume again)
            let fresh = channel.takeUnaryCall(.unary, CallOptions())
            #expect(ObjectIdentifier(fresh) != identity)
            withExtendedLifetime(held) {}
        }
    }

    @Test func `concurrent calls each get their own answer`() async throws {
        try await withChannel { client in
            let connection = try await client.connect()
            let server = Task { try await onThread { connection.echoBlocking() } }
            let wrong = Mutexed(0)
            await withTaskGroup(of: Void.self) { group in
                for task in 0..<8 {
                    group.addTask {
                        for index in 0..<100 {
                            let text = "\(task)-\(index)"
                            let outcome =
                                index % 3 == 0
                                ? await client.unaryWithMetadata(text)
                                : await client.unary(text, .metadata(["k": text]))
                            if outcome.text != text { wrong.update { $0 += 1 } }
                        }
                    }
                }
            }
            #expect(wrong.value == 0)
            client.channel.close()
            try await server.value
        }
    }
}
