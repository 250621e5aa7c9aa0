/// The full name of a method: its service with the package, and the method itself.
public struct MethodDescriptor: Hashable, Sendable {
    /// The service's full name, for example `echo.v1.EchoService`.
    public let service: String
    /// The method's name, for example `Get`.
    public let method: String

    public init(service: String, method: String) {
        self.service = service
        self.method = method
    }

    /// The method as `:path` names it: `/service/method`.
    public var path: String { "/\(service)/\(method)" }
}

extension MethodDescriptor: CustomStringConvertible {
    /// `service/method`.
    public var description: String { "\(service)/\(method)" }
}
