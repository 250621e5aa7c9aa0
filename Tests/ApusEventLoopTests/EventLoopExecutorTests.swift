import ApusBase
import Glibc
import Synchronization
import Testing

@testable import ApusEventLoop

/// An actor whose executor is a loop.
private actor Resident {
    let loop: EventLoop
    var count = 0
    // SAFETY: the actor keeps its loop.
    nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe loop.asUnownedSerialExecutor() }

    init(_ loop: EventLoop) { self.loop = loop }

    func visit() -> Bool {
        preconditionIsolated()
        loop.preconditionIsolated()
        count += 1
        return loop.isCurrent
    }

    /// Goes away to another actor and comes back.
    func callOut(_ other: Counter) async -> Bool {
        let before = loop.isCurrent
        await other.add()
        preconditionIsolated()
        await Task.yield()
        try? await Task.sleep(for: .milliseconds(1))
        preconditionIsolated()
        return before && loop.isCurrent
    }

    nonisolated func assumed() -> Int { assumeIsolated { $0.count } }
}

private actor Counter {
    var value = 0
    func add() { value += 1 }
}

@concurrent private func isOn(_ loop: EventLoop) async -> Bool { loop.isCurrent }

private func isOnInherited(_ loop: EventLoop) async -> Bool { loop.isCurrent }

@Suite(.timeLimit(.minutes(1)))
struct EventLoopExecutorTests {
    @Test func `a task that prefers the loop runs on it, after sleeps, groups and child tasks too`() async throws {
        try await withLoop { loop in
            let places = await Task(executorPreference: loop) {
                var places = [loop.isCurrent]
                try? await Task.sleep(for: .milliseconds(2))
                places.append(loop.isCurrent)
                await Task.yield()
                places.append(loop.isCurrent)
                places.append(await isOn(loop))
                places.append(await isOnInherited(loop))
                async let child = isOn(loop)
                places.append(await child)
                places.append(loop.isCurrent)
                let group = await withTaskGroup(of: Bool.self) { group in
                    for _ in 0..<10 { group.addTask { loop.isCurrent } }
                    return await group.reduce(into: []) { $0.append($1) }
                }
                return places + group + [loop.isCurrent]
            }.value
            #expect(places.count == 18)
            #expect(places.allSatisfy { $0 })
        }
    }

    @Test func `a detached and an immediate task may prefer the loop`() async throws {
        try await withLoop { loop in
            #expect(await Task.detached(executorPreference: loop) { loop.isCurrent }.value)
            let isCurrent = await loop.run {
                Task.immediate(executorPreference: loop) {
                    let first = loop.isCurrent
                    await Task.yield()
                    return first && loop.isCurrent
                }
            }
            #expect(await isCurrent?.value == true)
            #expect(await withTaskExecutorPreference(loop) { await isOn(loop) })
        }
    }

    @Test func `a task without the preference does not stay on the loop`() async throws {
        try await withLoop { loop in
            let place = await Task(executorPreference: loop) { await Task { await isOn(loop) }.value }.value
            #expect(!place)
            // It comes back from a visit to an actor that lives on the loop.
            let resident = Resident(loop)
            let places = await Task.detached {
                let there = await resident.visit()
                return [there, loop.isCurrent, await isOn(loop)]
            }.value
            #expect(places == [true, false, false])
        }
    }

    @Test func `default actors work when tasks on the loop call them`() async throws {
        try await withLoop { loop in
            let counter = Counter()
            await withTaskGroup(of: Void.self) { group in
                for index in 0..<100 {
                    if index.isMultiple(of: 2) {
                        group.addTask(executorPreference: loop) { await counter.add() }
                    } else {
                        group.addTask { await counter.add() }
                    }
                }
            }
            #expect(await counter.value == 100)
        }
    }

    @Test func `an actor whose executor is the loop is isolated there, whoever calls it`() async throws {
        try await withLoop { loop in
            let resident = Resident(loop)
            let counter = Counter()
            #expect(await resident.visit())
            #expect(await Task(executorPreference: loop) { await resident.visit() }.value)
            #expect(await resident.callOut(counter))
            #expect(await Task(executorPreference: loop) { await resident.callOut(counter) }.value)
            await withTaskGroup(of: Void.self) { group in
                for index in 0..<200 {
                    if index.isMultiple(of: 2) {
                        group.addTask(executorPreference: loop) { _ = await resident.visit() }
                    } else {
                        group.addTask { _ = await resident.visit() }
                    }
                }
            }
            #expect(await resident.count == 202)
        }
    }

    @Test func `everything on the loop's thread may assume the isolation of an actor that lives there`() async throws {
        try await withLoop { loop in
            let resident = Resident(loop)
            #expect(await resident.visit())
            #expect(await loop.run { resident.assumed() } == 1)
            #expect(await Task(executorPreference: loop) { resident.assumed() }.value == 1)
            let fromTimer = await withCheckedContinuation { continuation in
                loop.execute {
                    loop.schedule(after: .zero) { continuation.resume(returning: resident.assumed()) }
                }
            }
            #expect(fromTimer == 1)
        }
    }

    @Test func `a job on a stopped loop runs on the global executor`() async throws {
        let loop = try await withLoop { $0 }
        let places = await Task(executorPreference: loop) {
            var places = [loop.isCurrent]
            await Task.yield()
            places.append(loop.isCurrent)
            try? await Task.sleep(for: .milliseconds(1))
            async let child = isOn(loop)
            return places + [await child]
        }.value
        #expect(places == [false, false, false])
    }

    @Test func `an actor whose loop has stopped is still isolated`() async throws {
        let loop = try await withLoop { $0 }
        let resident = Resident(loop)
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<500 { group.addTask { _ = await resident.visit() } }
        }
        #expect(await resident.count == 500)
    }

    @Test func `tasks suspended on a loop when it stops go on elsewhere`() async throws {
        let (stream, feed) = AsyncStream.makeStream(of: Int.self)
        let task: Task<Int, Never> = try await withLoop { loop in
            let task = Task(executorPreference: loop) {
                var sum = 0
                for await value in stream { sum += value }
                return sum
            }
            feed.yield(1)
            await loop.settle()
            return task
        }
        feed.yield(2)
        feed.finish()
        #expect(await task.value == 3)
    }

    @Test func `the current job is the same each time its task runs, and none outside of jobs`() async throws {
        try await withLoop { loop in
            #expect(await loop.run { loop.currentJob } == 0)
            let (first, second) = await Task(executorPreference: loop) {
                let first = loop.currentJob
                await Task.yield()
                return (first, loop.currentJob)
            }.value
            #expect(first != 0)
            #expect(first == second)
            #expect(await loop.run { loop.currentJob } == 0)
        }
    }
}
