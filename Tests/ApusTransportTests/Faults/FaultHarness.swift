import ApusBase
import ApusEventLoop
import TestSupport
import Testing

@testable import ApusTransport

/// A server and a channel, each on a loop of its own, whose system calls a test has fail.
struct FaultyPair: Sendable {
    let server: ServerCore
    let serverFaults: SystemCallFaults
    let channel: ClientChannel
    let channelFaults: SystemCallFaults
    let target: String
    /// The server's, if its time is not the kernel's.
    let clock: ManualClock?

    enum Side: CaseIterable { case server, channel }

    func faults(_ side: Side) -> SystemCallFaults { side == .server ? serverFaults : channelFaults }

    /// The status of a call, and its response.
    func call(_ text: String, _ name: String = "Unary", _ options: CallOptions = CallOptions()) async -> String {
        do throws(RPCError) {
            let method = MethodDescriptor(service: "t", method: name)
            let response = try await channel.unary(method, Array(text.utf8), options)
            return String(decoding: response, as: UTF8.self)
        } catch {
            return "\(error.code): \(error.message)"
        }
    }

    /// One more channel to the server, for as long as the closure runs.
    func withOtherChannel<Result>(_ body: (ClientChannel) async throws -> Result) async throws -> Result {
        let target = try ClientTarget(target)
        let other = ClientChannel(target: target, limits: channel.limits, loop: channel.loop, logger: silentLogger)
        defer { other.close() }
        return try await body(other)
    }

    /// How many turns the loop of a side goes through while nothing but a fault happens for a while.
    func turnsWhileIdle(_ side: Side) async -> Int {
        let before = faults(side).count(of: .epollWait)
        try? await Task.sleep(for: .milliseconds(300))
        return faults(side).count(of: .epollWait) - before
    }
}

/// Turns a loop may go through in `turnsWhileIdle`: a hundred a second are pauses, and a spinning one has thousands.
let turnsOfIdleLoopMax = 150

func withFaultyPair(
    _ methods: [ServedMethod] = echoMethods,
    serverClock: ManualClock? = nil,
    limits: ClientLimits = ClientLimits(),
    _ body: (FaultyPair) async throws -> Void
) async throws {
    let serverLoop = try EventLoop(
        name: "faulty-server",
        clock: serverClock ?? MonotonicClock(),
        logger: silentLogger
    )
    let channelLoop = try EventLoop(name: "faulty-channel", logger: silentLogger)
    let server = ServerCore(methods: methods, limits: ServerLimits(), loops: [serverLoop], logger: silentLogger)
    guard case .ipv4(_, let port) = try server.listen(on: .ipv4(host: "127.0.0.1", port: 0)) else { return }
    let target = try ClientTarget("127.0.0.1:\(port)")
    var limits = limits
    limits.backoff.initialDelay = .milliseconds(10)
    let pair = FaultyPair(
        server: server,
        serverFaults: SystemCallFaults(on: serverLoop),
        channel: ClientChannel(target: target, limits: limits, loop: channelLoop, logger: silentLogger),
        channelFaults: SystemCallFaults(on: channelLoop),
        target: "127.0.0.1:\(port)",
        clock: serverClock
    )
    var failure: (any Error)?
    do { try await body(pair) } catch { failure = error }
    pair.serverFaults.lift()
    pair.channelFaults.lift()
    pair.channel.close()
    server.stop()
    await server.waitUntilStopped()
    for loop in [serverLoop, channelLoop] {
        loop.stop()
        let isJoined = try await onThread { loop.join() }
        #expect(isJoined)
    }
    if let failure { throw failure }
}
