import ApusBase
import Testing

@testable import ApusEventLoop

/// Notes which of its tags fire.
private final class Recorder: TimerHandler {
    var fired: [UInt64] = []
    func timerFired(tag: UInt64) { fired.append(tag) }
}

private let tick = Int64(1) << TimerWheel.tickShift

private func instant(ticks: Int64, plus nanoseconds: Int64 = 0) -> MonotonicInstant {
    MonotonicInstant(nanoseconds: ticks * tick + nanoseconds)
}

/// A generator that gives the same numbers in every run.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}

struct TimerWheelTests {
    /// Fires what is due at an instant.
    private func advance(_ wheel: inout TimerWheel, to now: MonotonicInstant) {
        wheel.collectDue(now: now)
        while let (handler, tag) = wheel.popDue() { handler.timerFired(tag: tag) }
    }

    @Test(arguments: [0, 1, 63, 64, 65, 4095, 4096, 262_143, 262_144, 1 << 30, 1 << 42] as [Int64])
    func `a timer fires in its tick, not in the one before`(delay: Int64) {
        for start in [0, 1, 62, 63, 64, 1_000_003] as [Int64] {
            let recorder = Recorder()
            var wheel = TimerWheel(now: instant(ticks: start))
            _ = wheel.schedule(at: instant(ticks: start + delay, plus: 1), handler: recorder, tag: 7)
            advance(&wheel, to: instant(ticks: start + delay, plus: tick - 1))
            #expect(recorder.fired.isEmpty)
            #expect(wheel.count == 1)
            advance(&wheel, to: instant(ticks: start + delay + 1))
            #expect(recorder.fired == [7])
            #expect(wheel.count == 0)
        }
    }

    @Test func `the next tick leads to the timer in few steps, none of them late`() throws {
        for due in [1, 70, 5000, 300_000, 123_456_789] as [Int64] {
            let recorder = Recorder()
            var wheel = TimerWheel(now: instant(ticks: 0))
            _ = wheel.schedule(at: instant(ticks: due), handler: recorder, tag: 1)
            var steps = 0
            while recorder.fired.isEmpty {
                let nextTick = wheel.nextTick
                let next = try #require(nextTick)
                #expect(next <= due)
                advance(&wheel, to: instant(ticks: next))
                steps += 1
                try #require(steps <= 8)
            }
            #expect(wheel.nextTick == nil)
        }
    }

    @Test func `an instant that has passed is due at once, the distant future never`() {
        let recorder = Recorder()
        var wheel = TimerWheel(now: instant(ticks: 1000))
        _ = wheel.schedule(at: instant(ticks: 3), handler: recorder, tag: 1)
        _ = wheel.schedule(at: MonotonicInstant(nanoseconds: .min), handler: recorder, tag: 2)
        _ = wheel.schedule(at: .distantFuture, handler: recorder, tag: 3)
        #expect(wheel.nextTick == 1000)
        advance(&wheel, to: instant(ticks: 1000))
        #expect(recorder.fired == [1, 2])
        advance(&wheel, to: instant(ticks: 1 << 42))
        #expect(recorder.fired == [1, 2])
        #expect(wheel.count == 1)
    }

    @Test func `a timer that is due can still be cancelled`() {
        let recorder = Recorder()
        var wheel = TimerWheel(now: instant(ticks: 0))
        let timers = (0..<4).map { wheel.schedule(at: instant(ticks: 5), handler: recorder, tag: $0) }
        wheel.collectDue(now: instant(ticks: 9))
        #expect(wheel.cancel(timers[1]) != nil)
        #expect(wheel.cancel(timers[1]) == nil)
        while let (handler, tag) = wheel.popDue() { handler.timerFired(tag: tag) }
        #expect(recorder.fired == [0, 2, 3])
        #expect(wheel.cancel(timers[0]) == nil)
        #expect(wheel.cancel(.none) == nil)
    }

    @Test func `an identifier does not reach the next timer in its place`() {
        let recorder = Recorder()
        var wheel = TimerWheel(now: instant(ticks: 0))
        let first = wheel.schedule(at: instant(ticks: 5), handler: recorder, tag: 1)
        _ = wheel.cancel(first)
        let second = wheel.schedule(at: instant(ticks: 5), handler: recorder, tag: 2)
        #expect(first != second)
        #expect(wheel.cancel(first) == nil)
        advance(&wheel, to: instant(ticks: 5))
        #expect(recorder.fired == [2])
    }

