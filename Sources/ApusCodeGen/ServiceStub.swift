import SwiftProtobufPluginLibrary

/// Everything of one service: an enum with its name, methods and descriptor; the protocols of a server; the clients.
struct ServiceStub {
    let service: ServiceDescriptor
    let names: ServiceNames
    let options: GeneratorOptions
    /// `public `, `package ` or nothing.
    let access: String

    init(_ service: ServiceDescriptor, _ names: ServiceNames, _ options: GeneratorOptions) {
        self.service = service
        self.names = names
        self.options = options
        access = options.visibility.modifier
    }

    var methods: [(descriptor: MethodDescriptor, names: MethodNames)] { Array(zip(service.methods, names.methods)) }

    func print(to printer: inout StubPrinter) {
        printer.print("\n")
        printer.print(documentation(service.protoSourceComments(), or: "The service `\(service.fullName)`."))
        printer.print("\(access)enum \(names.type) {\n")
        printer.withIndentation { printer in
            printer.print(
                """
                /// The service's full name.
                \(access)static let name = "\(service.fullName)"

                /// The methods of the service.
                \(access)enum \(names.method) {\n
                """
            )
            for (descriptor, names) in methods {
                printer.print(
                    "    \(access)static let \(names.declared) = "
                        + "Apus.MethodDescriptor(service: \"\(service.fullName)\", method: \"\(descriptor.name)\")\n"
                )
            }
            printer.print("}\n")
            if options.makesReflection {
                printer.print(
                    """

                    /// What reflection shows of the service.
                    \(access)static let descriptor = Apus.ServiceDescriptor(name: name, files: \(StubFile.filesName))\n
                    """
                )
            }
            if options.makesServer { printHandlerProtocols(to: &printer) }
        }
        printer.print("}\n")
        if options.makesServer { printRegistration(to: &printer) }
        if options.makesClient { printClients(to: &printer) }
    }

    // MARK: Pieces

    func documentation(_ method: MethodDescriptor) -> String {
        documentation(method.protoSourceComments(), or: "Calls `\(method.fullName)`.")
    }

    private func documentation(_ comments: String, or otherwise: String) -> String {
        comments.isEmpty ? "/// \(otherwise)\n" : comments
    }

    /// Marks what belongs to something deprecated; the server's side is not, since it has to be served all the same.
    func deprecation(_ method: MethodDescriptor) -> String {
        let what: String
        if method.options.deprecated {
            what = method.fullName
        } else if service.options.deprecated || service.file.options.deprecated {
            what = service.fullName
        } else {
            return ""
        }
        return "@available(*, deprecated, message: \"\(what) is deprecated\")\n"
    }

    func codec(_ message: String) -> String { "ApusProtobuf.ProtobufCodec<\(message)>()" }
}

extension MethodDescriptor {
    var isUnary: Bool { !clientStreaming && !serverStreaming }
}
