import ApusBase
import Glibc
import Testing

@testable import ApusEventLoop

/// Runs a closure when it is dropped.
private final class Farewell: Sendable {
    private let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    deinit { body() }
}

@Suite(.timeLimit(.minutes(1)))
struct DescriptorTests {
    private func send(_ text: String, on descriptor: CInt) {
        var text = text
        // SAFETY: the buffer is the string's, used within the closure.
        text.withUTF8 { bytes in
            guard case .bytes(let count) = unsafe SystemCalls.send(descriptor, UnsafeRawBufferPointer(bytes)) else {
                Issue.record("nothing was sent")
                return
            }
            #expect(count == bytes.count)
        }
    }

    private static func receive(on descriptor: CInt) -> String? {
        // SAFETY: the buffer lives until the end of the closure.
        unsafe withUnsafeTemporaryAllocation(byteCount: 100, alignment: 1) { buffer in
            guard case .bytes(let count) = unsafe SystemCalls.read(descriptor, into: buffer) else { return nil }
            return unsafe String(decoding: buffer[..<count], as: UTF8.self)
        }
    }

    /// Two connected sockets, closed at the end.
    private func withPair(_ body: (CInt, CInt) async throws -> Void) async throws {
        let (one, other) = try SystemCalls.socketPair()
        defer {
            SystemCalls.close(one)
            SystemCalls.close(other)
        }
        try await body(one, other)
    }

    @Test func `a handler is told that there is something to read, until it is read`() async throws {
        try await withLoop { loop in
            try await withPair { one, other in
                let seen = Confined<[String]>([])
                let told = Confined(0)
                let registration = await loop.run {
                    try? loop.register(
                        one,
                        interest: .read,
                        handler: ReadinessClosure { readiness in
                            told.value += 1
                            guard readiness.contains(.readable), told.value >= 3 else { return }
                            if let text = Self.receive(on: one) { seen.value.append(text) }
                        }
                    )
                }
                send("swift", on: other)
                while await loop.run({ seen.value.isEmpty }) == true { await Task.yield() }
                #expect(await loop.run { seen.value } == ["swift"])
                #expect(await loop.run { told.value } == 3)
                _ = await loop.run { if let registration = registration ?? nil { loop.deregister(registration) } }
            }
        }
    }

    @Test func `interest can be changed, and none means silence`() async throws {
        try await withLoop { loop in
            try await withPair { one, _ in
                let readiness = Confined<[EventLoop.Readiness]>([])
                let handler = ReadinessClosure { readiness.value.append($0) }
                let registration = await loop.run { try? loop.register(one, interest: [], handler: handler) }
                let handle = try #require(registration ?? nil)
                await loop.settle()
                #expect(await loop.run { readiness.value } == [])
                _ = await loop.run { loop.update(handle, interest: .write) }
                await loop.settle()
                #expect(await loop.run { readiness.value.first } == .writable)
                let count = await loop.run {
                    loop.update(handle, interest: .read)
                    return readiness.value.count
                }
                await loop.settle()
                #expect(await loop.run { readiness.value.count } == count)
                _ = await loop.run { loop.deregister(handle) }
            }
        }
    }

    @Test func `the end of the peer is told`() async throws {
        try await withLoop { loop in
            try await withPair { one, other in
                let readiness = Confined<EventLoop.Readiness>([])
                let handler = ReadinessClosure { readiness.value.formUnion($0) }
                let registration = await loop.run { try? loop.register(one, interest: .read, handler: handler) }
                let handle = try #require(registration ?? nil)
                try SystemCalls.shutdownWriting(other)
                await loop.settle()
                #expect(await loop.run { readiness.value.isSuperset(of: [.peerClosed, .readable]) } == true)
                #expect(await loop.run { readiness.value.contains(.hangUp) } == false)
                try SystemCalls.shutdownWriting(one)
                await loop.settle()
                #expect(await loop.run { readiness.value.contains(.hangUp) } == true)
                _ = await loop.run { loop.deregister(handle) }
            }
        }
    }

    @Test func `an event that was fetched already does not reach a handler that is gone`() async throws {
        try await withLoop { loop in
            try await withPair { one, other in
                try await withPair { another, otherOfIt in
                    // Both become readable in one turn; whoever is called first takes the other out.
                    let calls = Confined(0)
                    let registrations = Confined<[EventLoop.Registration]>([])
                    let newcomerCalls = Confined(0)
                    _ = await loop.run {
                        for (index, descriptor) in [one, another].enumerated() {
                            let handler = ReadinessClosure { _ in
                                calls.value += 1
                                loop.deregister(registrations.value[1 - index])
                                // In the same place of the table, of the same descriptor: an event would find it.
                                let newcomer = ReadinessClosure { _ in newcomerCalls.value += 1 }
                                let descriptor = registrations.value[1 - index].descriptor
                                if let next = try? loop.register(descriptor, interest: [], handler: newcomer) {
                                    registrations.value[1 - index] = next
                                }
                                loop.update(registrations.value[index], interest: [])
                            }
                            if let next = try? loop.register(descriptor, interest: .read, handler: handler) {
                                registrations.value.append(next)
                            }
                        }
                        // On the loop, so that it finds both at its next look.
                        send("1", on: other)
                        send("2", on: otherOfIt)
                    }
                    await loop.settle()
                    #expect(await loop.run { calls.value } == 1)
                    #expect(await loop.run { newcomerCalls.value } == 0)
                    _ = await loop.run { for entry in registrations.value { loop.deregister(entry) } }
                }
            }
        }
    }

