import TestSupport
import Testing

@testable import ApusTransport

/// How a thread that blocks waits for a loop.
@Suite(.timeLimit(.minutes(1))) struct ThreadParkerTests {
    @Test func `a thread that was woken before it waits does not wait`() async throws {
        try await onThread {
            let parker = ThreadParker()
            for _ in 0..<3 {
                parker.unpark()
                parker.unpark()
                parker.park()
            }
        }
    }

    /// What two threads count up in turn; the parkers are all that keeps them apart.
    private final class Ball: @unchecked Sendable {
        var count = 0
    }

    @Test func `each wake-up lets a thread go once, and what came before it is seen`() async throws {
        let (there, back) = (ThreadParker(), ThreadParker())
        let ball = Ball()
        async let first: Void = onThread {
            for _ in 0..<5000 {
                ball.count += 1
                there.unpark()
                back.park()
            }
        }
        async let second: Void = onThread {
            for _ in 0..<5000 {
                there.park()
                ball.count += 1
                back.unpark()
            }
        }
        _ = try await (first, second)
        #expect(ball.count == 10_000)
    }
}
