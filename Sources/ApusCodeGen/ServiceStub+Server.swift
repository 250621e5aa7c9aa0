import SwiftProtobufPluginLibrary

// What a server implements.

extension ServiceStub {
    func printHandlerProtocols(to printer: inout StubPrinter) {
        printer.print(
            """

            /// What a server of the service implements.
            ///
            /// Handlers run on the loop of the connection that the call came by, unless ``options(for:)`` says
            /// otherwise.\n
            """
        )
        let unary = methods.filter { $0.descriptor.isUnary }
        if let first = unary.first {
            printer.print(
                """
                ///
                /// A unary one that does not suspend needs no task: declare it without `async` and conform to its
                /// protocol as well, such as ``\(first.names.synchronous)``. It then holds its loop while it runs.\n
                """
            )
        }
        printer.print("\(access)protocol \(names.handler): Apus.RPCService {\n")
        printer.withIndentation { printer in
            for (descriptor, names) in methods {
                printer.print(documentation(descriptor))
                printHandler(descriptor, names, effects: "async throws", to: &printer)
                printer.print("\n")
            }
            printer.print(
                """
                /// How a method is served, where that differs from the server's configuration.
                func options(for method: Apus.MethodDescriptor) -> Apus.MethodOptions\n
                """
            )
        }
        printer.print("}\n")

        for (descriptor, names) in unary {
            printer.print(
                """

                /// A ``\(self.names.handler)`` whose `\(names.function)` does not suspend: it runs without a task, as
                /// soon as its request is whole.
                \(access)protocol \(names.synchronous): Sendable {\n
                """
            )
            printer.withIndentation { printer in
                printer.print(documentation(descriptor))
                printHandler(descriptor, names, effects: "throws", to: &printer)
            }
            printer.print("}\n")
        }
        if !unary.isEmpty {
            let all = ([names.handler] + unary.map(\.names.synchronous)).joined(separator: " & ")
            printer.print(
                """

                /// A ``\(names.handler)`` none of whose unary methods suspends.
                \(access)typealias \(names.synchronousHandler) = \(all)\n
                """
            )
        }
    }

    private func printHandler(
        _ method: MethodDescriptor,
        _ names: MethodNames,
        effects: String,
        to printer: inout StubPrinter
    ) {
        let request =
            method.clientStreaming
            ? "_ requests: Apus.RequestStream<\(names.request)>" : "_ request: \(names.request)"
        let responses =
            method.serverStreaming ? "    responses: Apus.ResponseWriter<\(names.response)>,\n" : ""
        let result = method.serverStreaming ? "" : " -> \(names.response)"
        printer.print(
            """
            func \(names.declared)(
                \(request),
            \(responses)    context: Apus.CallContext
            ) \(effects)\(result)\n
            """
        )
    }

    func printRegistration(to printer: inout StubPrinter) {
        // Specialised for the type of the handler, whose module is most often another: an asynchronous handler that is
        // called as a protocol's costs 700 instructions more.
        let inlinable = options.visibility == .public ? "@inlinable\n" : ""
        printer.print("\nextension \(names.type).\(names.handler) {\n")
        printer.withIndentation { printer in
            printer.print(
                """
                \(access)func options(for method: Apus.MethodDescriptor) -> Apus.MethodOptions { Apus.MethodOptions() }

                \(inlinable)\(access)func register(with registry: inout Apus.MethodRegistry) {\n
                """
            )
            printer.withIndentation { printer in
                if options.makesReflection { printer.print("registry.describe(\(names.type).descriptor)\n") }
                for (descriptor, names) in methods { printRegistration(descriptor, names, to: &printer) }
            }
            printer.print("}\n")
        }
        printer.print("}\n")
    }

    private func printRegistration(_ method: MethodDescriptor, _ names: MethodNames, to printer: inout StubPrinter) {
        func register(_ kind: String, _ parameters: String, _ call: String, indent: String = "") {
            printer.print(
                """
                \(indent)registry.\(kind)(
                \(indent)    \(self.names.type).\(self.names.method).\(names.function),
                \(indent)    request: \(codec(names.request)),
                \(indent)    response: \(codec(names.response)),
                \(indent)    options: options(for: \(self.names.type).\(self.names.method).\(names.function))
                \(indent)) { \(parameters), context in
                \(indent)    \(call)
                \(indent)}\n
                """
            )
        }
        switch (method.clientStreaming, method.serverStreaming) {
        case (false, false):
            printer.print("if let handler = self as? any \(self.names.type).\(names.synchronous) {\n")
            register(
                "synchronousUnary",
                "request",
                "try handler.\(names.function)(request, context: context)",
                indent: "    "
            )
            printer.print("} else {\n")
            register(
                "unary",
                "request",
                "try await self.\(names.function)(request, context: context)",
                indent: "    "
            )
            printer.print("}\n")
        case (false, true):
            register(
                "serverStreaming",
                "request, responses",
                "try await self.\(names.function)(request, responses: responses, context: context)"
            )
        case (true, false):
            register(
                "clientStreaming",
                "requests",
                "try await self.\(names.function)(requests, context: context)"
            )
        case (true, true):
            register(
                "bidirectionalStreaming",
                "requests, responses",
                "try await self.\(names.function)(requests, responses: responses, context: context)"
            )
        }
    }
}
