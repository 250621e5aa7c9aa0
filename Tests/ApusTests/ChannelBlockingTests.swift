import Apus
import Logging
import TestSupport
import Testing

/// The rest of what holds for calls that block is in `ClientChannelEndTests`.
@Suite struct ChannelBlockingTests {
    /// Notes warnings.
    private struct WarningNotes: LogHandler {
        let notes: Notes
        var metadata = Logger.Metadata()
        var logLevel = Logger.Level.warning

        init(_ notes: Notes) { self.notes = notes }

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) { notes.add("\(event.message)") }
    }

    /// What an application may do that should not: it hides the call from the compiler in a plain function.
    private func callBlocking(_ channel: Channel, _ text: String) throws(RPCError) -> String {
        try channel.blockingUnary(.test("Unary"), text, requestCodec: TextCodec(), responseCodec: TextCodec())
    }

    @Test func `a blocking call in a task is made, and logged once in the process`() async throws {
        let notes = Notes()
        let logger = Logger(label: "test") { _ in WarningNotes(notes) }
        try await withServer { _, port in
            let channels = [
                try Channel("127.0.0.1:\(port)", logger: logger), try Channel("127.0.0.1:\(port)", logger: logger),
            ]
            for channel in channels {
                // From a thread it is as it should be.
                #expect(try await onThread { try self.callBlocking(channel, "thread") } == "thread")
            }
            #expect(notes.all == [])
            for channel in channels {
                for index in 0..<3 { #expect(try callBlocking(channel, "\(index)") == "\(index)") }
            }
            #expect(notes.all.count == 1)
            #expect(notes.all.first?.contains("a blocking call was made in a task") == true)
        }
    }

    @Test func `on the loop of the channel it is refused`() async throws {
        try await withServer { _, port in
            let channel = try Channel("127.0.0.1:\(port)", logger: silentLogger)
            let error = await withTaskExecutorPreference(channel.executor) { () -> RPCError? in
                do throws(RPCError) { _ = try callBlocking(channel, "x") } catch { return error }
                return nil
            }
            #expect(error?.code == .failedPrecondition)
        }
    }

    @Test func `in a handler that runs on the server's loop it is refused, and the loop goes on`() async throws {
        let service = TestService { registry in
            registry.unary(.test("Outer"), request: TextCodec(), response: TextCodec()) { port, _ in
                let channel = try Channel("127.0.0.1:\(port)", logger: silentLogger)
                do throws(RPCError) { return try callBlocking(channel, "x") } catch { return "\(error.code)" }
            }
            registry.unary(.test("Unary"), request: TextCodec(), response: TextCodec()) { text, _ in text }
        }
        try await withServer([service]) { _, port in
            let channel = try Channel("127.0.0.1:\(port)", logger: silentLogger)
            let codec = TextCodec()
            let reply = try await channel.unary(.test("Outer"), "\(port)", requestCodec: codec, responseCodec: codec)
            #expect(reply == "FAILED_PRECONDITION")
        }
    }
}
