import Testing

@testable import ApusBase

/// What may not be sent (`rule 9`, RFC 9113 §8.2).
@Suite struct MetadataProblemTests {
    private func metadata(name: [UInt8], value: [UInt8] = []) -> Metadata {
        let header = [UInt8(name.count & 255), UInt8(name.count >> 8), UInt8(value.count), 0, 0, 0]
        return Metadata(packed: header + name + value)
    }

    @Test func `each byte is legal in a name or is not, as rule 9 says`() {
        let legal = Set("0123456789abcdefghijklmnopqrstuvwxyz_-.".utf8)
        for byte in UInt8.min...UInt8.max {
            for name in [[byte], [0x61, byte], [byte, 0x61], [0x61, byte, 0x62]] {
                let problem = metadata(name: name).firstProblem
                #expect((problem == nil) == legal.contains(byte), "byte \(byte)")
            }
        }
    }

    @Test func `each byte is legal in a text value, or is a control character`() {
        for byte in UInt8.min...UInt8.max {
            let isControl = (byte < 0x20 && byte != 0x09) || byte == 0x7F
            for value in [[byte], [0x61, byte], [byte, 0x61]] {
                #expect((metadata(name: [0x6B], value: value).firstProblem != nil) == isControl, "byte \(byte)")
            }
        }
    }

    @Test func `every byte is legal in the value of a -bin key`() {
        for byte in UInt8.min...UInt8.max {
            #expect(metadata(name: Array("k-bin".utf8), value: [byte]).firstProblem == nil)
        }
    }

    @Test func `an empty name is a problem`() {
        #expect((["": "v"] as Metadata).firstProblem != nil)
    }

    @Test func `a pseudo-header is a problem`() {
        for name in [":path", ":status", ":"] { #expect(([name: "v"] as Metadata).firstProblem != nil) }
    }

    @Test func `names of gRPC are reserved, but for the few that applications may set`() {
        let settable = [
            "grpc-previous-rpc-attempts", "grpc-retry-pushback-ms", "grpc-status-details-bin", "grpc-trace-bin",
            "grpc-tags-bin",
        ]
        for name in settable { #expect(([name: "v"] as Metadata).firstProblem == nil, "\(name)") }
        let reserved = [
            "grpc-", "grpc-status", "grpc-message", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding", "grpc-x",
            "GRPC-Status", "grpc-x-bin",
        ]
        for name in reserved { #expect(([name: "v"] as Metadata).firstProblem != nil, "\(name)") }
        for name in ["grpc", "grpcx", "x-grpc-status"] {
            #expect(([name: "v"] as Metadata).firstProblem == nil, "\(name)")
        }
    }

    @Test func `names that HTTP/2 forbids or the stack sets are a problem`() {
        let names = [
            "connection", "Connection", "content-length", "content-type", "host", "keep-alive", "proxy-connection",
            "te", "transfer-encoding", "upgrade",
        ]
        for name in names { #expect(([name: "v"] as Metadata).firstProblem != nil, "\(name)") }
    }

    @Test func `the problem names the key, and is that of the first entry that has one`() throws {
        let metadata: Metadata = ["good": "v", "bad key": "v", "worse\n": "v"]
        let problem = try #require(metadata.firstProblem)
        #expect(problem.contains("\"bad key\""))
        let value = try #require((["some-key": "line\nbreak"] as Metadata).firstProblem)
        #expect(value.contains("\"some-key\""))
        #expect(!value.contains("break"))
    }

    @Test func `a value that could split a header is a problem`() {
        for value in ["a\r\nb: c", "a\0b", "a\nb", "\r", "\u{7F}"] {
            #expect((["k": value] as Metadata).firstProblem != nil)
        }
        for value in ["a\tb", "ümläut", " edges "] { #expect((["k": value] as Metadata).firstProblem == nil) }
    }
}
