internal import ApusBase
internal import Synchronization

@testable import ApusTransport

/// The methods that a ``ServerPlay`` calls. Their handlers run on the loop, so that they do the same every time.
final class PlayMethods: Sendable {
    static let paths = [
        "/t/Sync", "/t/Unary", "/t/Show", "/t/Collect", "/t/Expand", "/t/Update", "/t/Fail", "/t/Hang", "/t/Slow",
        "/t/Flood", "/t/None", "/x",
    ]

    static let requestBytesMax = 10_000

    private let count = Atomic<Int>(0)
    private let gate = AsyncStream<Void>.makeStream()

    /// Handlers that have begun and not returned.
    var running: Int { count.load(ordering: .relaxed) }

    /// Lets `Slow` go on.
    func openGate() { gate.continuation.finish() }

    static func show(_ metadata: [Entry]) -> [UInt8] {
        metadata.flatMap { Array($0.name.utf8) + [0, UInt8($0.value.count & 255)] + $0.value }
    }

    var all: [ServedMethod] {
        [
            method("Sync", .synchronousUnary { message, _ in message }),
            method("Show", .synchronousUnary { _, call in Self.show(Entry.all(of: call.metadata)) }),
            method("Unary", .unary { message, _ in self.counted { message } }),
            method("Fail", .unary { message, call in try self.counted { try Self.fail(message, call) } }),
            method("Slow", .unary { message, _ in await self.wait(message) }),
            method(
                "Hang",
                .bidirectionalStreaming { call in
                    let never = AsyncStream<Void>.makeStream()
                    await self.counting {
                        call.sendInitialMetadata()
                        for await _ in never.stream {}
                    }
                }
            ),
        ] + streams
    }

    private var streams: [ServedMethod] {
        [
            method(
                "Collect",
                .clientStreaming { call in
                    try await self.counting {
                        var all: [UInt8] = []
                        while let message = try await Self.next(call) { all += message }
                        return all
                    }
                }
            ),
            method(
                "Expand",
                .serverStreaming { message, call in
                    try await self.counting { for byte in message { try await Self.write([byte], call) } }
                }
            ),
            method(
                "Update",
                .bidirectionalStreaming { call in
                    try await self.counting {
                        while let message = try await Self.next(call) { try await Self.write(message, call) }
                    }
                }
            ),
            method(
                "Flood",
                .bidirectionalStreaming { call in
                    // Answers before it reads, and more than it was sent.
                    try await self.counting {
                        for _ in 0..<20 { try await Self.write([UInt8](repeating: 7, count: 3000), call) }
                        while let message = try await Self.next(call) { try await Self.write(message, call) }
                    }
                }
            ),
        ]
    }

    private func method(_ name: String, _ handler: MethodHandler) -> ServedMethod {
        ServedMethod(
            descriptor: MethodDescriptor(service: "t", method: name),
            handler: handler,
            executor: .eventLoop,
            maxRequestBytes: Self.requestBytesMax,
            maxResponseBytes: 1 << 20
        )
    }

    private func counted<Result>(_ body: () throws -> Result) rethrows -> Result {
        count.add(1, ordering: .relaxed)
        defer { count.subtract(1, ordering: .relaxed) }
        return try body()
    }

    private func counting<Result>(_ body: () async throws -> Result) async rethrows -> Result {
        count.add(1, ordering: .relaxed)
        defer { count.subtract(1, ordering: .relaxed) }
        return try await body()
    }

    private func wait(_ message: [UInt8]) async -> [UInt8] {
        await counting { for await _ in gate.stream {} }
        return message
    }

    private static func fail(_ message: [UInt8], _ call: CallContext) throws -> [UInt8] {
        var trailers = Metadata()
        trailers.add(bytes: message, for: "cause-bin")
        call.addTrailers(trailers)
        let code = StatusCode(rawValue: Int(message.first ?? 13) % 17) ?? .unknown
        throw RPCError(code: code, message: String(decoding: message, as: UTF8.self))
    }

    /// Reads as `RequestStream` does.
    private static func next(_ call: CallContext) async throws -> [UInt8]? {
        if let message = call.messageNow() { return message }
        return try await call.nextMessage()
    }

    /// Writes as `ResponseWriter` does.
    private static func write(_ message: [UInt8], _ call: CallContext) async throws {
        let result = try call.writeNow(message)
        if result != .queued { try await call.finishWriting(message, result) }
    }
}
