internal import Apus
internal import ApusBase
internal import Foundation

/// What became of a call so far; written by those who run it, read by who asks. From any thread.
final class CallRecord: Sendable {
    private struct Values: Sendable {
        var written = 0
        var read = 0
        var bytes = 0
        var misplaced = 0
        var messages: [JSON] = []
        /// Of the responses that were read in the form that says it: whether each came compressed.
        var compressed: [JSON] = []
        var initial: Metadata?
        var trailers: Metadata?
        var writeError: RPCError?
    }

    let command: Command
    private let values = Lock(Values())
    private let began = ContinuousClock.now

    init(_ command: Command) { self.command = command }

    var progress: (written: Int, read: Int) { values.withLock { ($0.written, $0.read) } }

    func wrote() { values.withLock { $0.written += 1 } }

    func failedToWrite(_ error: RPCError) { values.withLock { $0.writeError = error } }

    /// Counts a message and returns how many there are now.
    func took(_ message: [UInt8]) -> Int {
        values.withLock { values in
            if !command.isExpected(message, at: values.read) { values.misplaced += 1 }
            values.read += 1
            values.bytes += message.count
            if command.keep ?? true { values.messages.append(.base64(message)) }
            return values.read
        }
    }

    /// Notes how a response came.
    func took(wasCompressed: Bool) { values.withLock { $0.compressed.append(.int(wasCompressed ? 1 : 0)) } }

    func took(initial: Metadata?) { values.withLock { $0.initial = initial } }

    func took(trailers: Metadata?) { values.withLock { $0.trailers = trailers } }

    /// Tells how the call ended; `nil` is OK.
    func end(_ error: RPCError?) {
        let elapsed = ContinuousClock.now - began
        let values = values.withLock { $0 }
        Output.say(
            "end",
            [
                "id": .string(command.id ?? ""),
                "code": .string("\(error?.code ?? .ok)"),
                "message": .string(error?.message ?? ""),
                "origin": error.map { .string($0.origin == .peer ? "peer" : "local") } ?? .null,
                "error_metadata": .metadata(error?.metadata),
                "count": .int(values.read),
                "bytes": .int(values.bytes),
                "misplaced": .int(values.misplaced),
                "messages": .array(values.messages),
                "compressed": .array(values.compressed),
                "written": .int(values.written),
                "write_error": values.writeError.map { .string("\($0.code): \($0.message)") } ?? .null,
                "initial": .metadata(values.initial),
                "trailers": .metadata(values.trailers),
                "ms": .double(elapsed / .milliseconds(1)),
            ]
        )
    }
}
