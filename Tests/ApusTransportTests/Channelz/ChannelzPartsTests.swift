import ApusBase
import ApusEventLoop
import Logging
import Testing

@testable import ApusTransport

@Suite struct ChannelzPartsTests {
    @Test func `ids grow, are positive and do not come twice`() {
        let first = ChannelzID.make()
        let pair = ChannelzID.make(count: 2)
        let last = ChannelzID.make()
        #expect(first > 0)
        #expect(pair > first)
        // Other tests of this process take some as well.
        #expect(last > pair + 1)
    }

    @Test(arguments: [0, 1, 3, 50, 100, 101]) func `the lowest ids are found in any order`(countMax: Int) {
        var ids = Array(Int64(1)...100)
        for _ in 0..<20 {
            ids.shuffle()
            let first = Int64.random(in: 0...110)
            var lowest = LowestIDs(from: first, countMax: countMax)
            for id in ids { lowest.consider(id) }
            #expect(lowest.ids == ids.filter { $0 >= first }.sorted().prefix(countMax).map { $0 })
        }
    }

    @Test func `a change is dated by the batch that it came in`() {
        func instant(_ nanoseconds: Int64) -> MonotonicInstant { MonotonicInstant(nanoseconds: nanoseconds) }
        var time = ChangeTime()
        #expect(time.last(0) == nil)
        time.batchBegins(0, now: instant(10))
        #expect(time.last(0) == nil)
        // Two more in that batch, seen before the next one begins, and after.
        #expect(time.last(2) == instant(10))
        time.batchBegins(2, now: instant(20))
        #expect(time.last(2) == instant(10))
        time.batchBegins(2, now: instant(30))
        #expect(time.last(2) == instant(10))
        #expect(time.last(3) == instant(30))
    }

    @Test func `a trace keeps the last events and counts all`() {
        let clock = ManualClock()
        let trace = EventTrace(clock: clock)
        clock.advance(by: .seconds(1))
        for number in 1...EventTrace.eventsMax + 5 { trace.log("event \(number)") }
        trace.log(String(repeating: "é", count: 10_000), .warning)
        let snapshot = trace.snapshot()
        #expect(snapshot.logged == EventTrace.eventsMax + 6)
        #expect(snapshot.events.count == EventTrace.eventsMax)
        #expect(snapshot.events.first?.text == "event 7")
        #expect((snapshot.events.last?.text.utf8.count ?? 0) < 2000)
        let age = (snapshot.events.first?.time.nanoseconds ?? 0) - snapshot.created.nanoseconds
        #expect((1_000_000_000...1_002_000_000).contains(age))
    }

    @Test func `a directory pages through what there is`() {
        final class Entry: ChannelzEntry {
            let id: Int64
            init(_ id: Int64) { self.id = id }
        }
        let directory = ChannelzDirectory<Entry>()
        for id in (Int64(1)...10).shuffled() { directory.add(Entry(id)) }
        func ids(_ first: Int64) -> [Int64] { directory.page(from: first, countMax: 4).members.map(\.id) }
        func isLast(_ first: Int64) -> Bool { directory.page(from: first, countMax: 4).isLast }
        #expect(ids(0) == [1, 2, 3, 4] && !isLast(0))
        #expect(ids(6) == [6, 7, 8, 9] && !isLast(6))
        #expect(ids(7) == [7, 8, 9, 10] && isLast(7))
        #expect(ids(11) == [] && isLast(11) && isLast(.max))
        directory.remove(7)
        directory.remove(7)
        #expect(directory.member(7) == nil && directory.member(8)?.id == 8)
        #expect(ids(6) == [6, 8, 9, 10] && isLast(6))
        #expect(directory.all.count == 9)
    }

    @Test func `who looks for a channel does not keep it`() async throws {
        let group = try EventLoopGroup(threads: 1)
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        var channel: ClientChannel? = ClientChannel(
            target: try ClientTarget("ipv4:127.0.0.1:1"),
            limits: ClientLimits(),
            loop: group.loops[0],
            logger: logger
        )
        let id = try #require(channel?.channelzID)
        let found = try #require(ChannelzRegistry.channels.member(id))
        #expect(await found.snapshot()?.state == .idle)
        #expect(await found.subchannelSnapshot()?.sockets.isEmpty == true)
        #expect(ChannelzRegistry.channel(ofSubchannel: id + 1) === found)
        #expect(ChannelzRegistry.channel(ofSubchannel: id) == nil)
        channel = nil
        #expect(await found.snapshot() == nil)
        #expect(await found.subchannelSnapshot() == nil)
        #expect(ChannelzRegistry.channels.member(id) == nil)
        group.shutdown()
    }

    @Test func `a loop answers what it is asked, and nothing when it has ended`() async throws {
        let group = try EventLoopGroup(threads: 1)
        let loop = group.loops[0]
        #expect(await loop.ask { loop.isCurrent } == true)
        group.shutdown()
        #expect(await loop.ask { true } == nil)
    }

    @Test func `an address of the Internet has its bytes, and no other`() throws {
        func bytes(_ address: SocketAddress) throws -> [UInt8] { try RawSocketAddress(address).ipBytes }
        #expect(try bytes(.ipv4(host: "127.1.2.3", port: 80)) == [127, 1, 2, 3])
        #expect(try bytes(.ipv6(host: "::1", port: 80)) == Array(repeating: 0, count: 15) + [1])
        #expect(try bytes(.unix(path: "/tmp/x")) == [])
    }

    @Test func `the kernel tells of a TCP connection, and not of a unix socket`() throws {
        let (left, right) = try SystemCalls.socketPair()
        #expect(SystemCalls.tcpInfo(of: left) == nil)
        SystemCalls.close(left)
        SystemCalls.close(right)
        let listening = try ListeningSocket.bind(.ipv4(host: "127.0.0.1", port: 0))
        #expect(SystemCalls.tcpInfo(of: listening.descriptor) != nil)
    }
}
