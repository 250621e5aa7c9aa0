import ApusBase
import Glibc
import Testing

@testable import ApusEventLoop

@Suite(.timeLimit(.minutes(1)))
struct EventLoopWorkTests {
    @Test func `a loop knows its own thread`() async throws {
        try await withLoop { loop in
            #expect(!loop.isCurrent)
            #expect(await loop.run { loop.isCurrent && EventLoop.current === loop } == true)
            #expect(await onThread { EventLoop.current == nil })
        }
    }

    @Test func `work of many threads runs once each, that of one thread in its order`() async throws {
        try await withLoop { loop in
            let seen = Confined([[Int]](repeating: [], count: 8))
            await withTaskGroup(of: Void.self) { group in
                for producer in 0..<8 {
                    group.addTask {
                        await onThread {
                            for index in 0..<5000 { loop.execute { seen.value[producer].append(index) } }
                        }
                    }
                }
            }
            let all = await loop.run { seen.value }
            #expect(all == [[Int]](repeating: Array(0..<5000), count: 8))
        }
    }

    @Test func `a sleeping loop is woken by each single piece of work`() async throws {
        try await withLoop { loop in
            let count = Confined(0)
            for _ in 0..<2000 { _ = await loop.run { count.value += 1 } }
            #expect(await loop.run { count.value } == 2000)
        }
    }

    @Test func `jobs come from many threads`() async throws {
        try await withLoop { loop in
            let sum = await withTaskGroup(of: Int.self) { group in
                for index in 0..<5000 {
                    group.addTask(executorPreference: loop) {
                        await Task.yield()
                        return loop.isCurrent ? index : 0
                    }
                }
                return await group.reduce(0, +)
            }
            #expect(sum == 4999 * 5000 / 2)
        }
    }

    @Test func `work from the loop's own thread runs after what queued it`() async throws {
        try await withLoop { loop in
            let order = Confined<[Int]>([])
            _ = await loop.run {
                loop.execute { order.value.append(2) }
                order.value.append(1)
            }
            #expect(await loop.run { order.value } == [1, 2])
        }
    }

    @Test func `work without end does not starve timers`() async throws {
        try await withLoop { loop in
            let isOver = Confined(false)
            await withCheckedContinuation { continuation in
                @Sendable func again() { if !isOver.value { loop.execute(again) } }
                loop.execute {
                    loop.schedule(after: .milliseconds(3)) {
                        isOver.value = true
                        continuation.resume()
                    }
                    again()
                }
            }
        }
    }

    @Test func `what was accepted before the end is run, what comes after it is refused`() async throws {
        for _ in 0..<20 {
            let accepted = SharedCount()
            let ran = SharedCount()
            let loop = try await withLoop { loop in
                await withTaskGroup(of: Void.self) { group in
                    for producer in 0..<4 {
                        group.addTask {
                            await onThread {
                                for index in 0..<500 {
                                    if loop.execute({ ran.add() }) {
                                        accepted.add()
                                    }
                                    if producer == 0 && index == 250 { loop.stop() }
                                }
                            }
                        }
                    }
                }
                return loop
            }
            #expect(accepted.value == ran.value)
            #expect(!loop.execute {})
        }
    }

    @Test func `a stopped loop finishes chains of work, up to a bound`() async throws {
        let count = SharedCount()
        let endless = SharedCount()
        try await withLoop { loop in
            @Sendable func chain(_ left: Int) {
                count.add()
                if left > 1 { loop.execute { chain(left - 1) } }
            }
            @Sendable func forever() {
                endless.add()
                loop.execute(forever)
            }
            loop.execute {
                loop.stop()
                chain(1000)
                forever()
            }
        }
        #expect(count.value == 1000)
        #expect(endless.value > 0)
    }

    @Test func `a loop that is dropped when it has ended is gone`() async throws {
        weak var weakLoop: EventLoop?
        try await withLoop { loop in
            weakLoop = loop
            #expect(await Task(executorPreference: loop) { loop.isCurrent }.value)
        }
        // Its thread was joined, but a task that ran there may be about to let go of it.
        while weakLoop != nil { await Task.yield() }
    }

