import Apus
import StubCorpus
import SwiftProtobuf
import TestSupport
import Testing

/// What the generator made of awkward protos, called.
@Suite(.timeLimit(.minutes(1))) struct GeneratedStubTests {
    private func withChannel(
        to services: any RPCService...,
        body: (Channel) async throws -> Void
    ) async throws {
        try await withServer(services) { _, port in
            try await body(try Channel("127.0.0.1:\(port)", logger: silentLogger))
        }
    }

    @Test func `methods whose names mean something in Swift, or in the stub, are called by them`() async throws {
        try await withChannel(to: WordsServer()) { channel in
            let client = Corpus_Words_V1_Words.Client(channel)
            let hi = Corpus_Words_V1_Word.with { $0.text = "hi" }
            #expect(try await client.init_(hi).text == "corpus.words.v1.Words/Init hi")
            #expect(try await client.self_(hi).text == "corpus.words.v1.Words/Self hi")
            #expect(try await client.in(hi).text == "corpus.words.v1.Words/In hi")
            #expect(try await client.options(hi).text == "corpus.words.v1.Words/Options hi")
            #expect(try await client.register(hi).text == "corpus.words.v1.Words/Register hi")
            #expect(try await client.registry(hi).text == "corpus.words.v1.Words/Registry hi")
            #expect(try await client.channel(hi).text == "corpus.words.v1.Words/Channel hi")
            #expect(try await client.name(hi).text == "corpus.words.v1.Words/Name hi")
            #expect(try await client.descriptor(hi).text == "corpus.words.v1.Words/Descriptor hi")
            #expect(try await client.handler(hi).text == "corpus.words.v1.Words/Handler hi")
            #expect(try await client.client(hi).text == "corpus.words.v1.Words/Client hi")
            #expect(try await client.method(hi).text == "corpus.words.v1.Words/Method hi")
            #expect(try await client.context(hi).text == "corpus.words.v1.Words/Context hi")
            #expect(try await client.request(hi).text == "corpus.words.v1.Words/Request hi")
            #expect(try await client.get(hi).text == "corpus.words.v1.Words/Get hi")
            #expect(try await client.getWithMetadata(hi).text == "corpus.words.v1.Words/GetWithMetadata hi")
            #expect(try await client.getWithMetadata_(hi).message.text == "corpus.words.v1.Words/Get hi")

            var parts: [String] = []
            for try await part in client.default(hi) { parts.append(part.text) }
            for try await part in client.responses(hi) { parts.append(part.text) }
            #expect(parts == ["corpus.words.v1.Words/Default hi", "corpus.words.v1.Words/Responses hi"])
            let collected = client.protocol()
            try await collected.requests.write(hi)
            #expect(try await collected.response().text == "corpus.words.v1.Words/Protocol hi")
            let both = client.type()
            try await both.requests.write(hi)
            both.requests.finish()
            #expect(try await both.responses.next()?.text == "corpus.words.v1.Words/Type hi")
            #expect(try await both.responses.next() == nil)
        }
    }

    @Test func `messages without a package may be called as parts of the stub`() async throws {
        try await withChannel(to: PlainServer()) { channel in
            let client = Plain.Client_(channel)
            #expect(try await client.exchange(.with { $0.text = "42" }).number == 42)
            let call = client.stream()
            try await call.requests.write(Method())
            call.requests.finish()
            #expect(try await call.responses.next()?.text == "1")
        }
    }

    @Test func `well-known types, nested types and types of other files`() async throws {
        try await withChannel(to: DeepServer()) { channel in
            let client = DeepLower_case.Client(channel)
            #expect(try await client.doNothing(Google_Protobuf_Empty()) == Google_Protobuf_Empty())
            #expect(try await client.httpGet(Google_Protobuf_StringValue("x")).text == "x")
            let sum = client.fromElsewhere()
            for number in 1...3 { try await sum.requests.write(.with { $0.number = Int64(number) }) }
            #expect(try await sum.response().text == "6")
        }
    }

    @Test func `a blocking client makes the same calls`() async throws {
        try await withChannel(to: WordsServer()) { channel in
            let texts = try await onThread { () throws -> [String] in
                let client = Corpus_Words_V1_Words.BlockingClient(channel)
                let hi = Corpus_Words_V1_Word.with { $0.text = "hi" }
                var texts = [try client.get(hi).text, try client.getWithMetadata_(hi).message.text]
                let parts = client.default(hi)
                while let part = try parts.next() { texts.append(part.text) }
                let collected = client.protocol()
                try collected.requests.write(hi)
                texts.append(try collected.response().text)
                let both = client.type()
                try both.requests.write(hi)
                both.requests.finish()
                while let part = try both.responses.next() { texts.append(part.text) }
                return texts.map { $0.replacing("corpus.words.v1.Words/", with: "") }
            }
            #expect(texts == ["Get hi", "Get hi", "Default hi", "Protocol hi", "Type hi"])
        }
    }

    @Test(arguments: [true, false])
    func `a handler runs without a task if it says that it does not suspend`(synchronous: Bool) async throws {
        let notes = Notes()
        let service: any RPCService = synchronous ? PromptEditions(notes: notes) : SlowEditions(notes: notes)
        try await withChannel(to: service) { channel in
            let client = Corpus_Edition_Editions.Client(channel)
            _ = try await client.present(Corpus_Edition_Old())
            #expect(notes.all == [synchronous ? "without a task" : "in a task"])
        }
    }

    @Test func `the descriptor has the service's file after all that it imports`() throws {
        let files = DeepLower_case.descriptor.files
        #expect(DeepLower_case.descriptor.name == "corpus.nested.deep.lower_case")
        let names = [
            "corpus/nothing.proto", "google/protobuf/empty.proto", "google/protobuf/wrappers.proto",
            "corpus/nested/imports.proto",
        ]
        #expect(files.map(\.name) == names)
        for file in files {
            let proto = try Google_Protobuf_FileDescriptorProto(serializedBytes: file.serialized)
            #expect(proto.name == file.name)
            #expect(!proto.hasSourceCodeInfo)
        }
        let last = try Google_Protobuf_FileDescriptorProto(serializedBytes: files[3].serialized)
        #expect(last.service.map(\.name) == ["lower_case", "Nothing"])
    }
}