    @Test func `a registration that has ended names none of its successors`() async throws {
        try await withLoop { loop in
            try await withPair { one, other in
                let isHandled = Confined(false)
                let registrations = await loop.run {
                    let first = try? loop.register(one, interest: .read, handler: ReadinessClosure { _ in })
                    if let first { loop.deregister(first) }
                    let handler = ReadinessClosure { _ in
                        isHandled.value = true
                        _ = Self.receive(on: one)
                    }
                    let second = try? loop.register(one, interest: .read, handler: handler)
                    if let first {
                        loop.update(first, interest: [])
                        loop.deregister(first)
                    }
                    return (first, second)
                }
                let (first, second) = try #require(registrations)
                #expect(first != second)
                send("x", on: other)
                while await loop.run({ isHandled.value }) == false { await Task.yield() }
                _ = await loop.run { if let second { loop.deregister(second) } }
            }
        }
    }

    @Test func `many descriptors are served`() async throws {
        try await withLoop { loop in
            var pairs: [(CInt, CInt)] = []
            defer {
                for (one, other) in pairs {
                    SystemCalls.close(one)
                    SystemCalls.close(other)
                }
            }
            for _ in 0..<300 { pairs.append(try SystemCalls.socketPair()) }
            let seen = Confined<Set<CInt>>([])
            let descriptors = pairs.map(\.0)
            _ = await loop.run {
                for descriptor in descriptors {
                    let handler = ReadinessClosure { _ in
                        if Self.receive(on: descriptor) != nil { seen.value.insert(descriptor) }
                    }
                    _ = try? loop.register(descriptor, interest: .read, handler: handler)
                }
            }
            for (_, other) in pairs { send("x", on: other) }
            while await loop.run({ seen.value.count }) != 300 { await Task.yield() }
        }
    }

    @Test func `a loop that ends lets go of its handlers`() async throws {
        try await withPair { one, _ in
            weak var weakHandler: ReadinessClosure?
            try await withLoop { loop in
                let handler = ReadinessClosure { _ in }
                weakHandler = handler
                let registration = await loop.run { try? loop.register(one, interest: .read, handler: handler) }
                #expect(registration != nil)
            }
            #expect(weakHandler == nil)
        }
    }

    @Test func `a loop that has let go of its handlers takes no new ones`() async throws {
        try await withPair { one, _ in
            let refused = SharedCount()
            try await withLoop { loop in
                // Dropped by the loop at its end, it makes the loop run one thing more.
                let farewell = Farewell {
                    loop.execute {
                        do {
                            _ = try loop.register(one, interest: .read, handler: ReadinessClosure { _ in })
                        } catch {
                            if "\(error)".contains("register with stopped event loop") { refused.add() }
                        }
                    }
                }
                _ = await loop.run {
                    _ = try? loop.register(one, interest: [], handler: ReadinessClosure { _ in _ = farewell })
                }
            }
            #expect(refused.value == 1)
        }
    }

    @Test func `reading and sending tell what is not possible now from what never will be`() throws {
        let (one, other) = try SystemCalls.socketPair()
        defer { SystemCalls.close(one) }
        // SAFETY: the buffer lives until the end of the closure.
        unsafe withUnsafeTemporaryAllocation(byteCount: 100_000, alignment: 1) { buffer in
            unsafe buffer.initializeMemory(as: UInt8.self, repeating: 1)
            guard case .wouldBlock = unsafe SystemCalls.read(one, into: buffer) else {
                Issue.record("there is nothing to read yet")
                return
            }
            var sent = 0
            while case .bytes(let count) = unsafe SystemCalls.send(one, UnsafeRawBufferPointer(buffer)) {
                sent += count
            }
            #expect(sent > 0)
            guard case .wouldBlock = unsafe SystemCalls.send(one, UnsafeRawBufferPointer(buffer)) else {
                Issue.record("the buffer of the socket is full")
                return
            }
            SystemCalls.close(other)
            guard case .failed(let error) = unsafe SystemCalls.send(one, UnsafeRawBufferPointer(buffer)) else {
                Issue.record("the peer is gone")
                return
            }
            #expect(error.errnoValue == EPIPE || error.errnoValue == ECONNRESET)
            #expect(error.description.hasPrefix("send: "))
        }
    }
}
