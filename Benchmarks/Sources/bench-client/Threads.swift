import Glibc

/// What came of some work that another thread does.
///
/// Unchecked since the semaphore orders the two: the worker writes the result before it posts, and it is read after
/// the wait.
private final class Outcome<Value: Sendable>: @unchecked Sendable {
    private var result: Result<Value, any Error>?
    private let done = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

    init() { sem_init(done, 0, 0) }

    deinit {
        sem_destroy(done)
        done.deallocate()
    }

    func finish(_ result: Result<Value, any Error>) {
        self.result = result
        sem_post(done)
    }

    func wait() throws -> Value {
        while sem_wait(done) != 0 {}  // EINTR
        guard let result else { preconditionFailure("the work was not done") }
        return try result.get()
    }
}

/// Runs a task to its end while the calling thread waits.
///
/// The program's `main` is synchronous, since callgrind does not survive an asynchronous one.
@discardableResult
func waitForTask<Value: Sendable>(
    preferring executor: (any TaskExecutor)?,
    _ body: @escaping @Sendable () async throws -> Value
) throws -> Value {
    let outcome = Outcome<Value>()
    Task.detached(executorPreference: executor) {
        do {
            outcome.finish(.success(try await body()))
        } catch {
            outcome.finish(.failure(error))
        }
    }
    return try outcome.wait()
}

/// A thread that does one piece of work.
final class WorkThread<Value: Sendable>: Sendable {
    private let outcome = Outcome<Value>()

    init(_ work: @escaping @Sendable () throws -> Value) {
        let outcome = outcome
        let job = Unmanaged.passRetained(Job { outcome.finish(Result(catching: work)) })
        var thread = pthread_t()
        let status = pthread_create(&thread, nil, { Job.run($0) }, job.toOpaque())
        precondition(status == 0, "no thread could be started: \(status)")
        pthread_detach(thread)
    }

    /// What the work gave, when it is done.
    func wait() throws -> Value { try outcome.wait() }
}

private final class Job: Sendable {
    private let body: @Sendable () -> Void

    init(_ body: @escaping @Sendable () -> Void) { self.body = body }

    static func run(_ pointer: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
        guard let pointer else { return nil }
        Unmanaged<Job>.fromOpaque(pointer).takeRetainedValue().body()
        return nil
    }
}
