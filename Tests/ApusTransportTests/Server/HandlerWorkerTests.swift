import ApusBase
import ApusEventLoop
import TestSupport
import Testing

@testable import ApusTransport

/// Tasks that handle one call after another: what of one call the next may notice, which is nothing.
@Suite(.timeLimit(.minutes(1))) struct HandlerWorkerTests {
    @TaskLocal private static var local = "unset"

    /// Notes what a handler finds, then does something to its task.
    private func probe(_ notes: Notes, _ act: @escaping @Sendable (CallContext) async throws -> Void) -> ServedMethod {
        method(
            "Probe",
            .unary { message, context in
                notes.add("\(Self.local) \(Task.currentPriority.rawValue) \(Task.isCancelled)")
                try await act(context)
                return message
            }
        )
    }

    private static var task: Int {
        // SAFETY: the task is looked at while it runs this.
        unsafe withUnsafeCurrentTask { unsafe $0?.hashValue ?? 0 }
    }

    private func count(_ label: String, in session: SessionHarness) async -> Int? {
        await session.run {
            let child = Mirror(reflecting: session.shard).children.first { $0.label == label }
            return (child?.value as? [UInt: HandlerWorker])?.count
        }
    }

    @Test func `one task handles call after call`() async throws {
        let tasks = Mutexed<[Int]>([])
        let noteTask = method(
            "Note",
            .unary { message, _ in
                let task = Self.task
                tasks.update { $0.append(task) }
                return message
            }
        )
        try await withSession([noteTask]) { session in
            for index in 0..<20 { #expect(await session.call(UInt32(index * 2 + 1), "/t/Note").status == 0) }
            #expect(Set(tasks.value).count == 1)
            #expect(await count("workersByJob", in: session) == 1)
        }
    }

    @Test func `neither task-local values nor priority nor cancellation go from one call to the next`() async throws {
        let notes = Notes()
        let probe = probe(notes) { _ in
            await Self.$local.withValue("bound") {
                _ = await Task(priority: .high) { 1 }.value
                await withTaskGroup(of: Void.self) { group in
                    group.addTask { try? await Task.sleep(for: .seconds(3600)) }
                    group.cancelAll()
                }
            }
        }
        try await withSession([probe]) { session in
            for index in 0..<5 { _ = await session.call(UInt32(index * 2 + 1), "/t/Probe") }
            #expect(notes.all.count == 5)
            #expect(Set(notes.all).count == 1, "\(notes.all)")
            #expect(notes.all.first?.hasPrefix("unset") == true && notes.all.first?.hasSuffix("false") == true)
        }
    }

    @Test func `a handler that cancels its own task does not cancel the next call's`() async throws {
        let notes = Notes()
        let probe = probe(notes) { _ in
            // SAFETY: as above.
            unsafe withUnsafeCurrentTask { unsafe $0?.cancel() }
        }
        try await withSession([probe]) { session in
            for index in 0..<5 { #expect(await session.call(UInt32(index * 2 + 1), "/t/Probe").status == 0) }
            #expect(notes.all.allSatisfy { $0.hasSuffix("false") }, "\(notes.all)")
        }
    }

    @Test func `a call that was cancelled leaves the next one alone, and so do many at random`() async throws {
        let notes = Notes()
        let mixed = method(
            "Mixed",
            .clientStreaming { call in
                if Task.isCancelled { notes.add("born cancelled") }
                var text: [UInt8] = []
                while let message = try await call.next() {
                    await Task.yield()
                    text += message
                }
                if Task.isCancelled { notes.add("cancelled and not told") }
                return text
            }
        )
        var random = RandomSource(seed: 20)
        try await withSession([mixed]) { session in
            var stream: UInt32 = 1
            for _ in 0..<100 {
                var expected: [UInt32: Bool] = [:]
                var frames: [Frame] = []
                for _ in 0..<8 {
                    let isReset = Bool.random(using: &random)
                    frames += [.headers(stream, .request("/t/Mixed")), .data(stream, framedText("\(stream)"))]
                    expected[stream] = !isReset
                    stream += 2
                }
                await session.receive(frames)
                await session.receive(
                    expected.keys.shuffled(using: &random).map { stream in
                        expected[stream] == true ? .data(stream, [], endStream: true) : .reset(stream, code: 8)
                    }
                )
                for (stream, isAnswered) in expected where isAnswered {
                    #expect(await session.answer(stream).text == "\(stream)")
                }
            }
            #expect(notes.all == [])
        }
    }

    @Test func `what a handler read is not seen by the next, though it left some unread`() async throws {
        let first = method(
            "First",
            .clientStreaming { call in try await call.next() ?? [] }
        )
        try await withSession([first]) { session in
            for index in 0..<4 {
                let stream = UInt32(index * 2 + 1)
                let body = framedText("a\(index)") + framedText("b\(index)") + framedText("c\(index)")
                await session.receive(.headers(stream, .request("/t/First")), .data(stream, body, endStream: true))
                #expect(await session.answer(stream).text == "a\(index)")
            }
        }
    }

    @Test func `handlers that wait leave the loop to those behind them`() async throws {
        let go = Signal()
        let wait = method(
            "Wait",
            .unary { message, _ in
                await go.wait(); return message
            }
        )
        try await withSession([wait] + echoMethods) { session in
            var frames: [Frame] = []
            for index in 0..<40 {
                let stream = UInt32(index * 2 + 1)
                let name = index % 2 == 0 ? "Wait" : "Unary"
                frames += [.headers(stream, .request("/t/\(name)")), .data(stream, framedText("m"), endStream: true)]
            }
            await session.receive(frames)
            for index in 0..<40 {
                #expect(await session.answer(UInt32(index * 2 + 1)).isOver == (index % 2 == 1), "call \(index)")
            }
            go.send()
            await session.wait(for: "all answers") { output in
                output.answers.values.count { $0.status == 0 } == 40
            }
        }
    }

    @Test func `workers that are not needed expire, and the last look keeps those that were`() async throws {
        let clock = ManualClock()
        var limits = ServerLimits()
        limits.parkedWorkerLifetime = .seconds(10)
        try await withSession(echoMethods, limits: limits, clock: clock) { session in
            let streams = (0..<10).map { UInt32($0 * 2 + 1) }
            await session.receive(streams.map { .headers($0, .request("/t/Collect")) })
            await session.receive(streams.map { .data($0, [], endStream: true) })
            #expect(await count("workersByJob", in: session) == 10)
            // Two looks: the first counts from the time when the first worker was parked.
            await session.advance(by: .seconds(11))
            await session.advance(by: .seconds(11))
            #expect(await count("workersByJob", in: session) == 0)
            #expect(await session.call(101, "/t/Unary").status == 0)
            #expect(await count("workersByJob", in: session) == 1)
        }
    }

    @Test func `no more workers are parked than may be`() async throws {
        var limits = ServerLimits()
        limits.parkedWorkersMax = 3
        try await withSession(echoMethods, limits: limits) { session in
            let streams = (0..<10).map { UInt32($0 * 2 + 1) }
            await session.receive(streams.map { .headers($0, .request("/t/Collect")) })
            await session.receive(streams.map { .data($0, [], endStream: true) })
            #expect(await count("workersByJob", in: session) == 3)
        }
    }

    @Test(arguments: [HandlerExecutor.eventLoop, .globalConcurrent])
    func `a handler runs where its method says`(executor: HandlerExecutor) async throws {
        let seen = Mutexed<[Bool]>([])
        let note = method(
            "Note",
            .unary { message, _ in
                let before = EventLoop.current != nil
                await Task.yield()
                let after = EventLoop.current != nil
                seen.update { $0 += [before, after] }
                return message
            },
            on: executor
        )
        try await withSession([note]) { session in
            #expect(await session.call(1, "/t/Note").text == "x")
            #expect(seen.value == [executor == .eventLoop, executor == .eventLoop])
        }
    }

    @Test func `what a server keeps for a loop is let go when the server has stopped`() async throws {
        let box = WeakBox()
        try await withSession(echoMethods) { session in
            box.object = session.shard
            for (index, name) in ["Sync", "Unary", "Collect", "Update"].enumerated() {
                #expect(await session.call(UInt32(index * 2 + 1), "/t/\(name)").status == 0)
            }
        }
        #expect(box.object == nil)
    }

    /// Touched by one task at a time.
    private final class WeakBox: @unchecked Sendable {
        weak var object: ServerShard?
    }
}
