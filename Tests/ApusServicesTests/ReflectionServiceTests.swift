import Apus
import ApusServices
import Foundation
import Logging
import StubCorpus
import SwiftProtobuf
import Testing

/// What reflection answers that tools seldom ask.
@Suite(.timeLimit(.minutes(1))) struct ReflectionServiceTests {
    private let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    /// Says what it is, and serves nothing of it.
    private struct Described: RPCService {
        let descriptors: [ServiceDescriptor]

        func register(with registry: inout MethodRegistry) {
            for descriptor in descriptors { registry.describe(descriptor) }
        }
    }

    private typealias Request = Grpc_Reflection_V1_ServerReflectionRequest

    /// The names of files that come back for each request, in one stream; of a refusal its code.
    private func ask(_ descriptors: [ServiceDescriptor], _ requests: [Request]) async throws -> [[String]] {
        let services: [any RPCService] = [Described(descriptors: descriptors), ReflectionService()]
        let server = try Server(.tcp(host: "127.0.0.1", port: 0), services: services, logger: logger)
        let channel = try Channel("\(try await server.listen())", logger: logger)
        let call = Grpc_Reflection_V1_ServerReflection.Client(channel).serverReflectionInfo()
        var answers: [[String]] = []
        for request in requests {
            try await call.requests.write(request)
            let response = try #require(try await call.responses.next())
            #expect(response.originalRequest == request)
            if case .errorResponse(let error) = response.messageResponse {
                answers.append(["\(error.errorCode)"])
            } else {
                answers.append(
                    try response.fileDescriptorResponse.fileDescriptorProto.map {
                        try Google_Protobuf_FileDescriptorProto(serializedBytes: $0).name
                    }
                )
            }
        }
        server.stop()
        await server.waitUntilStopped()
        return answers
    }

    @Test func `a file comes with all that it imports, and those not twice in one stream`() async throws {
        let answers = try await ask(
            [DeepLower_case.descriptor],
            [
                .with { $0.fileContainingSymbol = "corpus.nested.deep.Outer.Inner" },
                .with { $0.fileByFilename = "corpus/nested/imports.proto" },
                .with { $0.fileByFilename = "google/protobuf/empty.proto" },
            ]
        )
        #expect(answers[0].first == "corpus/nested/imports.proto")
        #expect(
            Set(answers[0].dropFirst()) == [
                "corpus/nothing.proto", "google/protobuf/empty.proto", "google/protobuf/wrappers.proto",
            ]
        )
        #expect(answers[1] == ["corpus/nested/imports.proto"])
        #expect(answers[2] == ["google/protobuf/empty.proto"])
    }

    @Test func `extensions are found by their number, and numbers by the type`() async throws {
        var file = Google_Protobuf_FileDescriptorProto()
        file.name = "ext.proto"
        file.package = "p"
        file.messageType = [.with { $0.name = "M" }]
        file.extension = [
            .with {
                $0.name = "extra"
                $0.number = 100
                $0.extendee = ".p.M"
            }
        ]
        let bytes: Data = try file.serializedData()
        let descriptor = ServiceDescriptor(
            name: "p.S",
            files: [ServiceDescriptor.File(name: "ext.proto", base64: bytes.base64EncodedString())]
        )
        let answers = try await ask(
            [descriptor],
            [
                .with { $0.fileContainingExtension = .with { ($0.containingType, $0.extensionNumber) = ("p.M", 100) } },
                .with { $0.fileContainingExtension = .with { ($0.containingType, $0.extensionNumber) = ("p.M", 101) } },
                .with { $0.fileContainingSymbol = "p.extra" },
            ]
        )
        #expect(answers == [["ext.proto"], ["5"], ["ext.proto"]])
    }

    @Test func `extensions of own messages and of others are found, and symbols of imports`() async throws {
        let answers = try await ask(
            [Corpus_Options_Ruled.descriptor],
            [
                .with {
                    $0.fileContainingExtension = .with {
                        ($0.containingType, $0.extensionNumber) = ("corpus.options.Extendable", 100)
                    }
                },
                .with {
                    $0.fileContainingExtension = .with {
                        ($0.containingType, $0.extensionNumber) = ("google.protobuf.MethodOptions", 50_001)
                    }
                },
                .with { $0.fileContainingSymbol = "corpus.options.extra" },
                .with { $0.fileContainingSymbol = "corpus.options.Extendable.Pair.left" },
                .with { $0.fileContainingSymbol = "corpus.elsewhere.Thing.Part" },
                .with { $0.fileContainingSymbol = "google.protobuf.FieldDescriptorProto.TYPE_STRING" },
            ]
        )
        let options = "corpus/options.proto"
        let imports = ["corpus/nothing.proto", "google/protobuf/descriptor.proto"]
        #expect(answers.map(\.first) == [options, options, options, options] + imports)
        // The first answer brought what it imports.
        #expect(Set(answers[0]) == Set([options] + imports))
        #expect(answers[1] == [options])
    }

    @Test func `a stream of many questions is answered in order`() async throws {
        let names = (0..<20_000).map { $0 % 3 == 0 ? "corpus/nothing.proto" : "no/\($0).proto" }
        let answers = try await ask(
            [DeepLower_case.descriptor],
            names.map { name in .with { $0.fileByFilename = name } }
        )
        #expect(answers == names.map { $0.hasPrefix("no/") ? ["5"] : [$0] })
    }

    @Test func `a descriptor that cannot be read is left out, and files that import each other end`() async throws {
        var one = Google_Protobuf_FileDescriptorProto()
        (one.name, one.dependency) = ("one.proto", ["two.proto", "gone.proto"])
        var two = Google_Protobuf_FileDescriptorProto()
        (two.name, two.dependency) = ("two.proto", ["one.proto"])
        let files = try [one, two].map { file in
            ServiceDescriptor.File(name: file.name, base64: try file.serializedData().base64EncodedString())
        }
        let bad = [ServiceDescriptor.File(name: "bad.proto", base64: "////"), .init(name: "worse.proto", base64: "!")]
        let answers = try await ask(
            [ServiceDescriptor(name: "s", files: files + bad)],
            [
                .with { $0.fileByFilename = "one.proto" }, .with { $0.fileByFilename = "bad.proto" },
                .with { $0.fileByFilename = "gone.proto" },
            ]
        )
        #expect(answers == [["one.proto", "two.proto"], ["5"], ["5"]])
    }
}
