import Apus
import Testing

@Suite struct ChannelConfigurationTests {
    struct Field: Sendable {
        let name: String
        let values: [Int]
        let set: @Sendable (inout ChannelConfiguration, Int) -> Void

        init(_ name: String, _ values: [Int], _ set: @escaping @Sendable (inout ChannelConfiguration, Int) -> Void) {
            self.name = name
            self.values = values
            self.set = set
        }
    }

    private func problem(_ change: (inout ChannelConfiguration) -> Void) -> String? {
        var configuration = ChannelConfiguration()
        change(&configuration)
        do throws(RPCError) {
            _ = try Channel("localhost:1", configuration: configuration, logger: silentLogger)
            return nil
        } catch {
            #expect(error.code == .invalidArgument)
            return error.message
        }
    }

    @Test(arguments: [
        Field("maxRequestBytes", [-1, 1 << 32]) { $0.maxRequestBytes = $1 },
        Field("maxResponseBytes", [-1, 1 << 32]) { $0.maxResponseBytes = $1 },
        Field("maxHeaderListBytes", [0, -5, 1023, 1 << 31]) { $0.maxHeaderListBytes = $1 },
        Field("maxHeaderFields", [0, 7, 1 << 16]) { $0.maxHeaderFields = $1 },
        Field("streamWindowBytes", [0, -1, 1 << 31]) { $0.streamWindowBytes = $1 },
        Field("connectionWindowBytes", [65_534, 0, 1 << 31]) { $0.connectionWindowBytes = $1 },
        Field("sendQueueBytes", [0, -1, 1 << 31]) { $0.sendQueueBytes = $1 },
        Field("connectTimeout", [0, -1]) { $0.connectTimeout = .seconds($1) },
        Field("initialBackoff", [0, -1]) { $0.initialBackoff = .seconds($1) },
        Field("maxBackoff", [0, -1]) { $0.maxBackoff = .seconds($1) },
        Field("keepaliveTime", [0, -1, 9]) { $0.keepaliveTime = .seconds($1) },
        Field("keepaliveTimeout", [0, -1]) { $0.keepaliveTimeout = .seconds($1) },
        Field("idleTimeout", [0, -1]) { $0.idleTimeout = .seconds($1) },
    ])
    func `a value out of range is refused, by name`(field: Field) {
        for value in field.values {
            let problem = problem { field.set(&$0, value) }
            #expect(problem?.contains(field.name) == true, "\(value): \(problem ?? "accepted")")
            #expect(problem?.contains("localhost:1") == true)
        }
    }

    @Test(arguments: [
        Field("maxRequestBytes", [0, (1 << 32) - 1]) { $0.maxRequestBytes = $1 },
        Field("maxResponseBytes", [0, (1 << 32) - 1]) { $0.maxResponseBytes = $1 },
        Field("maxHeaderListBytes", [1024, (1 << 31) - 1]) { $0.maxHeaderListBytes = $1 },
        Field("maxHeaderFields", [8, 65_535]) { $0.maxHeaderFields = $1 },
        Field("streamWindowBytes", [1, (1 << 31) - 1]) { $0.streamWindowBytes = $1 },
        Field("connectionWindowBytes", [65_535, (1 << 31) - 1]) { $0.connectionWindowBytes = $1 },
        Field("sendQueueBytes", [1, (1 << 31) - 1]) { $0.sendQueueBytes = $1 },
        Field("connectTimeout", [1, 1 << 40]) { $0.connectTimeout = .seconds($1) },
        Field("keepaliveTime", [10, 1 << 40]) { $0.keepaliveTime = .seconds($1) },
        Field("keepaliveTimeout", [1, 1 << 40]) { $0.keepaliveTimeout = .seconds($1) },
        Field("idleTimeout", [1, 1 << 40]) { $0.idleTimeout = .seconds($1) },
    ])
    func `the ends of a range are in it`(field: Field) {
        for value in field.values { #expect(problem { field.set(&$0, value) } == nil, "\(field.name) \(value)") }
    }

    @Test(arguments: ["", " a", "a ", "a\nb", "ä", "a\u{7F}"])
    func `names that a header field cannot have are refused`(text: String) {
        #expect(problem { $0.authority = text }?.contains("authority") == true)
        #expect(problem { $0.userAgent = text }?.contains("userAgent") == true)
    }

    @Test func `names with a space inside are accepted`() {
        #expect(problem { $0.userAgent = "mine/1 (test)" } == nil)
        #expect(problem { $0.authority = "example.org" } == nil)
    }

    @Test func `the configuration as it is by default is accepted`() { #expect(problem { _ in } == nil) }

    @Test func `options say what they were made with`() {
        #expect(CallOptions.timeout(.seconds(1)) == CallOptions(timeout: .seconds(1)))
        #expect(CallOptions.metadata(["a": "b"]) == CallOptions(metadata: ["a": "b"]))
        let options = CallOptions()
        #expect(options.timeout == nil)
        #expect(options.metadata.isEmpty)
        #expect(!options.waitForReady)
        #expect(options.maxRequestBytes == nil)
        #expect(options.maxResponseBytes == nil)
        #expect(CallOptions(maxRequestBytes: 1) != CallOptions(maxResponseBytes: 1))
    }
}
