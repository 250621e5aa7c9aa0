import ApusBase
import ApusEventLoop
import TestSupport
import Testing

@testable import ApusTransport

/// `rule 22`, on a clock that the test moves.
@Suite(.timeLimit(.minutes(1))) struct ServerSessionDeadlineTests {
    private func head(_ name: String, _ timeout: String) -> Fields { .request("/t/\(name)", ["grpc-timeout": timeout]) }

    @Test func `a deadline cancels the handler and ends the call with DEADLINE_EXCEEDED, and not before`() async throws
    {
        let notes = Notes()
        let wait = method(
            "Wait",
            .clientStreaming { call in
                do { _ = try await call.next() } catch {
                    notes.add("\(describe(error)) \(Task.isCancelled) \(call.isCancelled)")
                }
                return Array("too late".utf8)
            }
        )
        try await withSession([wait], clock: ManualClock()) { session in
            await session.receive(.headers(1, head("Wait", "100m")))
            await session.advance(by: .milliseconds(95))
            #expect(notes.all == [])
            #expect(await session.answer(1).frameTypes == [])
            await session.advance(by: .milliseconds(10))
            #expect(notes.all == ["DEADLINE_EXCEEDED true true"])
            let answer = await session.answer(1)
            #expect(answer.frameTypes == [Frame.headers, Frame.reset])
            #expect(answer.status == 4)
            #expect(answer.reset == ErrorCode.noError)
        }
    }

    @Test func `a deadline ends a handler that sleeps, and a writer that waits`() async throws {
        let notes = Notes()
        let methods = [
            method(
                "Sleep",
                .unary { _, _ in
                    do { try await Task.sleep(for: .seconds(3600)) } catch { notes.add("\(type(of: error))") }
                    return []
                }
            ),
            method(
                "Write",
                .serverStreaming { _, call in
                    do { while true { try await call.write([UInt8](repeating: 1, count: 10_000)) } } catch {
                        notes.add(describe(error))
                    }
                }
            ),
        ]
        try await withSession(methods, clock: ManualClock(), opening: [.settings([4: 1000])]) { session in
            for (stream, name) in [(UInt32(1), "Sleep"), (3, "Write")] {
                await session.receive(
                    .headers(stream, head(name, "1S")),
                    .data(stream, framedText("m"), endStream: true)
                )
            }
            await session.advance(by: .seconds(2))
            await eventually("both handlers' ends") { notes.all.count == 2 }
            #expect(notes.all.sorted() == ["CancellationError", "DEADLINE_EXCEEDED"])
            #expect(await session.answer(1).status == 4)
            // Its trailers would stand behind data that the client does not take.
            #expect(await session.answer(3).reset == ErrorCode.cancel)
        }
    }

    @Test func `a deadline that passes before the request is whole ends the call`() async throws {
        try await withSession(echoMethods, clock: ManualClock()) { session in
            await session.receive(.headers(1, head("Unary", "1S")), .data(1, [0, 0, 0]))
            await session.advance(by: .seconds(2))
            #expect(await session.answer(1).status == 4)
            let open = try await session.inSession { $0.openStreams }
            #expect(open == 0)
        }
    }

    @Test func `a call that ended in time hears nothing of its deadline, nor does the next`() async throws {
        try await withSession(echoMethods, clock: ManualClock()) { session in
            #expect(await session.call(1, "/t/Unary", "m", ["grpc-timeout": "1S"]).status == 0)
            await session.receive(.headers(3, .request("/t/Update")), .data(3, framedText("a")))
            await session.advance(by: .seconds(5))
            await session.receive(.data(3, framedText("b"), endStream: true))
            let answer = await session.answer(3)
            #expect(answer.texts == ["a", "b"])
            #expect(answer.status == 0)
            #expect(await session.answer(1).reset == nil)
        }
    }

    @Test(arguments: ["99999999H", "2562047H", "99999999M"])
    func `the longest deadlines are deadlines`(timeout: String) async throws {
        try await withSession(echoMethods, clock: ManualClock()) { session in
            await session.receive(.headers(1, head("Update", timeout)), .data(1, framedText("a")))
            await session.advance(by: .seconds(1_000_000))
            await session.receive(.data(1, framedText("b"), endStream: true))
            #expect(await session.answer(1).texts == ["a", "b"])
        }
    }

    @Test func `the time that remains runs down to zero, and is none without a deadline`() async throws {
        let left = Mutexed<[Duration?]>([])
        let look = method(
            "Look",
            .bidirectionalStreaming { call in
                while try await call.next() != nil {
                    let remaining = call.timeRemaining
                    left.update { $0.append(remaining) }
                }
            }
        )
        try await withSession([look], clock: ManualClock()) { session in
            await session.receive(.headers(1, head("Look", "10S")), .data(1, framedText("1")))
            await session.advance(by: .seconds(4))
            await session.receive(.data(1, framedText("2"), endStream: true))
            await session.receive(.headers(3, .request("/t/Look")), .data(3, framedText("3"), endStream: true))
            let seen = left.value
            #expect(seen.count == 3)
            #expect(seen.first == .seconds(10))
            let second = try #require(seen.dropFirst().first ?? nil)
            // A clock of ticks goes a little further than it is told.
            #expect(second <= .seconds(6) && second > .milliseconds(5990))
            #expect(seen.last == .some(nil))
        }
    }
}
