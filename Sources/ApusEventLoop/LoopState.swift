internal import ApusBase

/// What belongs to the loop's thread alone, and to the loop's init and deinit.
///
/// The loop keeps it behind a pointer. As properties of the class each access would be checked at run time for
/// overlapping another, which was 1080 of the 1730 instructions of a turn with one event.
struct LoopState: ~Copyable {
    /// The time as of the start of the turn or the last `refreshNow`.
    var now: MonotonicInstant
    /// Which job is being run, 0 if none is.
    var currentJob: UInt = 0
    /// When the present unit began, by the coarse clock, in nanoseconds.
    var unitStart: Int64 = 0
    /// Costly units that this turn has let through.
    var costlyUnits = 0
    /// What compressing and inflating have cost this turn, in bytes.
    var codedBytes = 0
    /// Whether work is refused, since the thread is about to end.
    var isClosed = false
    var work = WorkRing()
    /// Empty but while the inbox is drained.
    var spareWork = WorkRing()
    var descriptors: DescriptorTable
    var timers: TimerWheel
    var turnEndHandlers: [any TurnEndHandler] = []
    /// Empty but while handlers are called.
    var spareTurnEndHandlers: [any TurnEndHandler] = []
    var stallObservers: [EventLoop.StallObserver] = []
    var endObservers: [@Sendable () -> Void] = []
    /// Whether those who live here have been told that the loop ends.
    var isEnding = false
    var residents: [ObjectIdentifier: any LoopResident] = [:]

    init(now: MonotonicInstant, descriptors: consuming DescriptorTable) {
        self.now = now
        self.descriptors = descriptors
        timers = TimerWheel(now: now)
    }
}
