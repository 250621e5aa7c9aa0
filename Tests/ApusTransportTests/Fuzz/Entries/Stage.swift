internal import ApusBase
internal import ApusEventLoop
internal import Dispatch
internal import Foundation
internal import Glibc
internal import Logging

/// What is played on a ``Stage``: an input, a step for each turn of the loop. Confined to the loop.
protocol Play: AnyObject {
    /// Sets the stage.
    func begin() throws
    /// Goes on; `false` when the play is over.
    func nextTurn() throws -> Bool
    /// Lets go of everything, whatever became of the play.
    func end()
}

/// An event loop whose clock stands still, on which inputs are played one after another. Whatever an input does happens
/// on that one thread, turn by turn, so that it does the same whenever it is played.
final class Stage: @unchecked Sendable, TurnEndHandler {
    // Sendable, because what is played is touched on the loop alone, but for its start and its end, which a semaphore
    // puts in order.

    static let shared = Stage()

    /// The loop goes through so many turns when a play is over, before it is asked what is left of it.
    private static let turnsAtEnd = 8

    let clock = ManualClock()
    let loop: EventLoop
    private let isInUse = NSLock()
    private let curtain = DispatchSemaphore(value: 0)
    private var play: (any Play)?
    private var failure: (any Error)?
    private var turnsLeft = 0

    private init() {
        do {
            loop = try EventLoop(name: "stage", clock: clock, logger: playLogger)
        } catch {
            preconditionFailure("\(error)")
        }
    }

    /// Plays, and blocks the thread until the play is over. Throws what it throws.
    func perform(_ make: @escaping @Sendable (Stage) -> any Play) throws {
        isInUse.lock()
        defer { isInUse.unlock() }
        loop.execute {
            self.turnsLeft = Stage.turnsAtEnd
            let play = make(self)
            self.play = play
            do { try play.begin() } catch { self.fail(error) }
            self.loop.atEndOfTurn(self)
        }
        curtain.wait()
        defer { failure = nil }
        if let failure { throw failure }
    }

    private func fail(_ error: any Error) {
        if failure == nil { failure = error }
        play?.end()
        play = nil
    }

    func endOfTurn() {
        if let play {
            do {
                if try !play.nextTurn() {
                    play.end()
                    self.play = nil
                }
            } catch {
                fail(error)
            }
        } else {
            turnsLeft -= 1
        }
        if turnsLeft > 0 { loop.atEndOfTurn(self) } else { curtain.signal() }
    }
}

let playLogger = Logger(label: "fuzz") { _ in SwiftLogNoOpLogHandler() }

/// One end of a connection, as a play has it: it never blocks.
final class PlaySocket {
    private var descriptor: CInt
    private var unsent: [UInt8] = []
    private(set) var isClosedByPeer = false
    private static let dontWait = CInt(0x40)
    private static let noSignal = CInt(0x4000)

    init(_ descriptor: CInt) { self.descriptor = descriptor }

    deinit { close() }

    var isOpen: Bool { descriptor >= 0 }

    func close() {
        if descriptor >= 0 { _ = Glibc.close(descriptor) }
        descriptor = -1
    }

    func closeWriting() { _ = shutdown(descriptor, CInt(SHUT_WR)) }

    /// Sends what goes; the rest goes first next time.
    func send(_ bytes: [UInt8]) {
        unsent += bytes
        while isOpen, !unsent.isEmpty {
            // SAFETY: the bytes are the array's, which lives through the call.
            let count = unsafe unsent.withUnsafeBytes { bytes in
                unsafe Glibc.send(descriptor, bytes.baseAddress, bytes.count, Self.dontWait | Self.noSignal)
            }
            if count <= 0 { return }
            unsent.removeFirst(count)
        }
    }

    /// What has come, at most so many bytes.
    func receive(_ countMax: Int = 65_536) -> [UInt8] {
        guard isOpen, countMax > 0 else { return [] }
        var buffer = [UInt8](repeating: 0, count: countMax)
        // SAFETY: the buffer has the size given.
        let count = unsafe recv(descriptor, &buffer, buffer.count, Self.dontWait)
        if count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR) { isClosedByPeer = true }
        return Array(buffer.prefix(max(count, 0)))
    }
}
