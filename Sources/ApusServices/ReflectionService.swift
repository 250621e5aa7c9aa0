public import Apus
internal import ApusBase
internal import ApusServiceProtos
internal import Foundation
internal import SwiftProtobuf

/// Server reflection, `grpc.reflection.v1` and `v1alpha`: shows tools such as grpcurl and `buf curl` what the server
/// serves, so that they can call it without its proto files.
///
///     let server = try Server(address, services: [echo, ReflectionService()])
///
/// It shows the services that generated stubs describe; a service that was registered by hand is listed by name.
/// Whoever reaches the server can see all of it. Thread-safe.
public final class ReflectionService: RPCService {
    private struct State {
        var services: ServedServices?
        var index: DescriptorIndex?
    }

    private let state = Lock(State())

    public init() {}

    public func register(with registry: inout MethodRegistry) {
        let services = registry.services
        state.withLock { $0.services = services }
        Current(reflection: self).register(with: &registry)
        Former(reflection: self).register(with: &registry)
    }

    /// Made when it is first asked for: most servers are never asked.
    fileprivate var index: DescriptorIndex {
        state.withLock { state in
            if let index = state.index { return index }
            let index = DescriptorIndex(state.services?.descriptors ?? [])
            state.index = index
            return index
        }
    }

    fileprivate var serviceNames: [String] { state.withLock { $0.services }?.names ?? [] }

    /// What a request comes to, in either version of the protocol.
    fileprivate enum Answer {
        case files([[UInt8]])
        case extensionNumbers(type: String, [Int32])
        case services([String])
        case error(StatusCode, String)
    }

    /// One stream of questions: files that went over it are not sent as dependencies again.
    fileprivate struct Conversation {
        let reflection: ReflectionService
        private var sent: Set<String> = []

        init(_ reflection: ReflectionService) { self.reflection = reflection }

        mutating func files(_ name: String?, orElse problem: @autoclosure () -> String) -> Answer {
            guard let name, let files = reflection.index.files(from: name, without: sent) else {
                return .error(.notFound, problem())
            }
            sent.formUnion(files.map(\.name))
            return .files(files.map(\.serialized))
        }

        mutating func answer(_ request: Grpc_Reflection_V1_ServerReflectionRequest.OneOf_MessageRequest?) -> Answer {
            let index = reflection.index
            switch request {
            case .fileByFilename(let name):
                return files(name, orElse: "there is no file \"\(name)\"")
            case .fileContainingSymbol(let symbol):
                return files(index.file(of: symbol), orElse: "there is no symbol \"\(symbol)\"")
            case .fileContainingExtension(let request):
                let (type, number) = (request.containingType, request.extensionNumber)
                return files(
                    index.file(ofExtension: number, of: type),
                    orElse: "there is no extension \(number) of \"\(type)\""
                )
            case .allExtensionNumbersOfType(let type):
                guard index.hasType(type) else { return .error(.notFound, "there is no type \"\(type)\"") }
                return .extensionNumbers(type: type, index.extensionNumbers(of: type))
            case .listServices:
                return .services(reflection.serviceNames)
            case nil:
                return .error(.invalidArgument, "the request asks for nothing")
            }
        }
    }
}

private struct Current: Grpc_Reflection_V1_ServerReflection.Handler {
    let reflection: ReflectionService

    func serverReflectionInfo(
        _ requests: RequestStream<Grpc_Reflection_V1_ServerReflectionRequest>,
        responses: ResponseWriter<Grpc_Reflection_V1_ServerReflectionResponse>,
        context: CallContext
    ) async throws {
        var conversation = ReflectionService.Conversation(reflection)
        for try await request in requests {
            try await responses.write(Self.response(to: request, conversation.answer(request.messageRequest)))
        }
    }

    static func response(
        to request: Grpc_Reflection_V1_ServerReflectionRequest,
        _ answer: ReflectionService.Answer
    ) -> Grpc_Reflection_V1_ServerReflectionResponse {
        .with { response in
            response.validHost = request.host
            response.originalRequest = request
            switch answer {
            case .files(let files):
                response.fileDescriptorResponse = .with { $0.fileDescriptorProto = files.map { Data($0) } }
            case .extensionNumbers(let type, let numbers):
                response.allExtensionNumbersResponse = .with {
                    $0.baseTypeName = type
                    $0.extensionNumber = numbers
                }
            case .services(let names):
                response.listServicesResponse = .with { $0.service = names.map { name in .with { $0.name = name } } }
            case .error(let code, let message):
                response.errorResponse = .with {
                    $0.errorCode = Int32(code.rawValue)
                    $0.errorMessage = message
                }
            }
        }
    }
}

/// The same messages under an older name; tools fall back to it.
private struct Former: Grpc_Reflection_V1alpha_ServerReflection.Handler {
    let reflection: ReflectionService

    func serverReflectionInfo(
        _ requests: RequestStream<Grpc_Reflection_V1alpha_ServerReflectionRequest>,
        responses: ResponseWriter<Grpc_Reflection_V1alpha_ServerReflectionResponse>,
        context: CallContext
    ) async throws {
        var conversation = ReflectionService.Conversation(reflection)
        for try await request in requests {
            // The two versions are the same on the wire.
            let current = try Grpc_Reflection_V1_ServerReflectionRequest(
                serializedBytes: request.serializedBytes() as [UInt8]
            )
            let response = Current.response(to: current, conversation.answer(current.messageRequest))
            try await responses.write(.init(serializedBytes: response.serializedBytes() as [UInt8]))
        }
    }
}
