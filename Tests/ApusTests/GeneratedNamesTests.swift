import Apus
import StubCorpus
import SwiftProtobuf
import TestSupport
import Testing

/// TestSupport has a `BlockingClient` as well.
private typealias Inner = StubCorpus.BlockingClient.Inner

/// Stubs of protos whose names, comments and options are hard on a generator.
@Suite(.timeLimit(.minutes(1))) struct GeneratedNamesTests {
    @Test func `services and methods whose names Swift does not allow go by others, and by their own on the wire`()
        async throws
    {
        try await withServer([Strings(), Underscores()]) { _, port in
            let channel = try Channel("127.0.0.1:\(port)", logger: silentLogger)
            let hi = Inner.with { $0.text = "hi" }
            // The message `BlockingClient` is what keeps the stub from calling a type of its own so.
            #expect(try await StringService.Client(channel).get(hi).text == "String/Get hi")
            let client = _Service.Client(channel)
            #expect(try await client.__(hi).text == "_/_ hi")
            #expect(try await client._1(hi).text == "_/_1 hi")
            #expect(try await client.trailing_(hi).text == "_/Trailing_ hi")
            #expect(try await onThread { try StringService.BlockingClient_(channel).get(hi).text } == "String/Get hi")
        }
    }

    @Test func `names of services`() {
        #expect(AnyService.name == "Any")
        #expect(ProtocolService.name == "Protocol")
        #expect(SelfService.name == "Self")
        #expect(TypeService.name == "Type")
    }

    @Test func `a message that comes by a public import`() {
        let call: (Corpus_Edition2024_V1_Newest.Client) async throws -> Corpus_Elsewhere_Thing.Part = {
            try await $0.get(Corpus_Edition2024_V1_Shown())
        }
        _ = call
        #expect(
            Corpus_Edition2024_V1_Newest.descriptor.files.map(\.name) == [
                "corpus/nothing.proto", "google/protobuf/descriptor.proto", "corpus/options.proto",
                "corpus/edition_2024.proto",
            ]
        )
    }

    @Test func `options of one's own are in the descriptor`() throws {
        let bytes = try #require(Corpus_Options_Ruled.descriptor.files.last).serialized
        let file = try Google_Protobuf_FileDescriptorProto(
            serializedBytes: bytes,
            extensions: Corpus_Options_Options_Extensions
        )
        #expect(file.options.Corpus_Options_owner == "somebody")
        let service = try #require(file.service.first)
        #expect(service.options.Corpus_Options_serviceRule.role == "reader")
        let rule = try #require(service.method.first).options.Corpus_Options_rule
        #expect(rule.role == "writer")
        #expect(rule.levels == [1, 2])
    }
}

private struct Strings: StringService.Handler {
    func get(_ request: Inner, context: CallContext) async throws -> Inner {
        .with { $0.text = "\(context.method) \(request.text)" }
    }
}

private struct Underscores: _Service.SynchronousHandler {
    private func answer(_ request: Inner, _ context: CallContext) -> Inner {
        .with { $0.text = "\(context.method) \(request.text)" }
    }

    func __(_ request: Inner, context: CallContext) -> Inner { answer(request, context) }
    func _1(_ request: Inner, context: CallContext) -> Inner { answer(request, context) }
    func trailing_(_ request: Inner, context: CallContext) throws -> Inner {
        answer(request, context)
    }
}
