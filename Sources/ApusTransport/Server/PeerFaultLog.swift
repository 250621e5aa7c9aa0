internal import ApusEventLoop
internal import Logging

/// Logs what peers did that had their connections ended: once for each connection, and no more than so often for all
/// of a loop, so that whoever makes many connections cannot fill the log with it.
///
/// Confined to its loop.
final class PeerFaultLog {
    /// Lines a second; five seconds' worth may come at once.
    private static let linesPerSecond = 10

    private let logger: Logger
    private let loop: EventLoop
    private var budget: TokenBucket?
    /// Lines left out since the last one.
    private var leftOut = 0

    init(logger: Logger, loop: EventLoop) {
        self.logger = logger
        self.loop = loop
    }

    func log(_ level: Logger.Level, _ message: Logger.Message, _ metadata: @autoclosure () -> Logger.Metadata) {
        guard logger.logLevel <= level else { return }
        var current = budget ?? TokenBucket(perSecond: Self.linesPerSecond, now: loop.now)
        let isWithinBudget = current.take(now: loop.now)
        budget = current
        guard isWithinBudget else {
            leftOut += 1
            return
        }
        var metadata = metadata()
        if leftOut > 0 { metadata["left-out"] = "\(leftOut) lines like this" }
        leftOut = 0
        logger.log(level: level, message, metadata: metadata)
    }
}
