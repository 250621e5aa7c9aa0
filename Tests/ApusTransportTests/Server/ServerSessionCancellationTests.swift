import ApusBase
import TestSupport
import Testing

@testable import ApusTransport

/// Calls that end before their handler, and handlers that end before their call.
@Suite(.timeLimit(.minutes(1))) struct ServerSessionCancellationTests {
    /// Waits for messages for ever, and notes how that ends.
    private func reader(_ notes: Notes) -> ServedMethod {
        method(
            "Read",
            .clientStreaming { call in
                notes.add("ran")
                do {
                    while let message = try await call.next() { notes.add(text(message)) }
                    notes.add("end")
                } catch {
                    notes.add("\(describe(error)) \(Task.isCancelled) \(call.isCancelled)")
                    throw error
                }
                return []
            }
        )
    }

    /// Writes for ever, and notes how that ends.
    private func writer(_ notes: Notes) -> ServedMethod {
        method(
            "Write",
            .serverStreaming { _, call in
                let message = [UInt8](repeating: 1, count: 10_000)
                do {
                    while true { try await call.write(message) }
                } catch {
                    notes.add("\(describe(error)) \(Task.isCancelled)")
                    throw error
                }
            }
        )
    }

    // MARK: Resets

    @Test(arguments: ["Sync", "Unary", "Read"])
    func `a call that is reset in the read that brought it does not run`(name: String) async throws {
        let notes = Notes()
        let methods = [
            method(
                "Sync",
                .synchronousUnary { _, _ in
                    notes.add("ran"); return []
                }
            ),
            method(
                "Unary",
                .unary { _, _ in
                    notes.add("ran"); return []
                }
            ),
            reader(notes),
        ]
        try await withSession(methods) { session in
            for stream in stride(from: UInt32(1), to: 40, by: 2) {
                await session.receive(
                    .headers(stream, .request("/t/\(name)")),
                    .data(stream, framedText("m"), endStream: true),
                    .reset(stream, code: ErrorCode.cancel)
                )
            }
            #expect(notes.all == [])
            let (open, running) = try await session.inSession { ($0.openStreams, $0.hot.value.runningHandlers) }
            #expect(open == 0 && running == 0)
        }
    }

    @Test(arguments: ["Unary", "Read"])
    func `a call that is reset while its handler's start is queued does not run`(name: String) async throws {
        let notes = Notes()
        let methods = [
            method(
                "Unary",
                .unary { _, _ in
                    notes.add("ran"); return []
                }
            ), reader(notes),
        ]
        try await withSession(methods) { session in
            for stream in stride(from: UInt32(1), to: 40, by: 2) {
                let frames: [Frame] = [
                    .headers(stream, .request("/t/\(name)")), .data(stream, framedText("m"), endStream: true),
                ]
                await session.receive(
                    frames,
                    thenInTheSameTurn: {
                        session.take(Frame.reset(stream, code: ErrorCode.cancel).bytes)
                    }
                )
            }
            #expect(notes.all == [])
            let (open, running) = try await session.inSession { ($0.openStreams, $0.hot.value.runningHandlers) }
            #expect(open == 0 && running == 0)
        }
    }

    @Test func `a reset cancels the handler's task and ends its reading`() async throws {
        let notes = Notes()
        try await withSession([reader(notes)]) { session in
            await session.receive(.headers(1, .request("/t/Read")), .data(1, framedText("m")))
            await session.receive(.reset(1, code: ErrorCode.cancel))
            #expect(notes.all == ["ran", "m", "CANCELLED true true"])
            #expect(await session.answer(1).frameTypes == [])
            // The connection, and the worker that comes after the one that was cancelled.
            await session.receive(.headers(3, .request("/t/Read")), .data(3, framedText("n"), endStream: true))
            #expect(notes.all.suffix(3) == ["ran", "n", "end"])
            #expect(await session.answer(3).status == 0)
        }
    }

    @Test func `a reset ends a writer that waits for the peer`() async throws {
        let notes = Notes()
        try await withSession([writer(notes)], opening: [.settings([4: 1000])]) { session in
            await session.receive(.headers(1, .request("/t/Write")), .data(1, framedText("m"), endStream: true))
            #expect(notes.all == [])
            await session.receive(.reset(1, code: ErrorCode.cancel))
            #expect(notes.all == ["CANCELLED true"])
        }
    }

    @Test func `messages that came before the reset are dropped with it`() async throws {
        let notes = Notes()
        let go = Signal()
        let late = method(
            "Late",
            .clientStreaming { call in
                await go.wait()
                do { notes.add(text(try await call.next())) } catch { notes.add(describe(error)) }
                return []
            }
        )
        try await withSession([late]) { session in
            await session.receive(.headers(1, .request("/t/Late")), .data(1, framedText("m")))
            await session.receive(.reset(1, code: ErrorCode.cancel))
            go.send()
            await eventually("the handler's end") { notes.all == ["CANCELLED"] }
        }
    }

    // MARK: The connection's end

    @Test func `a lost connection ends readers and writers with CANCELLED`() async throws {
        let notes = Notes()
        try await withSession([reader(notes), writer(notes)], opening: [.settings([4: 1000])]) { session in
            await session.receive(.headers(1, .request("/t/Read")))
            await session.receive(.headers(3, .request("/t/Write")), .data(3, framedText("m"), endStream: true))
            // One whose request is not whole, and one that is queued behind the reader's window.
            await session.receive(.headers(5, .request("/t/Write")), .data(5, [0, 0]))
            await session.tearDown()
            #expect(notes.all.sorted() == ["CANCELLED true", "CANCELLED true true", "ran"])
        }
    }

    @Test func `a connection lost in the turn of a call leaves nothing behind`() async throws {
        let notes = Notes()
        try await withSession([reader(notes)] + echoMethods) { session in
            let frames: [Frame] = [
                .headers(1, .request("/t/Read")), .headers(3, .request("/t/Unary")),
                .data(3, framedText("m"), endStream: true),
            ]
            await session.receive(frames, thenInTheSameTurn: { session.loseConnection() })
            #expect(notes.all == [])
        }
    }

    @Test func `calls that the server gives up are reset with CANCEL, and their handlers cancelled`() async throws {
        let notes = Notes()
        try await withSession([reader(notes)]) { session in
            await session.receive(.headers(1, .request("/t/Read")), .headers(3, .request("/t/Read")))
            await session.resetAll()
            #expect(await session.answer(1).reset == ErrorCode.cancel)
            #expect(await session.answer(3).reset == ErrorCode.cancel)
            #expect(notes.all.filter { $0 == "CANCELLED true true" }.count == 2)
        }
    }

    // MARK: Handlers that end early (`rule 21`)

    @Test func `an answer to a request that goes on is followed by RST_STREAM NO_ERROR`() async throws {
        let methods = [
            method("Ignore", .clientStreaming { _ in Array("done".utf8) }),
            method("Refuse", .bidirectionalStreaming { _ in throw RPCError(code: .aborted, message: "") }),
        ]
        try await withSession(methods) { session in
            await session.receive(.headers(1, .request("/t/Ignore")), .data(1, framedText("m")))
            let answer = await session.answer(1)
            #expect(answer.text == "done")
            #expect(answer.status == 0)
            #expect(answer.frameTypes == [Frame.headers, Frame.data, Frame.headers, Frame.reset])
            #expect(answer.reset == ErrorCode.noError)
            await session.receive(.headers(3, .request("/t/Refuse")))
            #expect(await session.answer(3).frameTypes == [Frame.headers, Frame.reset])
            // What still comes for them is no fault.
            await session.receive(.data(1, framedText("late")), .data(3, framedText("late"), endStream: true))
            #expect(await session.look { $0.goAways.isEmpty })
        }
    }

    @Test func `the reset comes after data that waited for the peer's window`() async throws {
        let early = method(
            "Early",
            .bidirectionalStreaming { call in for _ in 0..<3 { try await call.write([UInt8](repeating: 1, count: 995)) }
            }
        )
        try await withSession([early], opening: [.settings([4: 1000])]) { session in
            await session.receive(.headers(1, .request("/t/Early")))
            #expect(await session.answer(1).frameTypes == [Frame.headers, Frame.data])
            await session.receive(.data(1, framedText("still sending")))
            await session.receive(.windowUpdate(1, by: 1000))
            #expect(await session.answer(1).reset == nil)
            await session.receive(.windowUpdate(1, by: 1000))
            let answer = await session.answer(1)
            #expect(answer.messages?.count == 3)
            #expect(answer.status == 0)
            #expect(answer.frameTypes.suffix(2) == [Frame.headers, Frame.reset])
        }
    }

    @Test func `no reset follows an answer to a request that has ended`() async throws {
        try await withSession(echoMethods) { session in
            let answer = await session.call(1, "/t/Update")
            #expect(answer.reset == nil)
        }
    }
}
