import ApusBase
import ApusEventLoop
import Glibc
import TestSupport
import Testing

@testable import ApusTransport

/// A server and a channel on a kernel that fails: nothing that was acknowledged is lost, nothing spins, and all goes on
/// when the fault ends.
@Suite(.timeLimit(.minutes(2))) struct FaultTests {
    // MARK: Taking connections

    @Test(arguments: [EMFILE, ENFILE, ENOBUFS, ENOMEM]) func `connections that cannot be taken wait, and are not lost`(
        error: CInt
    ) async throws {
        let clock = ManualClock()
        try await withFaultyPair(serverClock: clock) { pair in
            #expect(await pair.call("before") == "before")
            pair.serverFaults.inject(.fail(error), into: .accept)
            let accepts = pair.serverFaults.count(of: .accept)
            try await pair.withOtherChannel { other in
                async let response = other.unary(.unary, Array("waits".utf8), CallOptions(waitForReady: true))
                await eventually("an attempt to accept") { pair.serverFaults.count(of: .accept) > accepts }
                // The time stands still: it is not tried again, and the connections that are there are served.
                #expect(await pair.turnsWhileIdle(.server) < turnsOfIdleLoopMax)
                #expect(pair.serverFaults.count(of: .accept) == accepts + 1)
                #expect(await pair.call("meanwhile") == "meanwhile")
                for attempt in 2...4 {
                    clock.advance(by: .milliseconds(250))
                    await eventually("attempt \(attempt)") {
                        pair.serverFaults.count(of: .accept) == accepts + attempt
                    }
                }
                pair.serverFaults.end(.accept)
                clock.advance(by: .milliseconds(250))
                let waited = try await response
                #expect(text(waited) == "waits")
            }
        }
    }

    @Test func `connections that were given up are passed over`() async throws {
        try await withFaultyPair { pair in
            pair.serverFaults.inject(.fail(ECONNABORTED), into: .accept, times: 200)
            #expect(await pair.call("first") == "first")
        }
    }

    @Test func `an accept that says EAGAIN without end does not spin`() async throws {
        try await withFaultyPair { pair in
            pair.serverFaults.inject(.fail(EAGAIN), into: .accept)
            async let response = pair.call("patient", "Unary", CallOptions(waitForReady: true))
            await eventually("some attempts to accept") { pair.serverFaults.count(of: .accept) > 16 }
            #expect(await pair.turnsWhileIdle(.server) < turnsOfIdleLoopMax)
            pair.serverFaults.end(.accept)
            #expect(await response == "patient")
        }
    }

    @Test(arguments: [ENOSPC, ENOMEM]) func `a connection that cannot be watched is closed, and the next is served`(
        error: CInt
    ) async throws {
        try await withFaultyPair { pair in
            // The listener is open when a call has got through.
            try await pair.withOtherChannel { other in
                _ = try await other.unary(.unary, [], CallOptions())
            }
            await eventually("its connection's end") { pair.server.connections == 0 }
            pair.serverFaults.inject(.fail(error), into: .epollControl, times: 1)
            let closes = pair.serverFaults.count(of: .close)
            let response = await pair.call("refused")
            #expect(response.hasPrefix("UNAVAILABLE"), "\(response)")
            await eventually("the descriptor being closed") { pair.serverFaults.count(of: .close) == closes + 1 }
            await eventually("its connection's end") { pair.server.connections == 0 }
            #expect(await pair.call("served", "Unary", CallOptions(waitForReady: true)) == "served")
        }
    }

    // MARK: Making connections

    @Test(arguments: [
        (SystemCalls.Name.socket, EMFILE), (.socket, ENFILE), (.epollControl, ENOSPC), (.connect, ENOBUFS),
    ])
    func `a channel that cannot connect says why, closes what it opened, and connects when it can`(
        name: SystemCalls.Name,
        error: CInt
    ) async throws {
        try await withFaultyPair { pair in
            pair.channelFaults.inject(.fail(error), into: name)
            let refused = await pair.call("refused")
            #expect(refused.hasPrefix("UNAVAILABLE") && refused.contains("\(name.rawValue)"), "\(refused)")
            async let waiting = pair.call("waits", "Unary", CallOptions(waitForReady: true))
            await eventually("another attempt") {
                pair.channelFaults.count(of: .socket) >= 3
            }
            #expect(await pair.turnsWhileIdle(.channel) < turnsOfIdleLoopMax)
            pair.channelFaults.end(name)
            #expect(await waiting == "waits")
            // Of all sockets that were opened one is left: the one that the calls go over.
            let opened = name == .socket ? 1 : pair.channelFaults.count(of: .socket)
            await eventually("the other sockets being closed") {
                pair.channelFaults.count(of: .close) == opened - 1
            }
        }
    }

    // MARK: Bytes

    @Test(arguments: FaultyPair.Side.allCases, [1, 7, 1000])
    func `a socket that takes and gives little at a time loses nothing`(
        side: FaultyPair.Side,
        bytes: Int
    ) async throws {
        try await withFaultyPair { pair in
            pair.faults(side).inject(.atMost(bytes: bytes), into: .send)
            pair.faults(side).inject(.atMost(bytes: bytes), into: .read)
            let long = String(repeating: "0123456789", count: 20 * bytes)
            async let one = pair.call(long)
            async let two = pair.call(long + "!", "Sync")
            let areEchoed = await [one == long, two == long + "!"]
            #expect(areEchoed == [true, true])
            let call = pair.channel.startCall(MethodDescriptor(service: "t", method: "Update"), CallOptions())
            for index in 0..<10 {
                try await call.write("\(index)\(long)")
                let isEchoed = try await call.next() == "\(index)\(long)"
                #expect(isEchoed)
            }
            call.finishWriting()
            #expect(try await call.next() == nil)
        }
    }

    @Test(arguments: FaultyPair.Side.allCases, [EAGAIN, ENOBUFS, ENOMEM])
    func `a socket that takes or gives nothing, whatever the kernel says, does not make its loop spin`(
        side: FaultyPair.Side,
        error: CInt
    ) async throws {
        for name in [SystemCalls.Name.send, .read] {
            try await withFaultyPair { pair in
                #expect(await pair.call("before") == "before")
                pair.faults(side).inject(.fail(error), into: name)
                let tries = pair.faults(side).count(of: name)
                async let response = pair.call("late")
                await eventually("a good many tries") { pair.faults(side).count(of: name) > tries + 20 }
                #expect(await pair.turnsWhileIdle(side) < turnsOfIdleLoopMax)
                pair.faults(side).end(name)
                #expect(await response == "late")
                #expect(await pair.call("after") == "after")
                #expect(pair.server.connections == 1)
            }
        }
    }

    @Test func `what cannot be read of a peer that says goodbye does not make a loop spin`() async throws {
        try await withFaultyPair { pair in
            #expect(await pair.call("before") == "before")
            pair.serverFaults.inject(.fail(EAGAIN), into: .read)
            let reads = pair.serverFaults.count(of: .read)
            pair.channel.close()
            await eventually("a good many tries") { pair.serverFaults.count(of: .read) > reads + 20 }
            #expect(await pair.turnsWhileIdle(.server) < turnsOfIdleLoopMax)
            pair.serverFaults.end(.read)
            await eventually("the connection's end") { pair.server.connections == 0 }
        }
    }

    @Test func `a connection that was reset ends, even if the kernel has nothing to say of it`() async throws {
        try await withFaultyPair { pair in
            let port = UInt16(pair.target.split(separator: ":")[1]) ?? 0
            let client = FrameConnection(descriptor: try BlockingClient.connect(port: port))
            try client.send(bytes: Frame.preface + [Frame.settings()].bytes)
            await eventually("the connection") { pair.server.connections == 1 }
            pair.serverFaults.inject(.fail(EAGAIN), into: .read)
            client.close(reset: true)
            await eventually("its end") { pair.server.connections == 0 }
        }
    }

    @Test(arguments: FaultyPair.Side.allCases) func `now and then nothing, and a signal: no call notices`(
        side: FaultyPair.Side
    ) async throws {
        try await withFaultyPair { pair in
            for index in 0..<50 {
                let faults = pair.faults(side)
                faults.inject(.fail(index % 2 == 0 ? EAGAIN : EINTR), into: .read, times: 1)
                faults.inject(.fail(index % 3 == 0 ? EINTR : ENOBUFS), into: .send, times: 1)
                faults.inject(.fail(EINTR), into: .epollWait, times: 2)
                faults.inject(.fail(EINTR), into: .epollControl, times: 1)
                #expect(await pair.call("\(index)") == "\(index)")
            }
            #expect(pair.server.connections == 1)
        }
    }

    @Test(arguments: FaultyPair.Side.allCases, [SystemCalls.Name.send, .read])
    func `a socket that fails ends the calls of its connection, and no other`(
        side: FaultyPair.Side,
        name: SystemCalls.Name
    ) async throws {
        try await withFaultyPair { pair in
            #expect(await pair.call("before") == "before")
            try await pair.withOtherChannel { other in
                let stays = other.startCall(MethodDescriptor(service: "t", method: "Update"), CallOptions())
                try await stays.write("stays")
                #expect(try await stays.next() == "stays")
                pair.faults(side).inject(.fail(ETIMEDOUT), into: name, times: 1)
                let response = await pair.call("fails")
                #expect(response.hasPrefix("UNAVAILABLE"), "\(response)")
                if side == .channel { #expect(response.contains("\(name.rawValue)"), "\(response)") }
                #expect(await pair.call("after") == "after")
                try await stays.write("stays on")
                #expect(try await stays.next() == "stays on")
            }
        }
    }
}

private func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }
