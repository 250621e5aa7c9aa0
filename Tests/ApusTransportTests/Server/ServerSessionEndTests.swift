import ApusBase
import TestSupport
import Testing

@testable import ApusTransport

/// How calls end that do not end well, and early ends.
@Suite(.timeLimit(.minutes(1))) struct ServerSessionEndTests {
    private struct SomeError: Error, CustomStringConvertible { let description = "a secret" }

    private func throwing(_ error: any Error) -> [ServedMethod] {
        [
            method("Sync", .synchronousUnary { _, _ in throw error }),
            method("Unary", .unary { _, _ in throw error }),
            method("Update", .bidirectionalStreaming { _ in throw error }),
        ]
    }

    // MARK: Requests that are wrong

    @Test(arguments: ["Sync", "Unary", "Expand"])
    func `a method of one request that gets none or two is UNIMPLEMENTED, and does not run`(name: String) async throws {
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
            method("Expand", .serverStreaming { _, _ in notes.add("ran") }),
        ]
        try await withSession(methods) { session in
            let head = Fields.request("/t/\(name)")
            await session.receive(.headers(1, head, endStream: true))
            await session.receive(.headers(3, head), .data(3, [], endStream: true))
            await session.receive(.headers(5, head), .data(5, framedText("a") + framedText("b"), endStream: true))
            await session.receive(.headers(7, head), .data(7, framedText("a")), .data(7, framedText("b")))
            for stream in [UInt32(1), 3, 5, 7] {
                #expect(await session.answer(stream).status == 12, "stream \(stream)")
            }
            #expect(await session.answer(7).reset == ErrorCode.noError)
            #expect(notes.all == [])
        }
    }

    @Test(arguments: ["Sync", "Unary", "Collect", "Update"])
    func `a message cut short is INTERNAL`(name: String) async throws {
        try await withSession(echoMethods) { session in
            for cut in [1, 4, 5, 6] {
                let stream = UInt32(cut * 2 + 1)
                let body = Array(framedText("abc").prefix(cut))
                await session.receive(.headers(stream, .request("/t/\(name)")), .data(stream, body, endStream: true))
                #expect(await session.answer(stream).status == 13, "cut at \(cut)")
            }
        }
    }

    @Test(arguments: ["Sync", "Unary", "Collect", "Update"])
    func `a message over the limit is RESOURCE_EXHAUSTED at its prefix`(name: String) async throws {
        let methods = [
            method("Sync", .synchronousUnary { message, _ in message }, maxRequestBytes: 10),
            method("Unary", .unary { message, _ in message }, maxRequestBytes: 10),
            method("Collect", .clientStreaming { try await $0.next() ?? [] }, maxRequestBytes: 10),
            method("Update", .bidirectionalStreaming { try await $0.write($0.next() ?? []) }, maxRequestBytes: 10),
        ]
        try await withSession(methods) { session in
            #expect(await session.call(1, "/t/\(name)", "0123456789").text == "0123456789")
            await session.receive(.headers(3, .request("/t/\(name)")), .data(3, [0, 0, 0, 0, 11]))
            let answer = await session.answer(3)
            #expect(answer.status == 8)
            #expect(answer.reset == ErrorCode.noError)
        }
    }

    @Test(arguments: [1, 2, 255])
    func `a flag byte other than 0 is INTERNAL`(flag: UInt8) async throws {
        try await withSession(echoMethods) { session in
            await session.receive(.headers(1, .request("/t/Unary")), .data(1, framed([1], flag: flag), endStream: true))
            await session.receive(.headers(3, .request("/t/Update")), .data(3, framed([1], flag: flag)))
            #expect(await session.answer(1).status == 13)
            #expect(await session.answer(3).status == 13)
        }
    }

    @Test func `a response over the limit is RESOURCE_EXHAUSTED, and the writer is told`() async throws {
        let notes = Notes()
        let large = [UInt8](repeating: 0, count: 11)
        let methods = [
            method("Sync", .synchronousUnary { _, _ in large }, maxResponseBytes: 10),
            method("Unary", .unary { _, _ in large }, maxResponseBytes: 10),
            method(
                "Expand",
                .serverStreaming { _, call in
                    try await call.write("0123456789")
                    do { try await call.write(large) } catch { notes.add(describe(error)) }
                },
                maxResponseBytes: 10
            ),
        ]
        try await withSession(methods) { session in
            #expect(await session.call(1, "/t/Sync").status == 8)
            #expect(await session.call(3, "/t/Unary").status == 8)
            let answer = await session.call(5, "/t/Expand")
            #expect(answer.texts == ["0123456789"])
            #expect(answer.status == 0)
            #expect(notes.all == ["RESOURCE_EXHAUSTED"])
        }
    }

    // MARK: Handlers that throw

    @Test(arguments: ["Sync", "Unary", "Update"])
    func `a thrown RPCError is the status, with its message and metadata`(name: String) async throws {
        var metadata: Metadata = ["k": "v"]
        metadata.add(bytes: [0, 255], for: "k-bin")
        let error = RPCError(code: .notFound, message: "no „such“ key: 100 %\n", metadata: metadata)
        try await withSession(throwing(error)) { session in
            let answer = await session.call(1, "/t/\(name)")
            #expect(answer.status == 5)
            #expect(answer.message == "no %E2%80%9Esuch%E2%80%9C key: 100 %25%0A")
            #expect(answer.trailers?["k"] == "v")
            #expect(answer.trailers?["k-bin"] == "AP8")
            #expect(answer.isTrailersOnly)
        }
    }

    @Test(arguments: ["Sync", "Unary", "Update"])
    func `a thrown OK is UNKNOWN`(name: String) async throws {
        try await withSession(throwing(RPCError(code: .ok, message: "odd"))) { session in
            #expect(await session.call(1, "/t/\(name)").status == 2)
        }
    }

    @Test(arguments: [false, true])
    func `another error is UNKNOWN, and its text is sent only if that is configured`(isSent: Bool) async throws {
        var limits = ServerLimits()
        limits.sendsErrorDescriptions = isSent
        try await withSession(throwing(SomeError()), limits: limits) { session in
            for (stream, name) in [(UInt32(1), "Sync"), (3, "Unary"), (5, "Update")] {
                let answer = await session.call(stream, "/t/\(name)")
                #expect(answer.status == 2)
                #expect(answer.message?.contains("secret") == isSent)
            }
        }
    }

    @Test func `a thrown CancellationError is CANCELLED`() async throws {
        try await withSession(throwing(CancellationError())) { session in
            #expect(await session.call(1, "/t/Unary").status == 1)
        }
    }

    @Test func `an error after messages comes after them`() async throws {
        let some = method(
            "Some",
            .serverStreaming { _, call in
                try await call.write("one")
                throw RPCError(code: .aborted, message: "then not")
            }
        )
        try await withSession([some]) { session in
            let answer = await session.call(1, "/t/Some")
            #expect(answer.texts == ["one"])
            #expect(answer.status == 10)
        }
    }

    @Test func `an error whose metadata cannot be sent goes without it`() async throws {
        let error = RPCError(code: .notFound, message: "m", metadata: ["bad\n": "v"])
        try await withSession(throwing(error)) { session in
            let answer = await session.call(1, "/t/Unary")
            #expect(answer.status == 5)
            #expect(answer.trailers?.names.contains { $0.hasPrefix("bad") } == false)
        }
    }

    @Test func `a message too long for the peer's header list is shortened`() async throws {
        let error = RPCError(code: .internal, message: String(repeating: "é", count: 5000), metadata: ["k": "v"])
        try await withSession(throwing(error), opening: [.settings([6: 1000])]) { session in
            let answer = await session.call(1, "/t/Unary")
            #expect(answer.status == 13)
            let bytes = answer.trailers?.list.reduce(0) { $0 + $1.name.count + $1.value.count + 32 }
            #expect(bytes.map { $0 <= 1000 } == true)
            #expect(answer.message?.replacing("%C3%A9", with: "") == "")
        }
    }

    // MARK: Metadata of the answer

    @Test(arguments: ["Sync", "Unary", "Collect", "Expand"])
    func `initial metadata goes ahead and trailers go last`(name: String) async throws {
        @Sendable func add(_ call: CallContext) {
            call.addInitialMetadata(["first": "1"])
            call.addTrailers(["last": "2"])
        }
        let methods = [
            method(
                "Sync",
                .synchronousUnary { message, call in
                    add(call); return message
                }
            ),
            method(
                "Unary",
                .unary { message, call in
                    add(call); return message
                }
            ),
            method(
                "Collect",
                .clientStreaming { call in
                    add(call); return try await call.next() ?? []
                }
            ),
            method(
                "Expand",
                .serverStreaming { message, call in
                    add(call); try await call.write(message)
                }
            ),
        ]
        try await withSession(methods) { session in
            let answer = await session.call(1, "/t/\(name)", "m")
            #expect(answer.head?["first"] == "1")
            #expect(answer.trailers?["last"] == "2")
            #expect(answer.head?["last"] == nil)
            #expect(answer.trailers?["first"] == nil)
            #expect(answer.text == "m")
            let next = await session.call(3, "/t/\(name)", "n")
            #expect(next.head?.values("first") == ["1"])
            #expect(next.trailers?.values("last") == ["2"])
        }
    }

    @Test func `initial metadata that is sent early goes out before any message`() async throws {
        let early = method(
            "Early",
            .bidirectionalStreaming { call in
                call.addInitialMetadata(["first": "1"])
                call.sendInitialMetadata()
                call.addInitialMetadata(["late": "1"])
                while try await call.next() != nil {}
            }
        )
        try await withSession([early]) { session in
            await session.receive(.headers(1, .request("/t/Early")))
            #expect(await session.answer(1).head?["first"] == "1")
            await session.receive(.data(1, [], endStream: true))
            let answer = await session.answer(1)
            #expect(answer.status == 0)
            #expect(answer.head?["late"] == nil)
        }
    }

    @Test(arguments: ["Sync", "Unary", "Expand"])
    func `metadata that cannot be sent is INTERNAL and names the key`(name: String) async throws {
        @Sendable func add(_ call: CallContext) { call.addTrailers(["bad key": "1"]) }
        let methods = [
            method(
                "Sync",
                .synchronousUnary { message, call in
                    add(call); return message
                }
            ),
            method(
                "Unary",
                .unary { message, call in
                    add(call); return message
                }
            ),
            method(
                "Expand",
                .serverStreaming { message, call in
                    add(call); try await call.write(message)
                }
            ),
        ]
        try await withSession(methods) { session in
            let answer = await session.call(1, "/t/\(name)", "m")
            #expect(answer.status == 13)
            #expect(answer.message?.contains("bad key") == true)
        }
    }
}
