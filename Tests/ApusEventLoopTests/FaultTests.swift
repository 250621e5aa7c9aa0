import ApusBase
import Glibc
import Synchronization
import Testing

@testable import ApusEventLoop

/// What a loop makes of a kernel that fails.
@Suite(.timeLimit(.minutes(1))) struct FaultTests {
    /// A pair of connected sockets, closed at the end.
    private func withPair(_ body: (CInt, CInt) async throws -> Void) async throws {
        let (left, right) = try SystemCalls.socketPair()
        defer {
            SystemCalls.close(left)
            SystemCalls.close(right)
        }
        try await body(left, right)
    }

    private static func send(_ text: String, on descriptor: CInt) -> IOResult {
        // SAFETY: the bytes live through the call.
        unsafe Array(text.utf8).withUnsafeBytes { unsafe SystemCalls.send(descriptor, $0) }
    }

    private static func read(_ descriptor: CInt) -> String {
        var buffer = [UInt8](repeating: 0, count: 100)
        // SAFETY: as above.
        let result = unsafe buffer.withUnsafeMutableBytes { unsafe SystemCalls.read(descriptor, into: $0) }
        switch result {
        case .bytes(let count): return String(decoding: buffer.prefix(count), as: UTF8.self)
        case .wouldBlock: return "nothing now"
        case .failed(let error): return "errno \(error.errnoValue)"
        }
    }

    @Test func `a call that a signal interrupts is made again`() async throws {
        try await withLoop { loop in
            let faults = SystemCallFaults(on: loop)
            try await withPair { left, right in
                for name in [SystemCalls.Name.send, .read] { faults.inject(.fail(EINTR), into: name, times: 3) }
                let text = await loop.run {
                    _ = Self.send("hello", on: left)
                    return Self.read(right)
                }
                #expect(text == "hello")
                #expect(faults.count(of: .send) == 4 && faults.count(of: .read) == 4)
            }
            faults.lift()
        }
    }

    @Test(arguments: [EAGAIN, ENOBUFS, ENOMEM]) func `a shortage of the kernel's memory is for a moment`(
        error: CInt
    ) async throws {
        try await withLoop { loop in
            let faults = SystemCallFaults(on: loop)
            try await withPair { left, right in
                for name in [SystemCalls.Name.send, .read] { faults.inject(.fail(error), into: name, times: 1) }
                let texts = await loop.run { () -> [String] in
                    guard case .wouldBlock = Self.send("lost?", on: left) else { return ["sent"] }
                    _ = Self.send("hello", on: left)
                    return [Self.read(right), Self.read(right)]
                }
                #expect(texts == ["nothing now", "hello"])
                faults.inject(.fail(ECONNRESET), into: .read, times: 1)
                #expect(await loop.run { Self.read(right) } == "errno \(ECONNRESET)")
            }
            faults.lift()
        }
    }

    @Test func `a call for more than the kernel takes moves what it does`() async throws {
        try await withLoop { loop in
            let faults = SystemCallFaults(on: loop)
            try await withPair { left, right in
                faults.inject(.atMost(bytes: 3), into: .send)
                faults.inject(.atMost(bytes: 2), into: .read)
                let texts = await loop.run { () -> [String] in
                    _ = Self.send("hello", on: left)
                    return [Self.read(right), Self.read(right)]
                }
                #expect(texts == ["he", "l"])
            }
            faults.lift()
        }
    }

    @Test func `faults are their loop's, and end`() async throws {
        try await withLoop { faulty in
            try await withLoop { sound in
                let faults = SystemCallFaults(on: faulty)
                faults.inject(.fail(EMFILE), into: .socket)
                let socket = { @Sendable () -> CInt in
                    do {
                        let address = try RawSocketAddress(.ipv4(host: "127.0.0.1", port: 1))
                        SystemCalls.close(try SystemCalls.streamSocket(for: address))
                        return 0
                    } catch {
                        return (error as? SystemError)?.errnoValue ?? -1
                    }
                }
                #expect(await faulty.run(socket) == EMFILE)
                #expect(await sound.run(socket) == 0)
                faults.end(.socket)
                #expect(await faulty.run(socket) == 0)
                faults.lift()
            }
        }
    }

    @Test func `a full eventfd does not keep a loop asleep`() async throws {
        try await withLoop { loop in
            let faults = SystemCallFaults(on: loop)
            for _ in 0..<20 {
                let turns = await loop.run { faults.count(of: .epollWait) } ?? 0
                // It holds one less than the largest number, after which a write would block.
                var count: UInt64 = 0
                var most = UInt64.max - 1
                // SAFETY: locals of the size given.
                _ = unsafe Glibc.read(loop.inbox.eventDescriptor, &count, 8)
                let written = unsafe Glibc.write(loop.inbox.eventDescriptor, &most, 8)
                #expect(written == 8)
                // The loop has gone to sleep since: only a write can wake it.
                await becomes("the loop waiting") { faults.count(of: .epollWait) > turns + 1 }
                #expect(await loop.run { true } == true)
            }
            faults.lift()
        }
    }

    @Test func `wakes for nothing lead to nothing`() async throws {
        let clock = ManualClock()
        try await withLoop(clock: clock) { loop in
            let faults = SystemCallFaults(on: loop)
            let fired = SharedCount()
            await loop.run { _ = loop.schedule(after: .seconds(1)) { fired.add() } }
            faults.inject(.fail(EINTR), into: .epollWait, times: 500)
            loop.wake()
            await becomes("the wakes being over") { faults.count(of: .epollWait) > 500 }
            #expect(fired.value == 0)
            #expect(await loop.run { true } == true)
            clock.advance(by: .seconds(1))
            await becomes("the timer firing") { fired.value == 1 }
            faults.lift()
        }
    }

    @Test func `a descriptor that cannot be watched takes no place`() async throws {
        try await withLoop { loop in
            let faults = SystemCallFaults(on: loop)
            try await withPair { left, _ in
                faults.inject(.fail(ENOSPC), into: .epollControl, times: 100)
                let indices = await loop.run { () -> [UInt32] in
                    var indices: [UInt32] = []
                    for _ in 0..<102 {
                        let handler = ReadinessClosure { _ in }
                        guard let entry = try? loop.register(left, interest: .read, handler: handler) else { continue }
                        indices.append(entry.index)
                        loop.deregister(entry)
                    }
                    return indices
                }
                #expect(indices?.count == 2 && Set(indices ?? []).count == 1)
            }
            faults.lift()
        }
    }

    @Test func `a clock that jumps ahead fires what is due, and one that jumps back fires nothing twice`() async throws
    {
        let clock = JumpingClock()
        try await withLoop(clock: clock) { loop in
            let fired = SharedCount()
            await loop.run { for hour in 1...3 { _ = loop.schedule(after: .seconds(hour * 3600)) { fired.add() } } }
            clock.jump(by: .seconds(2 * 3600))
            #expect(await loop.run { true } == true)
            await becomes("two timers firing") { fired.value == 2 }
            clock.jump(by: .seconds(-90 * 60))
            // What is begun after the jump back is measured from there.
            let later = SharedCount()
            await loop.run { _ = loop.schedule(after: .milliseconds(1)) { later.add() } }
            for _ in 0..<100 { #expect(await loop.run { true } == true) }
            #expect(fired.value == 2)
            clock.jump(by: .seconds(10 * 3600))
            #expect(await loop.run { true } == true)
            await becomes("the last timers firing") { fired.value == 3 && later.value == 1 }
        }
    }

    @Test func `connections that were given up are passed over, a shortage is told`() async throws {
        try await withLoop { loop in
            let faults = SystemCallFaults(on: loop)
            let socket = try ListeningSocket.bind(.ipv4(host: "127.0.0.1", port: 0))
            let raw = try RawSocketAddress(socket.localAddress)
            let client = try SystemCalls.streamSocket(for: raw)
            guard case .inProgress = SystemCalls.connect(client, to: raw) else {
                Issue.record("it connected at once")
                return
            }
            let accept = { @Sendable () -> String in
                switch socket.accept() {
                case .connection(let descriptor, _):
                    SystemCalls.close(descriptor)
                    return "connection"
                case .wouldBlock: return "nothing now"
                case .failed(let error): return "errno \(error.errnoValue)"
                }
            }
            for error in [EMFILE, ENFILE, ENOBUFS, ENOMEM] {
                faults.inject(.fail(error), into: .accept, times: 1)
                #expect(await loop.run(accept) == "errno \(error)")
            }
            faults.inject(.fail(ECONNABORTED), into: .accept, times: 5)
            #expect(await loop.run(accept) == "connection")
            #expect(faults.count(of: .accept) == 10)
            // However many were given up, the loop gets back to its other work.
            faults.inject(.fail(ECONNABORTED), into: .accept)
            #expect(await loop.run(accept) == "nothing now")
            SystemCalls.close(client)
            faults.lift()
        }
    }
}

/// The kernel's clock, with jumps.
private final class JumpingClock: LoopClock {
    private let offset = Atomic<Int64>(0)

    func now() -> MonotonicInstant {
        MonotonicClock().now().advanced(byNanoseconds: offset.load(ordering: .acquiring))
    }

    func jump(by duration: Duration) { offset.add(duration.saturatingNanoseconds, ordering: .acquiringAndReleasing) }
}

/// Waits until something is so, for what happens on the loop's thread.
private func becomes(
    _ what: String,
    sourceLocation: SourceLocation = #_sourceLocation,
    _ isSo: () -> Bool
) async {
    for _ in 0..<20_000 {
        if isSo() { return }
        try? await Task.sleep(for: .milliseconds(1))
    }
    Issue.record("it never happened: \(what)", sourceLocation: sourceLocation)
}