    @Test func `stop and join may be repeated`() async throws {
        try await withLoop { loop in
            loop.stop()
            loop.stop()
            await withTaskGroup(of: Bool.self) { group in
                for _ in 0..<4 { group.addTask { await onThread { loop.join() } } }
                for await isJoined in group { #expect(isJoined) }
            }
        }
    }

    @Test func `a handler of the end of turn is called once, and in the next turn if it adds itself again`()
        async throws
    {
        try await withLoop { loop in
            let calls = Confined<[Int]>([])
            let turn = Confined(0)
            await withCheckedContinuation { continuation in
                loop.execute {
                    let counter = TurnEndClosure { counter in
                        turn.value += 1
                        loop.atEndOfTurn(counter)
                        if turn.value == 10 { continuation.resume() }
                    }
                    let flusher = TurnEndClosure { flusher in
                        calls.value.append(turn.value)
                        if calls.value.count < 3 { loop.atEndOfTurn(flusher) }
                    }
                    loop.atEndOfTurn(counter)
                    loop.atEndOfTurn(flusher)
                }
            }
            // Nothing else woke the loop: a turn that has handlers waiting does not block.
            #expect(await loop.run { calls.value } == [1, 2, 3])
        }
    }

    @Test func `the end of a turn comes after its work`() async throws {
        try await withLoop { loop in
            let order = Confined<[String]>([])
            _ = await loop.run {
                loop.atEndOfTurn(TurnEndClosure { _ in order.value.append("end") })
                loop.execute { order.value.append("work") }
            }
            await loop.settle()
            #expect(await loop.run { order.value } == ["work", "end"])
        }
    }

    @Test func `scratch memory is there, and stays where it is`() async throws {
        try await withLoop { loop in
            let sizes = await loop.run {
                // SAFETY: read on the loop's own thread, within one synchronous stretch.
                let isSame = unsafe loop.readScratch.baseAddress == loop.readScratch.baseAddress
                let isApart = unsafe loop.readScratch.baseAddress != loop.writeScratch.baseAddress
                return unsafe isSame && isApart ? [loop.readScratch.count, loop.writeScratch.count] : []
            }
            #expect(sizes == [65_536, 262_144])
        }
    }
}

@Suite(.timeLimit(.minutes(1)))
struct EventLoopStallTests {
    private func configuration(_ threshold: Duration?) -> EventLoop.Configuration {
        var configuration = EventLoop.Configuration()
        configuration.stallThreshold = threshold
        return configuration
    }

    private static let threshold = Duration.milliseconds(20)
    private static let block: @Sendable () -> Void = { usleep(60_000) }

    @Test func `what holds the loop up is reported, with its job`() async throws {
        try await withLoop(configuration: configuration(Self.threshold)) { loop in
            let reports = Confined<[(job: UInt, duration: Duration)]>([])
            loop.addStallObserver { job, duration in
                reports.value.append((job, duration))
                return true
            }
            loop.execute(Self.block)
            let job = await Task(executorPreference: loop) {
                Self.block()
                return loop.currentJob
            }.value
            await withCheckedContinuation { continuation in
                loop.execute {
                    loop.schedule(after: .zero) {
                        Self.block()
                        loop.execute { continuation.resume() }
                    }
                }
            }
            let seen = await loop.run { reports.value } ?? []
            #expect(seen.filter { $0.job == 0 }.count >= 2)
            #expect(seen.contains { $0.job == job })
            #expect(seen.allSatisfy { $0.duration > Self.threshold })
        }
    }

    @Test func `a callback that runs many units reports each by itself`() async throws {
        try await withLoop(configuration: configuration(Self.threshold)) { loop in
            let reports = Confined(0)
            loop.addStallObserver { _, _ in
                reports.value += 1
                return true
            }
            let (isFirstLong, isSecondLong) =
                await loop.run {
                    Self.block()
                    return (loop.checkStall() != nil, loop.checkStall() != nil)
                } ?? (false, true)
            #expect(isFirstLong)
            #expect(!isSecondLong)
        }
    }

    @Test func `nothing is measured without a threshold`() async throws {
        try await withLoop(configuration: configuration(nil)) { loop in
            let reports = Confined(0)
            loop.addStallObserver { _, _ in
                reports.value += 1
                return true
            }
            #expect(
                await loop.run {
                    Self.block()
                    return loop.checkStall() == nil
                } == true
            )
            #expect(await loop.run { reports.value } == 0)
        }
    }
}
