import GRPCCore
import Synchronization

/// A service written for GRPCCore: one method for each thing that a transport has to carry.
struct FitService: RegistrableRPCService {
    let notes: Notes

    static func method(_ name: String) -> MethodDescriptor {
        MethodDescriptor(fullyQualifiedService: "fit.v1.FitService", method: name)
    }

    func registerMethods<Transport: ServerTransport>(with router: inout RPCRouter<Transport>) {
        register("Get", with: &router) { request, _ in get(request) }
        register("Update", with: &router) { request, _ in update(request) }
        register("Refuse", with: &router) { _, _ in
            throw RPCError(code: .notFound, message: "no such thing: ä", metadata: ["reason-bin": [0, 255]])
        }
        register("FailLate", with: &router) { _, _ in failLate() }
        register("Wait", with: &router) { _, context in wait(context) }
        register("EverySecond", with: &router) { _, _ in
            guard notes.add("attempt").isMultiple(of: 2) else {
                throw RPCError(code: .unavailable, message: "try again")
            }
            return StreamingServerResponse(single: ServerResponse(message: "at last"))
        }
        register("Peers", with: &router) { _, context in
            StreamingServerResponse { writer in
                try await writer.write("\(context.descriptor) \(context.remotePeer) \(context.localPeer)")
                return [:]
            }
        }
    }

    private func register<Transport: ServerTransport>(
        _ name: String,
        with router: inout RPCRouter<Transport>,
        handler:
            @escaping @Sendable @concurrent (
                StreamingServerRequest<String>, ServerContext
            ) async throws -> StreamingServerResponse<String>
    ) {
        router.registerHandler(
            forMethod: Self.method(name),
            deserializer: TextCoding(),
            serializer: TextCoding(),
            handler: handler
        )
    }

    /// Answers one message, and the request's metadata both ahead of it and behind it.
    private func get(_ request: StreamingServerRequest<String>) -> StreamingServerResponse<String> {
        StreamingServerResponse(metadata: request.metadata) { writer in
            for try await text in request.messages { try await writer.write("got \(text)") }
            return request.metadata
        }
    }

    /// Answers each message as it comes, and counts them in the trailers.
    private func update(_ request: StreamingServerRequest<String>) -> StreamingServerResponse<String> {
        StreamingServerResponse { writer in
            var count = 0
            for try await text in request.messages {
                count += 1
                try await writer.write(text)
            }
            return ["count": "\(count)"]
        }
    }

    /// Fails when metadata and a message have gone out.
    private func failLate() -> StreamingServerResponse<String> {
        StreamingServerResponse(metadata: ["early": "yes"]) { writer in
            try await writer.write("one")
            throw RPCError(code: .dataLoss, message: "lost the rest", metadata: ["late": "yes"])
        }
    }

    /// Says that it began, and waits until the call is cancelled.
    private func wait(_ context: ServerContext) -> StreamingServerResponse<String> {
        StreamingServerResponse { [notes] writer in
            try await writer.write("began")
            do {
                try await context.cancellation.cancelled
            } catch {
                // The task is cancelled beside the call.
            }
            notes.add("cancelled: \(context.cancellation.isCancelled), task: \(Task.isCancelled)")
            return [:]
        }
    }
}

/// Text as its UTF-8; "!" is refused in both directions.
struct TextCoding: MessageSerializer, MessageDeserializer {
    func serialize<Bytes: GRPCContiguousBytes>(_ text: String) throws -> Bytes {
        if text == "!" { throw RPCError(code: .invalidArgument, message: "not to be serialized") }
        return Bytes(text.utf8)
    }

    func deserialize<Bytes: GRPCContiguousBytes>(_ bytes: Bytes) throws -> String {
        // SAFETY: the buffer is read before it goes.
        let text = unsafe bytes.withUnsafeBytes { unsafe String(decoding: $0, as: UTF8.self) }
        if text == "!" { throw RPCError(code: .invalidArgument, message: "not to be deserialized") }
        return text
    }
}

/// What handlers note, for tests to wait for.
final class Notes: Sendable {
    private let notes = Mutex<[String]>([])

    var all: [String] { notes.withLock { $0 } }

    /// - Returns: how many there are.
    @discardableResult
    func add(_ note: String) -> Int {
        notes.withLock { notes in
            notes.append(note)
            return notes.count
        }
    }
}
