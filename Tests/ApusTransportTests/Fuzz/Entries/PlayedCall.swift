internal import ApusBase
internal import ApusEventLoop

@testable import ApusTransport

/// A call that a ``ClientPlay`` makes, in a task on the loop.
final class PlayedCall {
    let name: String
    /// Of a call of many messages.
    private(set) var handle: CallHandle?
    /// Whether its end may be another than the server says.
    var isDisturbed = false
    private let outcomes: Outcomes
    private var task: Task<Void, Never>?

    private final class Outcomes: Sendable {
        let list = Lock<[UnaryOutcome]>([])

        func add(_ outcome: UnaryOutcome) { list.withLock { $0.append(outcome) } }
    }

    private init(_ name: String, _ handle: CallHandle?) {
        self.name = name
        self.handle = handle
        outcomes = Outcomes()
    }

    /// How it ended; more than one would be a mistake.
    var outcome: [UnaryOutcome]? {
        let list = outcomes.list.withLock { $0 }
        return list.isEmpty ? nil : list
    }

    var isOver: Bool { outcome?.count == 1 }

    func cancel() {
        task?.cancel()
        handle?.cancel()
    }

    static func unary(_ name: String, _ options: CallOptions, _ channel: ClientChannel) -> PlayedCall {
        let call = PlayedCall(name, nil)
        let method = MethodDescriptor(service: "t", method: "Unary")
        call.task = Task(executorPreference: channel.loop) { [outcomes = call.outcomes] in
            outcomes.add(await channel.unaryOutcome(method, Array(name.utf8), options))
        }
        return call
    }

    /// Reads to the end.
    static func streaming(_ name: String, _ options: CallOptions, _ channel: ClientChannel) -> PlayedCall {
        let method = MethodDescriptor(service: "t", method: "Update")
        let handle = channel.startCall(method, options)
        let call = PlayedCall(name, handle)
        call.task = Task(executorPreference: channel.loop) { [outcomes = call.outcomes] in
            var outcome = UnaryOutcome(initialMetadata: Metadata(), trailers: Metadata(), result: .success([]))
            do throws(RPCError) {
                while try await handle.nextMessage() != nil {}
                outcome.trailers = try await handle.trailers()
            } catch {
                outcome.result = .failure(error)
            }
            outcomes.add(outcome)
        }
        return call
    }
}
