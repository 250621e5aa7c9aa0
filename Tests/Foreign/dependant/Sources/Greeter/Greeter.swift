import Apus
import ApusProtobuf
import ApusServices
import Foundation
import SwiftProtobuf

/// An actor, as a user's service with state may be.
actor Greeter: Greet_V1_GreetService.Handler {
    private var greeted = 0

    func greet(_ request: Greet_V1_Person, context: CallContext) async throws -> Greet_V1_GreetResponse {
        guard !request.name.isEmpty else {
            let violation = Google_Rpc_BadRequest.FieldViolation.with { $0.field = "name" }
            let details = Google_Rpc_BadRequest.with { $0.fieldViolations = [violation] }
            throw try RPCError(code: .invalidArgument, message: "nobody", details: [details])
        }
        greeted += 1
        return .with { $0.text = "Hello, \(request.name)" }
    }

    func greetAll(
        _ requests: RequestStream<Greet_V1_Person>,
        responses: ResponseWriter<Greet_V1_GreetResponse>,
        context: CallContext
    ) async throws {
        for try await person in requests {
            try await responses.write(try await greet(person, context: context))
        }
    }

    func count(_ request: Google_Protobuf_Empty, context: CallContext) async throws -> Greet_V1_GreetResponse {
        .with { $0.text = "\(greeted)" }
    }
}

@main
struct Program {
    static func main() async throws {
        let server = try Server(
            .tcp(host: "127.0.0.1", port: 0),
            services: [Greeter(), HealthService(), ReflectionService()]
        )
        let channel = try Channel("\(try await server.listen())")
        let client = Greet_V1_GreetService.Client(channel)

        print(try await client.greet(.with { $0.name = "Ada" }).text)
        do {
            _ = try await client.greet(Greet_V1_Person())
        } catch {
            let field = error.detail(Google_Rpc_BadRequest.self)?.fieldViolations.first?.field
            print(error.code, error.message, field ?? "without details")
        }
        let all = client.greetAll()
        for name in ["Grace", "Barbara"] { try await all.requests.write(.with { $0.name = name }) }
        all.requests.finish()
        for try await response in all.responses { print(response.text) }

        let blocking = Greet_V1_GreetService.BlockingClient(channel)
        let count = try await withCheckedThrowingContinuation { continuation in
            Thread.detachNewThread {
                continuation.resume(with: Result { try blocking.count(Google_Protobuf_Empty()).text })
            }
        }
        print("greeted", count)
        print(try await Grpc_Health_V1_Health.Client(channel).check(.init()).status)
        server.stop()
        await server.waitUntilStopped()
    }
}
