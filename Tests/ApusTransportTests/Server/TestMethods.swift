import ApusBase
import Synchronization
import TestSupport
import Testing

@testable import ApusTransport

/// A method of the service `t`.
func method(
    _ name: String,
    _ handler: MethodHandler,
    on executor: HandlerExecutor = .eventLoop,
    maxRequestBytes: Int = 4 << 20,
    maxResponseBytes: Int = 1 << 30
) -> ServedMethod {
    ServedMethod(
        descriptor: MethodDescriptor(service: "t", method: name),
        handler: handler,
        executor: executor,
        maxRequestBytes: maxRequestBytes,
        maxResponseBytes: maxResponseBytes
    )
}

/// Each shape of an echo, as `t/Sync`, `t/Unary`, `t/Collect`, `t/Expand`, `t/Update`.
let echoMethods = [
    method("Sync", .synchronousUnary { message, _ in message }),
    method("Unary", .unary { message, _ in message }),
    method(
        "Collect",
        .clientStreaming { call in
            var all: [UInt8] = []
            while let message = try await call.next() { all += message + [UInt8(ascii: ".")] }
            return all
        }
    ),
    method(
        "Expand",
        .serverStreaming { message, call in for byte in message { try await call.write([byte]) } }
    ),
    method(
        "Update",
        .bidirectionalStreaming { call in
            while let message = try await call.next() { try await call.write(message) }
        }
    ),
]

/// What handlers note, in order.
final class Notes: Sendable {
    private let notes = Mutexed<[String]>([])

    var all: [String] { notes.value }
    func add(_ note: String) { notes.update { $0.append(note) } }
}

/// A value that any thread may change.
final class Mutexed<Value: Sendable>: Sendable {
    private let lock: Lock<Value>

    init(_ value: Value) { lock = Lock(value) }

    var value: Value { lock.withLock { $0 } }
    func update(_ body: @Sendable (inout Value) -> Void) { lock.withLock { body(&$0) } }
}

/// What a handler's error looks like in a note.
func describe(_ error: any Error) -> String {
    (error as? RPCError).map { "\($0.code)" } ?? "\(type(of: error))"
}

func text(_ bytes: [UInt8]?) -> String { bytes.map { String(decoding: $0, as: UTF8.self) } ?? "nil" }

/// A framed message of text.
func framedText(_ text: String) -> [UInt8] { framed(Array(text.utf8)) }

extension CallContext {
    /// Reads as `RequestStream` does.
    func next() async throws -> [UInt8]? {
        if let message = messageNow() { return message }
        return try await nextMessage()
    }

    /// Writes as `ResponseWriter` does.
    func write(_ message: [UInt8]) async throws {
        let result = try writeNow(message)
        if result != .queued { try await finishWriting(message, result) }
    }

    func write(_ text: String) async throws { try await write(Array(text.utf8)) }
}
