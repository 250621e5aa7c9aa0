import ApusBase
import Testing

@testable import ApusEventLoop

@Suite(.timeLimit(.minutes(1)))
struct NameResolverTests {
    @Test(
        arguments: [
            ("127.0.0.1", .ipv4(host: "127.0.0.1", port: 7)), ("::1", .ipv6(host: "::1", port: 7)),
            ("0:0:0:0:0:0:0:1", .ipv6(host: "::1", port: 7)),
        ] as [(String, SocketAddress)]
    )
    func `a host in numbers is its own address`(host: String, address: SocketAddress) async throws {
        #expect(try await NameResolver.resolve(host: host, port: 7) == [address])
        #expect(NameResolver.numericAddress(host: host, port: 7) == address)
    }

    @Test func `localhost is this machine, with the port that was asked for`() async throws {
        let addresses = try await NameResolver.resolve(host: "localhost", port: 50051)
        #expect(!addresses.isEmpty)
        for address in addresses {
            #expect(address == .ipv4(host: "127.0.0.1", port: 50051) || address == .ipv6(host: "::1", port: 50051))
        }
        #expect(Set(addresses).count == addresses.count)
    }

    @Test func `many look-ups at once are all answered`() async throws {
        let counts = try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<100 { group.addTask { try await NameResolver.resolve(host: "localhost", port: 1).count } }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(counts.count == 100)
    }

    @Test(arguments: ["no-such-host.invalid", "", "a b"])
    func `a host that is none is an error with its name and the cause`(host: String) async throws {
        let error = await #expect(throws: NameResolutionError.self) {
            try await NameResolver.resolve(host: host, port: 1)
        }
        #expect(error?.host == host)
        #expect(error?.description.hasPrefix("look up host \"\(host)\": ") == true)
        #expect(error?.cause.isEmpty == false)
    }

    @Test func `a host with a NUL in it is none`() async throws {
        await #expect(throws: NameResolutionError.self) {
            try await NameResolver.resolve(host: "localhost\0x", port: 1)
        }
    }

    @Test func `a cancelled task does not wait for its answer`() async throws {
        let task = Task {
            // SAFETY: the task is used within the closure.
            unsafe withUnsafeCurrentTask { task in unsafe task?.cancel() }
            return try await NameResolver.resolve(host: "localhost", port: 1)
        }
        let error = await #expect(throws: NameResolutionError.self) { try await task.value }
        #expect(error?.isTransient == true)
    }

    @Test func `a task on a loop is answered on its loop`() async throws {
        try await withLoop { loop in
            let isBack = try await Task(executorPreference: loop) {
                _ = try await NameResolver.resolve(host: "localhost", port: 1)
                return loop.isCurrent
            }.value
            #expect(isBack)
        }
    }
}
