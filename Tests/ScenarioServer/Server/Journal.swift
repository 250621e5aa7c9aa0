internal import Apus
internal import ApusBase

/// What handlers did, for a test to ask about: counts and notes under names. From any thread.
final class Journal: Sendable {
    private struct Entries {
        var counts: [String: Int] = [:]
        var notes: [String: String] = [:]
    }

    private let entries = Lock(Entries())

    func count(_ name: String) { entries.withLock { $0.counts[name, default: 0] += 1 } }

    func set(_ name: String, to value: Int) { entries.withLock { $0.counts[name] = value } }

    func note(_ name: String, _ text: String) { entries.withLock { $0.notes[name] = text } }

    /// `name=value`, one for each line, in the order of the names.
    var lines: [String] {
        entries.withLock { entries in
            let counts = entries.counts.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
            let notes = entries.notes.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
            return counts + notes
        }
    }

    /// Runs a part of a handler and records that it started, and whether it then finished, failed, or failed in a task
    /// that was cancelled: `started`, `finished`, `failed`, `cancelled`, each also with `.key`.
    func recording<Value>(_ key: String, _ body: () async throws -> Value) async throws -> Value {
        record("started", key)
        do {
            let value = try await body()
            record("finished", key)
            return value
        } catch {
            record(Task.isCancelled ? "cancelled" : "failed", key)
            note("error.\(key)", "\(error)")
            throw error
        }
    }

    private func record(_ event: String, _ key: String) {
        count(event)
        if !key.isEmpty { count("\(event).\(key)") }
    }
}

/// Places where a handler waits until another call opens them. They stay open.
final class Gates: Sendable {
    private struct State {
        var open: Set<String> = []
        var waiters: [String: [AsyncStream<Never>.Continuation]] = [:]
    }

    private let state = Lock(State())

    func open(_ name: String) {
        let waiters = state.withLock { state in
            state.open.insert(name)
            return state.waiters.removeValue(forKey: name) ?? []
        }
        for waiter in waiters { waiter.finish() }
    }

    /// Waits until the gate is open; throws when the task is cancelled.
    func wait(at name: String) async throws {
        let (opening, waiter) = AsyncStream.makeStream(of: Never.self)
        let isOpen = state.withLock { state in
            if state.open.contains(name) { return true }
            state.waiters[name, default: []].append(waiter)
            return false
        }
        if isOpen { return }
        for await _ in opening {}
        try Task.checkCancellation()
    }
}
