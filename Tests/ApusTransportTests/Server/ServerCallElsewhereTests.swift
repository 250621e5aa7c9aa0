import ApusBase
import ApusEventLoop
import Glibc
import TestSupport
import Testing

@testable import ApusTransport

/// Handlers, and tasks that handlers make, which read and write on other threads than the loop's.
@Suite(.timeLimit(.minutes(1))) struct ServerCallElsewhereTests {
    private func numbers(_ range: ClosedRange<Int>) -> [UInt8] { range.flatMap { framedText("\($0)") } }

    // MARK: Reading

    @Test func `every message is read once and in order on the global pool`() async throws {
        let update = method(
            "Update",
            .bidirectionalStreaming { call in
                while let message = try await call.next() { try await call.write(message) }
            },
            on: .globalConcurrent
        )
        var random = RandomSource(seed: 21)
        try await withSession([update]) { session in
            await session.receive(.headers(1, .request("/t/Update")))
            var next = 1
            while next <= 3000 {
                let last = min(3000, next + Int.random(in: 0...40, using: &random))
                await session.receive(.data(1, numbers(next...last), endStream: last == 3000))
                next = last + 1
            }
            await session.wait(for: "the answer") { $0.answers[1]?.isOver == true }
            #expect(await session.answer(1).texts == (1...3000).map { "\($0)" })
            #expect(await session.answer(1).status == 0)
        }
    }

    @Test(arguments: 1...3)
    func `reading here and there by turns keeps the order`(stride: Int) async throws {
        let mix = method(
            "Mix",
            .clientStreaming { call in
                var all: [String] = []
                for count in 0... {
                    let message =
                        count % (stride + 1) == 0
                        ? try await Task.detached { try await call.next() }.value : try await call.next()
                    guard let message else { break }
                    all.append(text(message))
                }
                return Array(all.joined(separator: " ").utf8)
            }
        )
        try await withSession([mix]) { session in
            await session.receive(.headers(1, .request("/t/Mix")), .data(1, numbers(1...10), endStream: true))
            await session.wait(for: "the answer") { $0.answers[1]?.isOver == true }
            #expect(await session.answer(1).text == (1...10).map { "\($0)" }.joined(separator: " "))
        }
    }

    @Test func `messages that a handler left unread elsewhere are not the next call's`() async throws {
        let first = method(
            "First",
            .clientStreaming { call in try await Task.detached { try await call.next() }.value ?? [] }
        )
        try await withSession([first]) { session in
            for index in 0..<4 {
                let stream = UInt32(index * 2 + 1)
                await session.receive(
                    .headers(stream, .request("/t/First")),
                    .data(stream, framedText("a\(index)") + framedText("b\(index)"), endStream: true)
                )
                await session.wait(for: "the answer") { $0.answers[stream]?.isOver == true }
                #expect(await session.answer(stream).text == "a\(index)")
            }
        }
    }

    @Test(arguments: [HandlerExecutor.eventLoop, .globalConcurrent])
    func `a child that is cancelled while it reads returns at once, and loses no message`(
        executor: HandlerExecutor
    ) async throws {
        let notes = Notes()
        let read = method(
            "Read",
            .clientStreaming { call in
                for _ in 0..<3 {
                    await withTaskGroup(of: String.self) { group in
                        group.addTask {
                            do { return text(try await call.next()) } catch { return describe(error) }
                        }
                        try? await Task.sleep(for: .milliseconds(2))
                        group.cancelAll()
                        for await result in group { notes.add(result) }
                    }
                }
                var all: [UInt8] = []
                while let message = try await call.next() { all += message }
                return all
            },
            on: executor
        )
        try await withSession([read]) { session in
            await session.receive(.headers(1, .request("/t/Read")))
            await eventually("three cancelled reads") { notes.all.count == 3 }
            #expect(notes.all == ["CANCELLED", "CANCELLED", "CANCELLED"])
            await session.receive(.data(1, numbers(1...5), endStream: true))
            await session.wait(for: "the answer") { $0.answers[1]?.isOver == true }
            #expect(await session.answer(1).text == "12345")
        }
    }

    @Test(arguments: [HandlerExecutor.eventLoop, .globalConcurrent])
    func `children cancelled at any moment lose no message`(executor: HandlerExecutor) async throws {
        let read = method(
            "Read",
            .clientStreaming { call in
                var all: [String] = []
                while true {
                    let result = await withTaskGroup(of: Result<[UInt8]?, any Error>.self) { group in
                        group.addTask { do { return .success(try await call.next()) } catch { return .failure(error) } }
                        for _ in 0..<(all.count % 7) { await Task.yield() }
                        group.cancelAll()
                        return await group.next()
                    }
                    guard case .success(let message) = result else {
                        await Task.yield()
                        continue
                    }
                    guard let message else { return Array(all.joined(separator: " ").utf8) }
                    all.append(text(message))
                }
            },
            on: executor
        )
        try await withSession([read]) { session in
            await session.receive(.headers(1, .request("/t/Read")))
            for number in 1...300 {
                await session.receive(.data(1, numbers(number...number), endStream: number == 300))
            }
            await session.wait(for: "the answer") { $0.answers[1]?.isOver == true }
            #expect(await session.answer(1).text == (1...300).map { "\($0)" }.joined(separator: " "))
        }
    }

    @Test(arguments: [HandlerExecutor.eventLoop, .globalConcurrent])
    func `a second reader is refused, and the first one reads on`(executor: HandlerExecutor) async throws {
        let notes = Notes()
        let read = method(
            "Read",
            .clientStreaming { call in
                async let first = call.next()
                try await Task.sleep(for: .milliseconds(20))
                do { _ = try await call.next() } catch { notes.add(describe(error)) }
                return try await first ?? []
            },
            on: executor
        )
        try await withSession([read]) { session in
            await session.receive(.headers(1, .request("/t/Read")))
            await eventually("the second reader's refusal") { notes.all == ["INTERNAL"] }
            await session.receive(.data(1, framedText("m"), endStream: true))
            await session.wait(for: "the answer") { $0.answers[1]?.isOver == true }
            #expect(await session.answer(1).text == "m")
        }
    }

    // MARK: Tasks that outlive their handler

    @Test(arguments: [true, false])
    func `a task that waits for a message when the handler returns is let go`(isOnLoop: Bool) async throws {
        let ended = Signal()
        let read = method(
            "Read",
            .clientStreaming { call in
                let executor: (any TaskExecutor)? = isOnLoop ? EventLoop.current : nil
                Task.detached(executorPreference: executor) {
                    _ = try? await call.next()
                    ended.send()
                }
                try await Task.sleep(for: .milliseconds(20))
                return []
            }
        )
        try await withSession([read]) { session in
            await session.receive(.headers(1, .request("/t/Read")))
            await session.wait(for: "the answer") { $0.answers[1]?.isOver == true }
            let isEnded = try await onThread { ended.block(seconds: 5) }
            #expect(isEnded)
        }
    }

    @Test(arguments: [true, false])
    func `a task that waits to write when the handler returns is let go`(isOnLoop: Bool) async throws {
        let ended = Signal()
        let write = method(
            "Write",
            .serverStreaming { _, call in
                let executor: (any TaskExecutor)? = isOnLoop ? EventLoop.current : nil
                Task.detached(executorPreference: executor) {
                    for _ in 0..<50 {
                        do { try await call.write([UInt8](repeating: 1, count: 10_000)) } catch { break }
                    }
                    ended.send()
                }
                try await Task.sleep(for: .milliseconds(20))
            }
        )
        try await withSession([write], opening: [.settings([4: 1000])]) { session in
            await session.receive(.headers(1, .request("/t/Write")), .data(1, framedText("m"), endStream: true))
            await eventually("the handler's end") {
                (try? await session.inSession { $0.hot.value.runningHandlers }) == 0
            }
            await session.receive(.windowUpdate(1, by: 10_000_000), .windowUpdate(0, by: 10_000_000))
            await session.wait(for: "the answer") { $0.answers[1]?.isOver == true }
            let isEnded = try await onThread { ended.block(seconds: 5) }
            #expect(isEnded)
        }
    }

    @Test(arguments: [true, false])
    func `to write after the call has ended is an error`(isOnLoop: Bool) async throws {
        let notes = Notes()
        let ended = Signal()
        let write = method(
            "Write",
            .serverStreaming { _, call in
                let executor: (any TaskExecutor)? = isOnLoop ? EventLoop.current : nil
                Task.detached(executorPreference: executor) {
                    await ended.wait()
                    for _ in 0..<3 {
                        do {
                            try await call.write("late")
                            notes.add("written")
                        } catch { notes.add(describe(error)) }
                    }
                }
            }
        )
        try await withSession([write]) { session in
            #expect(await session.call(1, "/t/Write").status == 0)
            ended.send()
            await eventually("three attempts") { notes.all.count == 3 }
            #expect(notes.all == ["INTERNAL", "INTERNAL", "INTERNAL"])
            #expect(await session.answer(1).messages == [])
        }
    }

    @Test func `a context that is kept has no effect on later calls`() async throws {
        let kept = Mutexed<[CallContext]>([])
        let keep = method(
            "Keep",
            .unary { message, call in
                for old in kept.value {
                    old.addTrailers(["old": "1"])
                    old.addInitialMetadata(["old": "1"])
                    old.sendInitialMetadata()
                    try? await old.write("old")
                    let isLeftOver = (try? await old.next()) ?? nil
                    if isLeftOver != nil { return Array("left over".utf8) }
                }
                kept.update { $0.append(call) }
                return message + call.metadata.bytes(for: "k").flatMap { $0 }
            }
        )
        try await withSession([keep]) { session in
            for index in 0..<5 {
                let answer = await session.call(UInt32(index * 2 + 1), "/t/Keep", "m", ["k": "\(index)"])
                #expect(answer.text == "m\(index)")
                #expect(answer.status == 0)
                #expect(answer.head?["old"] == nil && answer.trailers?["old"] == nil)
            }
            let seen = kept.value.map { $0.metadata["k"] }
            #expect(seen == ["0", "1", "2", "3", "4"])
            #expect(kept.value.allSatisfy { !$0.isCancelled })
        }
        // What a handler keeps of its calls keeps the server, and so itself.
        kept.update { $0 = [] }
    }

    // MARK: Writing

    @Test(arguments: [true, false])
    func `what was written on another thread goes ahead of what comes after it on the loop`(writes: Bool) async throws {
        let write = method(
            "Write",
            .serverStreaming { _, call in
                let isWritten = Mutexed(false)
                Task.detached {
                    for text in ["a", "b", "c"] { try? await call.write(Array(text.utf8)) }
                    isWritten.update { $0 = true }
                }
                // The loop is kept from its inbox: the messages are on their way when this goes on.
                while !isWritten.value { usleep(100) }
                if writes { try await call.write(Array("d".utf8)) }
            }
        )
        try await withSession([write]) { session in
            await session.receive(.headers(1, .request("/t/Write")), .data(1, framedText("m"), endStream: true))
            await session.wait(for: "the answer") { $0.answers[1]?.isOver == true }
            let answer = await session.look { $0.answers[1] }
            let texts = answer?.messages?.map { String(decoding: $0, as: UTF8.self) }
            #expect(texts == (writes ? ["a", "b", "c", "d"] : ["a", "b", "c"]))
            #expect(answer?.status == 0)
        }
    }

    @Test(arguments: [HandlerExecutor.eventLoop, .globalConcurrent])
    func `a writer waits for a slow peer, and everything comes in order`(executor: HandlerExecutor) async throws {
        let written = Mutexed(0)
        let write = method(
            "Write",
            .serverStreaming { _, call in
                for number in 0..<200 {
                    try await call.write([UInt8(number)] + [UInt8](repeating: 0, count: 4994))
                    written.update { $0 = number + 1 }
                }
            },
            on: executor
        )
        // The PINGs may come faster than what is written.
        var limits = ServerLimits()
        limits.pings.minInterval = .zero
        let opening: [Frame] = [.settings([4: 5000]), .windowUpdate(0, by: 0x7FFF_0000)]
        try await withSession([write], limits: limits, opening: opening) { session in
            await session.receive(.headers(1, .request("/t/Write")), .data(1, framedText("m"), endStream: true))
            await eventually("the queue to fill") { written.value >= 13 }
            // 64 KiB are queued, and what was on its way when that was noticed.
            await session.loop.settle()
            #expect(written.value <= 30)
            for count in 1...220 { await session.receive(.windowUpdate(1, by: 5000), .ping("\(count)")) }
            await session.wait(for: "the answer") { $0.answers[1]?.isOver == true }
            let answer = await session.answer(1)
            #expect(answer.messages?.map { $0.first } == (0..<200).map { UInt8($0) })
            #expect(answer.status == 0)
        }
    }

    @Test func `many tasks write at once, and every message is whole`() async throws {
        let write = method(
            "Write",
            .serverStreaming { _, call in
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for writer in 0..<8 {
                        group.addTask { @concurrent in
                            for number in 0..<50 { try await call.write("\(writer) \(number)") }
                        }
                    }
                    try await group.waitForAll()
                }
            },
            on: .globalConcurrent
        )
        try await withSession([write]) { session in
            let answer = await session.call(1, "/t/Write")
            #expect(answer.texts.count == 400)
            for writer in 0..<8 {
                let own = answer.texts.filter { $0.hasPrefix("\(writer) ") }
                #expect(own == (0..<50).map { "\(writer) \($0)" })
            }
        }
    }

    @Test func `a handler that is an actor answers from wherever it runs`() async throws {
        actor Counter {
            var count = 0
            func handle(_ call: CallContext) async throws {
                while let message = try await call.next() {
                    count += 1
                    try await call.write(message)
                }
            }
        }
        let counter = Counter()
        let update = method("Update", .bidirectionalStreaming { call in try await counter.handle(call) })
        try await withSession([update]) { session in
            let busy = Task { for _ in 0..<500 { _ = await counter.count } }
            let streams = (0..<20).map { UInt32($0 * 2 + 1) }
            await session.receive(streams.map { .headers($0, .request("/t/Update")) })
            for number in 1...10 {
                await session.receive(streams.map { .data($0, numbers(number...number), endStream: number == 10) })
            }
            await busy.value
            for stream in streams {
                await session.wait(for: "stream \(stream)") { $0.answers[stream]?.isOver == true }
                #expect(await session.answer(stream).texts == (1...10).map { "\($0)" })
            }
            #expect(await counter.count == 200)
        }
    }
}
