import Testing

@testable import ApusBase

@Suite struct StatusCodeTests {
    /// As in statuscodes.md.
    private static let specification = [
        (0, "OK"), (1, "CANCELLED"), (2, "UNKNOWN"), (3, "INVALID_ARGUMENT"), (4, "DEADLINE_EXCEEDED"),
        (5, "NOT_FOUND"), (6, "ALREADY_EXISTS"), (7, "PERMISSION_DENIED"), (8, "RESOURCE_EXHAUSTED"),
        (9, "FAILED_PRECONDITION"), (10, "ABORTED"), (11, "OUT_OF_RANGE"), (12, "UNIMPLEMENTED"), (13, "INTERNAL"),
        (14, "UNAVAILABLE"), (15, "DATA_LOSS"), (16, "UNAUTHENTICATED"),
    ]

    @Test(arguments: specification)
    func `a code has the number and the name of the specification`(number: Int, name: String) {
        #expect(StatusCode(rawValue: number)?.description == name)
    }

    @Test func `there are no other codes`() {
        #expect(StatusCode.allCases.count == Self.specification.count)
        #expect(StatusCode(rawValue: 17) == nil)
        #expect(StatusCode(rawValue: -1) == nil)
    }
}

@Suite struct RPCErrorTests {
    private struct Cause: Error, CustomStringConvertible { let description = "the disk is full" }

    @Test func `its text is the code and the message, and the cause if there is one`() {
        #expect("\(RPCError(code: .notFound, message: "no such key"))" == "NOT_FOUND: no such key")
        let error = RPCError(code: .dataLoss, message: "lost", cause: Cause())
        #expect("\(error)" == "DATA_LOSS: lost (cause: the disk is full)")
    }

    @Test func `it is made here unless it is said to come from the peer`() {
        let error = RPCError(code: .aborted, message: "")
        #expect(error.origin == .local)
        #expect(error.metadata.isEmpty)
        #expect(error.cause == nil)
    }
}

@Suite struct SystemErrorTests {
    @Test func `its text has the call, the reason and the number`() {
        let error = SystemError(errno: 98, operation: "bind 127.0.0.1:50051")
        #expect("\(error)" == "bind 127.0.0.1:50051: Address already in use (errno 98)")
    }

    @Test func `a number that the system does not know has a text`() {
        #expect("\(SystemError(errno: 99_999, operation: "x"))".contains("errno 99999"))
    }
}