    @Test func `a wheel keeps its handlers alive, and lets go of them`() {
        weak var weakRecorder: Recorder?
        var wheel = TimerWheel(now: instant(ticks: 0))
        let timer: EventLoop.TimerID
        do {
            let recorder = Recorder()
            weakRecorder = recorder
            timer = wheel.schedule(at: instant(ticks: 5), handler: recorder, tag: 1)
        }
        #expect(weakRecorder != nil)
        _ = wheel.cancel(timer)
        #expect(weakRecorder == nil)
    }

    @Test func `a hundred thousand timers fire in order, or are cancelled`() {
        let recorder = Recorder()
        var random = SplitMix(state: 1)
        var wheel = TimerWheel(now: instant(ticks: 0))
        var dues: [Int64] = []
        var timers: [EventLoop.TimerID] = []
        for index in 0..<100_000 {
            let due = Int64.random(in: 0..<(60_000 * 1_000_000), using: &random)
            dues.append(due)
            let at = MonotonicInstant(nanoseconds: due)
            timers.append(wheel.schedule(at: at, handler: recorder, tag: UInt64(index)))
        }
        for index in stride(from: 0, to: 100_000, by: 3) { _ = wheel.cancel(timers[index]) }
        #expect(wheel.count == 66_666)
        while let next = wheel.nextTick { advance(&wheel, to: instant(ticks: next)) }
        #expect(recorder.fired.count == 66_666)
        #expect(recorder.fired.allSatisfy { $0 % 3 != 0 })
        let ticks = recorder.fired.map { (dues[Int($0)] + tick - 1) / tick }
        #expect(zip(ticks, ticks.dropFirst()).allSatisfy { $0 <= $1 })
    }

    /// The same, done simply: every timer is looked at each time.
    private struct NaiveTimers {
        var pending: [(due: Int64, order: Int, tag: UInt64)] = []
        var order = 0

        mutating func schedule(_ due: Int64, _ tag: UInt64) {
            pending.append((due, order, tag))
            order += 1
        }

        mutating func cancel(_ tag: UInt64) -> Bool {
            guard let index = pending.firstIndex(where: { $0.tag == tag }) else { return false }
            pending.remove(at: index)
            return true
        }

        mutating func expire(_ now: Int64) -> [UInt64] {
            let due = pending.filter { $0.due <= now }
            pending.removeAll { $0.due <= now }
            return due.map(\.tag)
        }
    }

    @Test(arguments: 1...40 as ClosedRange<UInt64>)
    func `the wheel agrees with a naive model`(seed: UInt64) {
        var random = SplitMix(state: seed)
        var now = Int64.random(in: 0...(1 << 34), using: &random)
        let recorder = Recorder()
        var wheel = TimerWheel(now: instant(ticks: now))
        var model = NaiveTimers()
        var identifiers: [(tag: UInt64, timer: EventLoop.TimerID)] = []
        for tag in 0..<2000 as Range<UInt64> {
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<5:
                let reach = Int64(1) << Int64.random(in: 0...36, using: &random)
                // At times in the past.
                let due = max(now + Int64.random(in: -2...reach, using: &random), 0)
                model.schedule(due, tag)
                identifiers.append((tag, wheel.schedule(at: instant(ticks: due), handler: recorder, tag: tag)))
            case 5..<7:
                guard let (tag, timer) = identifiers.randomElement(using: &random) else { continue }
                #expect(model.cancel(tag) == (wheel.cancel(timer) != nil))
            default:
                let isExact = Bool.random(using: &random)
                let reach = Int64(1) << Int64.random(in: 0...37, using: &random)
                now = (isExact ? wheel.nextTick : nil) ?? now + Int64.random(in: 0...reach, using: &random)
                recorder.fired = []
                advance(&wheel, to: instant(ticks: now))
                #expect(recorder.fired.sorted() == model.expire(now).sorted())
            }
            #expect(wheel.count == model.pending.count)
            if let next = wheel.nextTick, let first = model.pending.map(\.due).min() {
                #expect(next <= max(first, now))
            }
        }
    }
}
