internal import ApusBase
internal import ApusEventLoop

/// What happened to a server, a channel or a subchannel: the last events, and how many there were. Thread-safe.
package final class EventTrace: Sendable {
    package enum Severity: Sendable { case info, warning, error }

    struct Event: Sendable {
        var text: String
        var severity: Severity
        var time: MonotonicInstant
    }

    private struct State: Sendable {
        var events: [Event] = []
        var logged = 0
    }

    /// How many events are kept.
    package static let eventsMax = 32
    /// Of a text, such as the reasons why none of many addresses could be reached, this much.
    private static let textBytesMax = 512

    private let clock: any LoopClock
    private let created: MonotonicInstant
    private let state = Lock(State())

    init(clock: any LoopClock) {
        self.clock = clock
        created = clock.now()
    }

    func log(_ text: String, _ severity: Severity = .info) {
        let text = text.utf8.count > Self.textBytesMax ? String(text.prefix(Self.textBytesMax)) : text
        let event = Event(text: text, severity: severity, time: clock.now())
        state.withLock { state in
            if state.events.count == Self.eventsMax { state.events.removeFirst() }
            state.events.append(event)
            state.logged += 1
        }
    }

    func snapshot() -> TraceSnapshot {
        let wall = WallClock(clock)
        let state = state.withLock { $0 }
        return TraceSnapshot(
            logged: state.logged,
            created: wall.time(of: created),
            events: state.events.map { event in
                TraceSnapshot.Event(text: event.text, severity: event.severity, time: wall.time(of: event.time))
            }
        )
    }
}
