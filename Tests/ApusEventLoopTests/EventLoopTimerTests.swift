import ApusBase
import Testing

@testable import ApusEventLoop

/// Notes which of its tags fire, and when. Confined to its loop.
private final class FiredTags: TimerHandler, @unchecked Sendable {
    var tags: [UInt64] = []
    var onFire: (UInt64) -> Void = { _ in }

    func timerFired(tag: UInt64) {
        tags.append(tag)
        onFire(tag)
    }
}

@Suite(.timeLimit(.minutes(1)))
struct EventLoopTimerTests {
    @Test func `a timer fires when the clock has been advanced by its delay, and not before`() async throws {
        let clock = ManualClock()
        try await withLoop(clock: clock) { loop in
            let fired = Confined(0)
            _ = await loop.run { _ = loop.schedule(after: .seconds(1)) { fired.value += 1 } }
            clock.advance(by: .milliseconds(990))
            await loop.settle()
            #expect(await loop.run { fired.value } == 0)
            clock.advance(by: .milliseconds(10))
            await loop.settle()
            #expect(await loop.run { fired.value } == 1)
            clock.advance(by: .seconds(1000))
            await loop.settle()
            #expect(await loop.run { fired.value } == 1)
        }
    }

    @Test func `a cancelled timer never fires`() async throws {
        let clock = ManualClock()
        try await withLoop(clock: clock) { loop in
            let handler = FiredTags()
            let timers = await loop.run {
                (0..<10).map { tag in
                    loop.schedule(at: loop.now.advanced(by: .milliseconds(100)), handler: handler, tag: tag)
                }
            }
            _ = await loop.run {
                for timer in (timers ?? []).prefix(5) { loop.cancel(timer) }
                loop.cancel(.none)
                // The first that fires takes another of the same tick along.
                handler.onFire = { tag in if tag == 5, let last = timers?.last { loop.cancel(last) } }
            }
            clock.advance(by: .seconds(1))
            await loop.settle()
            #expect(await loop.run { handler.tags } == [5, 6, 7, 8])
            _ = await loop.run { for timer in timers ?? [] { loop.cancel(timer) } }
        }
    }

    @Test func `a timer may schedule itself again`() async throws {
        let clock = ManualClock()
        try await withLoop(clock: clock) { loop in
            let handler = FiredTags()
            _ = await loop.run {
                handler.onFire = { tag in
                    if tag < 5 {
                        let next = loop.now.advanced(by: .milliseconds(50))
                        _ = loop.schedule(at: next, handler: handler, tag: tag + 1)
                    }
                }
                _ = loop.schedule(at: loop.now, handler: handler, tag: 0)
            }
            for _ in 0..<6 {
                clock.advance(by: .milliseconds(60))
                await loop.settle()
            }
            #expect(await loop.run { handler.tags } == [0, 1, 2, 3, 4, 5])
            _ = await loop.run { handler.onFire = { _ in } }
        }
    }

    @Test func `a hundred thousand timers of one instant fire in their order, a bounded number each turn`() async throws
    {
        let clock = ManualClock()
        try await withLoop(clock: clock) { loop in
            let handler = FiredTags()
            let turns = Confined(0)
            _ = await loop.run {
                let due = loop.now.advanced(by: .seconds(5))
                for tag in 0..<100_000 as Range<UInt64> { _ = loop.schedule(at: due, handler: handler, tag: tag) }
                let counter = TurnEndClosure { counter in
                    turns.value += 1
                    if handler.tags.count < 100_000 { loop.atEndOfTurn(counter) }
                }
                loop.atEndOfTurn(counter)
            }
            clock.advance(by: .seconds(5))
            while await loop.run({ handler.tags.count }) != 100_000 { await loop.settle() }
            #expect(await loop.run { handler.tags } == Array(0..<100_000))
            #expect(await loop.run { turns.value } ?? 0 >= 100_000 / loop.configuration.timersPerTurnMax)
        }
    }

    @Test func `on the kernel's clock timers fire in order and none early`() async throws {
        try await withLoop { loop in
            let early: Int = await withCheckedContinuation { continuation in
                let state = Confined((early: 0, left: 50))
                loop.execute {
                    for index in 0..<50 {
                        let due = loop.now.advanced(by: .microseconds(index * 700))
                        let handler = FiredTags()
                        handler.onFire = { _ in
                            loop.refreshNow()
                            if loop.now < due { state.value.early += 1 }
                            state.value.left -= 1
                            if state.value.left == 0 { continuation.resume(returning: state.value.early) }
                        }
                        _ = loop.schedule(at: due, handler: handler)
                    }
                }
            }
            #expect(early == 0)
        }
    }

    @Test func `a loop that ends lets go of its timers without firing them`() async throws {
        let fired = Confined(false)
        let handler = Confined<FiredTags?>(FiredTags())
        weak let weakHandler = handler.value
        try await withLoop { loop in
            _ = await loop.run {
                _ = loop.schedule(after: .seconds(3600)) { fired.value = true }
                if let handler = handler.value {
                    _ = loop.schedule(at: .distantFuture, handler: handler)
                }
                handler.value = nil
            }
            #expect(weakHandler != nil)
        }
        #expect(weakHandler == nil)
        #expect(!fired.value)
    }
}
