internal import Apus
internal import ApusBase
internal import Foundation

/// Many calls at once: workers that make one after another, each a task or a thread. Requests come back as they were,
/// and every one is other than the rest.
final class Load: Sendable {
    private let command: Command
    private let channel: Channel
    private let codes = Lock<[String: Int]>([:])
    private let firstError = Lock<String?>(nil)
    private let mismatches = Lock(0)

    init(_ command: Command, _ channel: Channel) {
        self.command = command
        self.channel = channel
    }

    private var workers: Int { command.workers ?? 1 }

    func start() {
        let place = command.on ?? .task
        if command.blocking == true {
            Thread { self.runOnThreads() }.start()
        } else if place == .main {
            Task { @MainActor in await self.runInTasks() }
        } else if place == .loop {
            Task(executorPreference: channel.executor) { await self.runInTasks() }
        } else {
            Task.detached { await self.runInTasks() }
        }
    }

    private func runInTasks() async {
        let began = ContinuousClock.now
        await withDiscardingTaskGroup { group in
            for worker in 0..<workers {
                group.addTask { for call in self.numbers(worker) { await self.make(call) } }
            }
        }
        say(began)
    }

    private func runOnThreads() {
        let began = ContinuousClock.now
        let done = DispatchGroup()
        for worker in 0..<workers {
            done.enter()
            Thread {
                for call in self.numbers(worker) { self.makeBlocking(call) }
                done.leave()
            }.start()
        }
        done.wait()
        say(began)
    }

    private func numbers(_ worker: Int) -> Range<Int> {
        let calls = command.calls ?? 1
        return worker * calls..<(worker + 1) * calls
    }

    private func make(_ number: Int) async {
        let request = command.request(number)
        do throws(RPCError) {
            switch command.kind ?? .unary {
            case .unary: note(request, try await unary(request))
            case .server: note(request, try await serverStreaming(request))
            case .client: note(request, try await clientStreaming(request))
            case .bidi: note(request, try await bidirectionalStreaming(request))
            }
        } catch {
            note(error)
        }
    }

    private func makeBlocking(_ number: Int) {
        let request = command.request(number)
        do throws(RPCError) {
            switch command.kind ?? .unary {
            case .unary: note(request, try blockingUnary(request))
            case .server: note(request, try blockingServerStreaming(request))
            case .client: note(request, try blockingClientStreaming(request))
            case .bidi: note(request, try blockingBidirectionalStreaming(request))
            }
        } catch {
            note(error)
        }
    }

    private func note(_ request: [UInt8], _ answer: [UInt8]) {
        codes.withLock { $0["OK", default: 0] += 1 }
        if answer != request { mismatches.withLock { $0 += 1 } }
    }

    private func note(_ error: RPCError) {
        codes.withLock { $0["\(error.code)", default: 0] += 1 }
        firstError.withLock { if $0 == nil { $0 = "\(error)" } }
    }

    private func say(_ began: ContinuousClock.Instant) {
        Output.say(
            "summary",
            [
                "codes": .object(codes.withLock { $0 }.mapValues { .int($0) }),
                "mismatches": .int(mismatches.withLock { $0 }),
                "first_error": firstError.withLock { $0 }.map { .string($0) } ?? .null,
                "ms": .double((ContinuousClock.now - began) / .milliseconds(1)),
            ]
        )
    }
}

private let bytes = BytesCodec()

// One call of each kind, whose answer is what was sent, joined.
extension Load {
    private func unary(_ request: [UInt8]) async throws(RPCError) -> [UInt8] {
        try await channel.unary(
            command.method,
            request,
            requestCodec: bytes,
            responseCodec: bytes,
            options: command.options
        )
    }

    private func serverStreaming(_ request: [UInt8]) async throws(RPCError) -> [UInt8] {
        let responses = channel.serverStreaming(
            command.method,
            request,
            requestCodec: bytes,
            responseCodec: bytes,
            options: command.options
        )
        return try await joined(responses)
    }

    private func clientStreaming(_ request: [UInt8]) async throws(RPCError) -> [UInt8] {
        let call = channel.clientStreaming(
            command.method,
            requestCodec: bytes,
            responseCodec: bytes,
            options: command.options
        )
        try await call.requests.write(request)
        return try await call.response()
    }

    private func bidirectionalStreaming(_ request: [UInt8]) async throws(RPCError) -> [UInt8] {
        let call = channel.bidirectionalStreaming(
            command.method,
            requestCodec: bytes,
            responseCodec: bytes,
            options: command.options
        )
        try await call.requests.write(request)
        call.requests.finish()
        return try await joined(call.responses)
    }

    private func joined(_ responses: ResponseStream<[UInt8]>) async throws(RPCError) -> [UInt8] {
        var joined: [UInt8] = []
        while let response = try await responses.next() { joined += response }
        return joined
    }

    private func blockingUnary(_ request: [UInt8]) throws(RPCError) -> [UInt8] {
        try channel.blockingUnary(
            command.method,
            request,
            requestCodec: bytes,
            responseCodec: bytes,
            options: command.options
        )
    }

    private func blockingServerStreaming(_ request: [UInt8]) throws(RPCError) -> [UInt8] {
        let responses = channel.blockingServerStreaming(
            command.method,
            request,
            requestCodec: bytes,
            responseCodec: bytes,
            options: command.options
        )
        return try joined(responses)
    }

    private func blockingClientStreaming(_ request: [UInt8]) throws(RPCError) -> [UInt8] {
        let call = channel.blockingClientStreaming(
            command.method,
            requestCodec: bytes,
            responseCodec: bytes,
            options: command.options
        )
        try call.requests.write(request)
        return try call.response()
    }

    private func blockingBidirectionalStreaming(_ request: [UInt8]) throws(RPCError) -> [UInt8] {
        let call = channel.blockingBidirectionalStreaming(
            command.method,
            requestCodec: bytes,
            responseCodec: bytes,
            options: command.options
        )
        try call.requests.write(request)
        call.requests.finish()
        return try joined(call.responses)
    }

    private func joined(_ responses: BlockingResponseStream<[UInt8]>) throws(RPCError) -> [UInt8] {
        var joined: [UInt8] = []
        while let response = try responses.next() { joined += response }
        return joined
    }
}
