internal import ApusTransport
internal import Synchronization

/// What a service is, for those who ask a running server: its name, and the proto files that define it. Generated.
public struct ServiceDescriptor: Sendable {
    /// One proto file, as protoc understood it.
    public struct File: Sendable {
        /// The path by which other files import it, such as `echo/v1/echo.proto`.
        public let name: String
        private let base64: String

        /// - Parameters:
        ///   - name: the path by which other files import it.
        ///   - base64: a `google.protobuf.FileDescriptorProto`, encoded; generated code holds it as text because the
        ///     compiler takes long over large arrays.
        public init(name: String, base64: String) {
            self.name = name
            self.base64 = base64
        }

        /// The file as a serialized `google.protobuf.FileDescriptorProto`; empty if it was made from something that is
        /// not base64. Decoded in each call.
        public var serialized: [UInt8] {
            Base64.decode(Array(base64.utf8).span) ?? []
        }
    }

    /// The service's full name, such as `echo.v1.EchoService`.
    public let name: String
    /// The file that the service is in and all that it imports, each after its own imports.
    public let files: [File]

    public init(name: String, files: [File]) {
        self.name = name
        self.files = files
    }
}

/// What the services of one server say of themselves while they are registered. It is complete when the server is made;
/// a service that shows it to clients, such as reflection, keeps it and looks when it is called. Thread-safe.
public final class ServedDescriptors: Sendable {
    private let descriptors = Mutex<[ServiceDescriptor]>([])

    init() {}

    /// In the order of registration.
    public var all: [ServiceDescriptor] { descriptors.withLock { $0 } }

    func add(_ descriptor: ServiceDescriptor) { descriptors.withLock { $0.append(descriptor) } }
}
