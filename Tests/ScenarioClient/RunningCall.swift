internal import Apus
internal import ApusBase
internal import Foundation

/// One call as a test has described it, with what its course depends on later. From any thread.
final class RunningCall: Sendable {
    private struct Handle: Sendable {
        var cancel: (@Sendable () -> Void)?
        var isCancelled = false
    }

    let command: Command
    let channel: Channel
    let record: CallRecord
    /// Opened when the call may half-close, read on, or be let go.
    let finish = Gate()
    let resume = Gate()
    let release = Gate()
    private let task = Lock<Task<Void, Never>?>(nil)
    private let handle = Lock(Handle())

    init(_ command: Command, _ channel: Channel) {
        self.command = command
        self.channel = channel
        self.record = CallRecord(command)
        if command.hold != true { finish.open() }
    }

    func start(otherLoop: any TaskExecutor) {
        let isBlocking = command.blocking ?? false
        switch command.on ?? (isBlocking ? .thread : .task) {
        case .thread: Thread { self.runBlocking() }.start()
        case .main where isBlocking: DispatchQueue.main.async { self.runBlocking() }
        case .main: keep(Task { @MainActor in await self.run() })
        case .actor:
            let actor = CallingActor()
            keep(Task { isBlocking ? await actor.runBlocking(self) : await actor.run(self) })
        case .task: keep(Task.detached { isBlocking ? self.runBlocking() : await self.run() })
        case .loop: startTask(on: channel.executor, isBlocking)
        case .otherLoop: startTask(on: otherLoop, isBlocking)
        }
    }

    private func startTask(on executor: any TaskExecutor, _ isBlocking: Bool) {
        keep(Task(executorPreference: executor) { isBlocking ? self.runBlocking() : await self.run() })
    }

    private func keep(_ new: Task<Void, Never>) { task.withLock { $0 = new } }

    /// Tells how the call is cancelled by hand from now on; that may have been asked for already.
    func cancellable(_ cancel: (@Sendable () -> Void)?) {
        let isLate = handle.withLock { handle in
            handle.cancel = cancel
            return handle.isCancelled
        }
        if isLate { cancel?() }
    }

    func cancel(_ how: String) {
        switch how {
        case "task": task.withLock { $0 }?.cancel()
        case "drop": release.open()
        default:
            let cancel = handle.withLock { handle in
                handle.isCancelled = true
                return handle.cancel
            }
            cancel?()
        }
        finish.open()
    }

    /// Runs the call in the caller's task and tells of its end.
    func run() async {
        var failure: RPCError?
        do throws(RPCError) {
            switch command.kind ?? .unary {
            case .unary: try await unary()
            case .server: try await serverStreaming()
            case .client: try await clientStreaming()
            case .bidi: try await bidirectionalStreaming()
            }
        } catch {
            failure = error
        }
        cancellable(nil)
        record.end(failure)
    }

    /// Runs the call on the caller's thread and tells of its end.
    func runBlocking() {
        var failure: RPCError?
        do throws(RPCError) {
            switch command.kind ?? .unary {
            case .unary: try blockingUnary()
            case .server: try blockingServerStreaming()
            case .client: try blockingClientStreaming()
            case .bidi: try blockingBidirectionalStreaming()
            }
        } catch {
            failure = error
        }
        cancellable(nil)
        record.end(failure)
    }
}

/// Makes calls inside of itself.
private actor CallingActor {
    func run(_ call: RunningCall) async { await call.run() }

    func runBlocking(_ call: RunningCall) { call.runBlocking() }
}
