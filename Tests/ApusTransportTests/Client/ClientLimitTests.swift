import ApusBase
import ApusEventLoop
import Logging
import TestSupport
import Testing

@testable import ApusTransport

/// `rule 29`: what the server allows at once.
@Suite(.timeLimit(.minutes(1))) struct ClientLimitTests {
    private func maxStreams(_ count: UInt32) -> Frame { .settings([3: count]) }

    @Test func `rule 29: calls beyond the limit wait, in order, and each end lets one begin`() async throws {
        try await withChannel { client in
            let connection = try await client.connect(opening: [maxStreams(2)])
            var calls: [Task<ClientHarness.Outcome, Never>] = []
            for index in 0..<6 { calls.append(await client.beginUnary("\(index)")) }
            try await connection.waitForEnd(of: 3)
            for index in 0..<6 {
                let stream = UInt32(2 * index + 1)
                try await connection.roundTrip()
                #expect(connection.input.streams.count == min(index + 2, 6))
                #expect(connection.request(stream).texts == ["\(index)"])
                try connection.answer(stream, "\(index)")
                #expect(await calls[index].value.text == "\(index)")
            }
        }
    }

    @Test func `rule 29: before SETTINGS no call is sent, however many the server may take`() async throws {
        try await withChannel { client in
            let first = await client.beginUnary("1")
            let second = await client.beginUnary("2")
            let connection = try await client.accept(opening: [])
            try await connection.wait(for: "the preface") { $0.settings != nil }
            try connection.send(maxStreams(1))
            try await connection.waitForEnd(of: 1)
            try await connection.roundTrip()
            #expect(connection.input.streams == [1])
            for (stream, call) in [(UInt32(1), first), (3, second)] {
                try await connection.waitForEnd(of: stream)
                try connection.answer(stream, "x")
                #expect(await call.value.text == "x")
            }
        }
    }

    @Test func `rule 29: a limit that is raised lets waiting calls begin`() async throws {
        try await withChannel { client in
            let connection = try await client.connect(opening: [maxStreams(0)])
            var calls: [Task<ClientHarness.Outcome, Never>] = []
            for index in 0..<3 { calls.append(await client.beginUnary("\(index)")) }
            try await connection.roundTrip()
            #expect(connection.input.streams == [])
            try connection.send(maxStreams(2))
            try await connection.waitForEnd(of: 3)
            try await connection.roundTrip()
            #expect(connection.input.streams == [1, 3])
            try connection.send(maxStreams(100))
            try await connection.waitForEnd(of: 5)
            for index in 0..<3 {
                try connection.answer(UInt32(2 * index + 1), "x")
                #expect(await calls[index].value.text == "x")
            }
        }
    }

    @Test func `rule 29: a limit that is lowered fails no call, and holds for those that follow`() async throws {
        try await withChannel { client in
            let connection = try await client.connect(opening: [maxStreams(3)])
            var calls: [Task<ClientHarness.Outcome, Never>] = []
            for index in 0..<3 { calls.append(await client.beginUnary("\(index)")) }
            try await connection.waitForEnd(of: 5)
            try connection.send(maxStreams(1))
            for index in 3..<5 { calls.append(await client.beginUnary("\(index)")) }
            for index in 0..<5 {
                let stream = UInt32(2 * index + 1)
                try await connection.waitForEnd(of: stream)
                try await connection.roundTrip()
                // Two ends of the three that were open bring nothing new; the third makes room for one.
                #expect(connection.input.streams.count == max(3, index + 1))
                try connection.answer(stream, "\(index)")
                #expect(await calls[index].value.text == "\(index)")
            }
        }
    }

    @Test func `rule 29: streams that a lowered limit refuses are tried again when there is room`() async throws {
        try await withChannel { client in
            let connection = try await client.connect(opening: [maxStreams(2)])
            let first = await client.beginUnary("first")
            let second = await client.beginUnary("second")
            try await connection.waitForEnd(of: 3)
            try connection.send(maxStreams(1), .reset(3, code: ErrorCode.refusedStream))
            try await connection.roundTrip()
            #expect(connection.input.streams == [1, 3])
            try connection.answer(1, "1")
            #expect(await first.value.text == "1")
            #expect(try await connection.waitForEnd(of: 5).texts == ["second"])
            try connection.answer(5, "2")
            #expect(await second.value.text == "2")
        }
    }

    @Test func `after a refusal at the limit the slot stays empty for a moment, and the retry goes first`() async throws
    {
        try await withChannel(clock: ManualClock()) { client in
            let connection = try await client.connect(opening: [maxStreams(2)])
            let calls = [
                await client.beginUnary("0"), await client.beginUnary("refused"), await client.beginUnary("2"),
            ]
            try await connection.waitForEnd(of: 3)
            try connection.send(.reset(3, code: ErrorCode.refusedStream))
            try await connection.roundTrip()
            #expect(connection.input.streams == [1, 3])
            await client.advance(by: .milliseconds(50))
            #expect(try await connection.waitForEnd(of: 5).texts == ["refused"])
            try await connection.roundTrip()
            #expect(connection.input.streams == [1, 3, 5])
            for (stream, index) in [(UInt32(5), 1), (7, 2), (1, 0)] {
                try await connection.waitForEnd(of: stream)
                try connection.answer(stream, "\(index)")
                #expect(await calls[index].value.text == "\(index)")
            }
        }
    }

    @Test func `a call that waits for a stream can be cancelled, and those behind it move up`() async throws {
        try await withChannel { client in
            let connection = try await client.connect(opening: [maxStreams(1)])
            let calls = [
                await client.beginUnary("0"), await client.beginUnary("1"), await client.beginUnary("2"),
                await client.beginUnary("3"),
            ]
            calls[1].cancel()
            calls[3].cancel()
            #expect(await calls[1].value.code == .cancelled)
            #expect(await calls[3].value.code == .cancelled)
            for (stream, index) in [(UInt32(1), 0), (3, 2)] {
                #expect(try await connection.waitForEnd(of: stream).texts == ["\(index)"])
                try connection.answer(stream, "x")
                #expect(await calls[index].value.text == "x")
            }
            try await connection.roundTrip()
            #expect(connection.input.streams == [1, 3])
        }
    }

    @Test func `that calls wait for the server's leave is logged once for each connection`() async throws {
        let log = Mutexed<[String]>([])
        let logger = Logger(label: "test") { _ in LogNotes(log) }
        try await withChannel(logger: logger) { client in
            let connection = try await client.connect(opening: [maxStreams(1)])
            let calls = [await client.beginUnary(), await client.beginUnary(), await client.beginUnary()]
            #expect(log.value.filter { $0.contains("MAX_CONCURRENT_STREAMS") }.count == 1)
            for index in 0..<3 {
                try await connection.waitForEnd(of: UInt32(2 * index + 1))
                try connection.answer(UInt32(2 * index + 1), "x")
                #expect(await calls[index].value.text == "x")
            }
            #expect(log.value.filter { $0.contains("MAX_CONCURRENT_STREAMS") }.count == 1)
        }
    }
}

/// Notes what is logged, from `debug` up.
struct LogNotes: LogHandler {
    private let notes: Mutexed<[String]>
    var metadata = Logger.Metadata()
    var logLevel = Logger.Level.debug

    init(_ notes: Mutexed<[String]>) { self.notes = notes }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let line = "\(event.level): \(event.message) \(event.metadata ?? [:])"
        notes.update { $0.append(line) }
    }
}
