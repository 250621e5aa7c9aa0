import ApusBase
import Glibc
import Logging
import Testing

@testable import ApusEventLoop

@Suite(.timeLimit(.minutes(1)))
struct EventLoopGroupTests {
    @Test(arguments: [0, -1])
    func `a group of fewer than one thread is an error that says so`(threads: Int) {
        let error = #expect(throws: SystemError.self) { try EventLoopGroup(threads: threads) }
        #expect(error?.errnoValue == EINVAL)
        #expect(error?.description.contains("\(threads) threads: it needs at least 1") == true)
    }

    @Test func `a group gives its loops in turn`() async throws {
        let group = try EventLoopGroup(threads: 3)
        let given = (0..<6).map { _ in ObjectIdentifier(group.next()) }
        #expect(Set(given).count == 3)
        #expect(given[..<3] == given[3...])
        await onThread { group.shutdown() }
    }

    @Test func `the loop with the fewest connections is found`() async throws {
        let group = try EventLoopGroup(threads: 3)
        for _ in 0..<9 { group.leastLoaded().connectionAdded() }
        #expect(group.loops.map { $0.connectionCount.load(ordering: .relaxed) } == [3, 3, 3])
        group.loops[1].connectionRemoved()
        #expect(group.leastLoaded() === group.loops[1])
        await onThread { group.shutdown() }
    }

    @Test func `a group that is shut down has stopped its loops, and may be shut down again`() async throws {
        let group = try EventLoopGroup(threads: 2)
        await onThread {
            group.shutdown()
            group.shutdown()
        }
        #expect(group.loops.allSatisfy { !$0.execute {} })
    }

    @Test func `a group that is shut down from one of its loops does not wait for itself`() async throws {
        let group = try EventLoopGroup(threads: 2)
        #expect(await group.loops[0].run { group.shutdown() } != nil)
        await onThread { group.shutdown() }
        #expect(group.loops.allSatisfy { !$0.execute {} })
    }

    @Test func `a group that is dropped stops its loops`() async throws {
        var group: EventLoopGroup? = try EventLoopGroup(threads: 1)
        let loop = try #require(group?.next())
        group = nil
        #expect(await onThread { loop.join() })
    }

    @Test func `the shared group has loops and is not shut down`() async throws {
        let group = EventLoopGroup.shared
        #expect(group.loops.count >= 1)
        group.shutdown()
        #expect(await group.next().run { true } == true)
    }

    @Test func `a loop that could not be started refuses work and says why`() async throws {
        let error = SystemError(errno: EMFILE, operation: "epoll_create1")
        let loop = EventLoop(name: "none", unstartable: error, logger: Logger(label: "test"))
        #expect(!loop.execute {})
        #expect(await Task(executorPreference: loop) { !loop.isCurrent }.value)
        let thrown = #expect(throws: SystemError.self) {
            _ = try loop.register(0, interest: .read, handler: ReadinessClosure { _ in })
        }
        #expect(thrown == error)
        loop.stop()
        #expect(loop.join())
    }
}
