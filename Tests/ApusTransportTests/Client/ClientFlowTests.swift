import ApusBase
import ApusEventLoop
import TestSupport
import Testing

@testable import ApusTransport

/// Flow control in both directions, and how streams share a connection.
@Suite(.timeLimit(.minutes(1))) struct ClientFlowTests {
    private static let window = 8000

    private var limits: ClientLimits {
        var limits = ClientLimits()
        limits.http2.streamWindowBytes = Int32(Self.window)
        return limits
    }

    /// A response body on its way, which keeps to the window that the client gives.
    private struct Download {
        let stream: UInt32
        var rest: ArraySlice<UInt8>
        var sent = 0

        init(_ stream: UInt32, _ bytes: [UInt8]) {
            self.stream = stream
            rest = bytes[...]
        }

        var isDone: Bool { rest.isEmpty }

        /// Sends what the window allows, in frames of at most `frameBytes`; `false` when that is nothing.
        mutating func proceed(_ connection: FrameConnection, frameBytes: Int = 3000) async throws -> Bool {
            try await connection.roundTrip()
            let room = ClientFlowTests.window + connection.request(stream).credit - sent
            let piece = rest.prefix(min(room, frameBytes))
            guard !piece.isEmpty else { return false }
            rest = rest.dropFirst(piece.count)
            sent += piece.count
            try connection.send(.data(stream, Array(piece)))
            return true
        }

        mutating func proceedAsFarAsPossible(_ connection: FrameConnection) async throws {
            while try await proceed(connection) {}
        }
    }

    @Test(arguments: [7995, 7996, 100_000])
    func `rule 34: a response larger than the window gets through to a unary call`(size: Int) async throws {
        try await withChannel(limits) { client in
            let connection = try await client.connect()
            let call = client.startUnary()
            try await connection.waitForEnd(of: 1)
            try connection.send(.headers(1, .responseHead))
            var download = Download(1, framed([UInt8](repeating: 65, count: size)))
            try await download.proceedAsFarAsPossible(connection)
            #expect(download.isDone, "stuck after \(download.sent)")
            try connection.send(.headers(1, .trailers(), endStream: true))
            #expect(await call.value.text?.utf8.count == size)
        }
    }

    @Test func `rule 34: a message larger than the window stands still until somebody waits for it`() async throws {
        try await withChannel(limits) { client in
            let connection = try await client.connect()
            let call = client.startStreaming()
            try await connection.waitForHead(of: 1)
            try connection.send(.headers(1, .responseHead))
            var download = Download(1, framed([UInt8](repeating: 65, count: 50_000)))
            try await download.proceedAsFarAsPossible(connection)
            #expect(download.sent == Self.window)
            let reading = Task { try await call.next()?.utf8.count }
            try await connection.wait(for: "credit") { ($0.requests[1]?.credit ?? 0) > 0 }
            try await download.proceedAsFarAsPossible(connection)
            #expect(download.isDone, "stuck after \(download.sent)")
            #expect(try await reading.value == 50_000)
            try connection.send(.headers(1, .trailers(), endStream: true))
            #expect(await call.all().code == .ok)
        }
    }

    @Test func `rule 34: a reader that stops stops the server, and credit follows the reading in portions`()
        async throws
    {
        try await withChannel(limits) { client in
            let connection = try await client.connect()
            let call = client.startStreaming()
            try await connection.waitForHead(of: 1)
            try connection.send(.headers(1, .responseHead))
            // Of 500 bytes each with their prefix.
            let message = framed([UInt8](repeating: 65, count: 495))
            var download = Download(1, (0..<100).flatMap { _ in message })
            try await download.proceedAsFarAsPossible(connection)
            #expect(download.sent == Self.window)
            #expect(connection.request(1).credit == 0)
            for taken in 1...100 {
                #expect(try await call.next()?.utf8.count == 495)
                try await download.proceedAsFarAsPossible(connection)
                let credits = connection.request(1).credits
                // No more than was taken, and not in crumbs: we pass on quarters of the window, nghttp2 halves.
                #expect(credits.reduce(0, +) <= taken * 500)
                #expect(credits.reduce(0, +) > taken * 500 - Self.window * 3 / 4)
                #expect(credits.allSatisfy { $0 >= Self.window / 2 })
            }
            #expect(download.isDone)
            try connection.send(.headers(1, .trailers(), endStream: true))
            #expect(await call.all().code == .ok)
        }
    }

    @Test func `the connection's window is given back on receipt, whoever reads`() async throws {
        var limits = limits
        limits.http2.connectionWindowBytes = 65_535
        try await withChannel(limits) { client in
            let connection = try await client.connect()
            var calls: [CallHandle] = []
            for index in 0..<50 {
                let stream = UInt32(2 * index + 1)
                calls.append(client.startStreaming())
                try await connection.waitForHead(of: stream)
                try connection.send(
                    .headers(stream, .responseHead),
                    .data(stream, framed([UInt8](repeating: 1, count: 7900)))
                )
            }
            try await connection.roundTrip()
            #expect(connection.input.connectionCredit > 50 * 7905 - 65_535)
            #expect(connection.input.requests.values.allSatisfy { $0.credit == 0 })
            for call in calls { call.cancel() }
        }
    }

    @Test func `rule 30: padding is credited at once, since nobody reads it`() async throws {
        try await withChannel(limits) { client in
            let connection = try await client.connect()
            let call = client.startUnary()
            try await connection.waitForEnd(of: 1)
            try connection.send(.headers(1, .responseHead))
            var sent = 0
            while sent < 10 * Self.window {
                let room = Self.window + connection.request(1).credit - sent
                #expect(room >= 256, "stuck after \(sent)")
                guard room >= 256 else { break }
                let payload = [UInt8(255)] + [UInt8](repeating: 0, count: 255)
                try connection.send(Frame(type: Frame.data, flags: Frame.paddedFlag, stream: 1, payload: payload))
                sent += payload.count
                try await connection.roundTrip()
            }
            try connection.send(.data(1, framed(Array("m".utf8))), .headers(1, .trailers(), endStream: true))
            #expect(await call.value.text == "m")
        }
    }

    @Test func `a window that is used up holds a request back, and WINDOW_UPDATE lets it go on`() async throws {
        try await withChannel { client in
            // INITIAL_WINDOW_SIZE
            let connection = try await client.connect(opening: [.settings([4: 1000])])
            let call = client.startUnary(String(repeating: "x", count: 2995))
            for sent in [1000, 1500, 3000] {
                try await connection.wait(for: "\(sent) bytes") { ($0.requests[1]?.body.count ?? 0) >= sent }
                try await connection.roundTrip()
                #expect(connection.request(1).body.count == sent)
                #expect(connection.request(1).hasEnded == (sent == 3000))
                if sent < 3000 { try connection.send(.windowUpdate(1, by: sent == 1000 ? 500 : 5000)) }
            }
            try connection.answer(1, "x")
            #expect(await call.value.text == "x")
        }
    }

    // MARK: Fairness

    @Test func `rule 33: two bulk uploads take turns, frame by frame`() async throws {
        try await withChannel { client in
            let connection = try await client.connect(opening: Frame.openingWithLargeWindows)
            // Both are queued before the loop sends anything.
            let bulk = String(repeating: "x", count: 1_000_000)
            let calls = await client.run { () -> [Task<ClientHarness.Outcome, Never>] in
                (0..<2).map { _ in Task(executorPreference: client.loop) { await client.unary(bulk) } }
            }
            try await connection.waitForEnd(of: 1)
            try await connection.waitForEnd(of: 3)
            let order = connection.input.dataOrder
            let common = order.prefix { _ in true }.dropLast(4)
            let repeats = zip(common, common.dropFirst()).filter { $0 == $1 }.count
            // Where one write ends and the next begins a turn may be doubled.
            #expect(repeats * 10 < common.count, "\(repeats) of \(common.count) frames follow one of their own stream")
            for (stream, call) in zip([1, 3] as [UInt32], calls) {
                #expect(connection.request(stream).body.count == 1_000_005)
                try connection.answer(stream, "x")
                #expect(await call.value.text == "x")
            }
        }
    }

    @Test func `rule 33: a small request is not held up by a large one`() async throws {
        try await withChannel { client in
            let connection = try await client.connect(opening: Frame.openingWithLargeWindows)
            // More than the sockets hold: nothing is read until both have begun.
            let large = await client.beginUnary(String(repeating: "x", count: 12_000_000))
            let small = await client.beginUnary("small")
            try await connection.waitForEnd(of: 3)
            try await connection.waitForEnd(of: 1)
            let order = connection.input.dataOrder
            let end = try #require(order.lastIndex(of: 1))
            let place = try #require(order.firstIndex(of: 3))
            #expect(place < end)
            for (stream, call) in [(1, large), (3, small)] {
                try connection.answer(UInt32(stream), "x")
                #expect(await call.value.text == "x")
            }
        }
    }

    @Test func `rule 33: a stream whose window is used up does not hold up the others`() async throws {
        try await withChannel { client in
            let connection = try await client.connect(opening: [
                .settings([4: 20_000]), .windowUpdate(0, by: 10_000_000),
            ])
            let stuck = client.startUnary(String(repeating: "x", count: 100_000))
            try await connection.wait(for: "its window's worth") { ($0.requests[1]?.body.count ?? 0) == 20_000 }
            for index in 1...20 {
                let stream = UInt32(2 * index + 1)
                let call = client.startUnary(String(repeating: "y", count: 19_000))
                try await connection.waitForEnd(of: stream)
                try connection.answer(stream, "x")
                #expect(await call.value.text == "x")
            }
            #expect(connection.request(1).body.count == 20_000)
            try connection.send(.windowUpdate(1, by: 100_000))
            #expect(try await connection.waitForEnd(of: 1).body.count == 100_005)
            try connection.answer(1, "x")
            #expect(await stuck.value.text == "x")
        }
    }
}