/// Answers with the path of the call and the text of the request.
private struct WordsServer: Corpus_Words_V1_Words.Handler {
    typealias Word = Corpus_Words_V1_Word

    private func answer(_ request: Word, _ context: CallContext) -> Word {
        .with { $0.text = "\(context.method) \(request.text)" }
    }

    func init_(_ request: Word, context: CallContext) -> Word { answer(request, context) }
    func self_(_ request: Word, context: CallContext) -> Word { answer(request, context) }
    func `in`(_ request: Word, context: CallContext) -> Word { answer(request, context) }
    func options(_ request: Word, context: CallContext) -> Word { answer(request, context) }
    func register(_ request: Word, context: CallContext) -> Word { answer(request, context) }
    func registry(_ request: Word, context: CallContext) -> Word { answer(request, context) }
    func channel(_ request: Word, context: CallContext) -> Word { answer(request, context) }
    func name(_ request: Word, context: CallContext) -> Word { answer(request, context) }
    func descriptor(_ request: Word, context: CallContext) -> Word { answer(request, context) }
    func handler(_ request: Word, context: CallContext) -> Word { answer(request, context) }
    func client(_ request: Word, context: CallContext) -> Word { answer(request, context) }
    func method(_ request: Word, context: CallContext) -> Word { answer(request, context) }
    func context(_ request: Word, context: CallContext) -> Word { answer(request, context) }
    func request(_ request: Word, context: CallContext) -> Word { answer(request, context) }
    func get(_ request: Word, context: CallContext) -> Word { answer(request, context) }
    func getWithMetadata(_ request: Word, context: CallContext) -> Word { answer(request, context) }

    func `default`(_ request: Word, responses: ResponseWriter<Word>, context: CallContext) async throws {
        try await responses.write(answer(request, context))
    }

    func responses(_ request: Word, responses: ResponseWriter<Word>, context: CallContext) async throws {
        try await responses.write(answer(request, context))
    }

    func `protocol`(_ requests: RequestStream<Word>, context: CallContext) async throws -> Word {
        var last = Word()
        for try await request in requests { last = request }
        return answer(last, context)
    }

    func type(
        _ requests: RequestStream<Word>,
        responses: ResponseWriter<Word>,
        context: CallContext
    ) async throws {
        for try await request in requests { try await responses.write(answer(request, context)) }
    }
}

private struct PlainServer: Plain.Handler_ {
    func exchange(_ request: Client, context: CallContext) throws -> Handler {
        .with { $0.number = Int32(request.text) ?? 0 }
    }

    func stream(
        _ requests: RequestStream<Method>,
        responses: ResponseWriter<Client>,
        context: CallContext
    ) async throws {
        var count = 0
        for try await _ in requests { count += 1 }
        try await responses.write(.with { $0.text = "\(count)" })
    }
}

private struct DeepServer: DeepLower_case.Handler {
    func doNothing(_ request: Google_Protobuf_Empty, context: CallContext) -> Google_Protobuf_Empty { request }

    func httpGet(_ request: Google_Protobuf_StringValue, context: CallContext) -> DeepOuter.Inner {
        .with { $0.text = request.value }
    }

    func fromElsewhere(
        _ requests: RequestStream<Corpus_Elsewhere_Thing.Part>,
        context: CallContext
    ) async throws -> DeepOuter.Inner {
        var sum: Int64 = 0
        for try await part in requests { sum += part.number }
        return .with { $0.text = "\(sum)" }
    }
}

/// Whether code runs in a task, noted by each of the two handlers below.
private func noteTask(_ notes: Notes) {
    // SAFETY: the task is only asked for, not kept.
    notes.add(unsafe withUnsafeCurrentTask { unsafe $0 == nil } ? "without a task" : "in a task")
}

private struct PromptEditions: Corpus_Edition_Editions.Handler, Corpus_Edition_Editions.SynchronousPresent {
    let notes: Notes

    func former(_ request: Corpus_Edition_Old, context: CallContext) async throws -> Corpus_Edition_Old { request }

    func present(_ request: Corpus_Edition_Old, context: CallContext) throws -> Corpus_Edition_Old {
        noteTask(notes)
        return request
    }
}

private struct SlowEditions: Corpus_Edition_Editions.Handler {
    let notes: Notes

    func former(_ request: Corpus_Edition_Old, context: CallContext) async throws -> Corpus_Edition_Old { request }

    func present(_ request: Corpus_Edition_Old, context: CallContext) async throws -> Corpus_Edition_Old {
        noteTask(notes)
        return request
    }
}
