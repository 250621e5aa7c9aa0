import Testing

@testable import ApusTransport

/// What the fields are is seen on the wire, in `ClientRequestTests`.
@Suite struct RequestTemplateTests {
    @Test func `the size of the fields that all requests share is known`() {
        let template = RequestTemplate(path: "/t/Unary", scheme: "http", authority: "host:1", userAgent: "agent")
        let fields = [
            ":method" + "POST", ":scheme" + "http", ":path" + "/t/Unary", ":authority" + "host:1", "te" + "trailers",
            "content-type" + "application/grpc", "user-agent" + "agent",
        ]
        #expect(template.count == fields.count)
        #expect(template.listBytes == fields.reduce(0) { $0 + $1.utf8.count + 32 })
    }
}
