import SwiftProtobufPluginLibrary

// The two clients: one whose calls suspend a task, one whose calls block a thread.

extension ServiceStub {
    /// What differs between the two.
    private struct Manner {
        let type: String
        let documentation: String
        /// In front of the names of `Channel`'s methods and of the types of calls: nothing, or "blocking".
        let prefix: String
        let effects: (throwing: String, other: String)
        let attempts: (throwing: String, other: String)

        func channelMethod(_ name: String) -> String {
            prefix.isEmpty ? name : prefix + name.prefix(1).uppercased() + name.dropFirst()
        }

        func type(_ name: String) -> String { "Apus." + prefix.prefix(1).uppercased() + prefix.dropFirst() + name }
    }

    func printClients(to printer: inout StubPrinter) {
        let asynchronous = Manner(
            type: names.client,
            documentation: "Calls the service.",
            prefix: "",
            effects: (" async throws(Apus.RPCError)", " async"),
            attempts: ("try await ", "await ")
        )
        let blocking = Manner(
            type: names.blockingClient,
            documentation: "Calls the service from a thread that blocks meanwhile.",
            prefix: "blocking",
            effects: (" throws(Apus.RPCError)", ""),
            attempts: ("try ", "")
        )
        printer.print("\nextension \(names.type) {\n")
        printer.withIndentation { printer in
            printClient(asynchronous, to: &printer)
            printer.print("\n")
            printClient(blocking, to: &printer)
        }
        printer.print("}\n")
    }

    private func printClient(_ manner: Manner, to printer: inout StubPrinter) {
        printer.print(
            """
            /// \(manner.documentation) A value, cheap to make and to copy; thread-safe.
            \(access)struct \(manner.type): Sendable {
                /// The channel that the calls go over.
                \(access)let channel: Apus.Channel

                \(access)init(_ channel: Apus.Channel) { self.channel = channel }\n
            """
        )
        printer.withIndentation { printer in
            for (descriptor, names) in methods {
                for form in forms(manner, descriptor, names) {
                    printer.print("\n")
                    print(form, manner, descriptor, names, to: &printer)
                }
            }
        }
        printer.print("}\n")
    }

    /// One method of a client.
    private struct Form {
        let function: String
        let channelMethod: String
        let takesRequest: Bool
        let result: String
        var effects = ""
        var attempt = ""
        var remark = ""
    }

    private func forms(_ manner: Manner, _ method: MethodDescriptor, _ names: MethodNames) -> [Form] {
        let pair = "<\(names.request), \(names.response)>"
        func streaming(_ channelMethod: String, _ result: String) -> [Form] {
            [
                Form(
                    function: names.declared,
                    channelMethod: channelMethod,
                    takesRequest: !method.clientStreaming,
                    result: manner.type(result)
                )
            ]
        }
        switch (method.clientStreaming, method.serverStreaming) {
        case (false, true): return streaming("serverStreaming", "ResponseStream<\(names.response)>")
        case (true, false): return streaming("clientStreaming", "ClientStreamingCall" + pair)
        case (true, true): return streaming("bidirectionalStreaming", "BidirectionalCall" + pair)
        case (false, false):
            return [
                Form(
                    function: names.declared,
                    channelMethod: "unary",
                    takesRequest: true,
                    result: names.response,
                    effects: manner.effects.throwing,
                    attempt: manner.attempts.throwing
                ),
                Form(
                    function: names.functionWithMetadata,
                    channelMethod: "unaryWithMetadata",
                    takesRequest: true,
                    result: "Apus.UnaryResponse<\(names.response)>",
                    effects: manner.effects.other,
                    attempt: manner.attempts.other,
                    remark: "///\n/// With the metadata that comes along, be it a success or not.\n"
                ),
            ]
        }
    }

    private func print(
        _ form: Form,
        _ manner: Manner,
        _ method: MethodDescriptor,
        _ names: MethodNames,
        to printer: inout StubPrinter
    ) {
        printer.print(documentation(method), form.remark, deprecation(method))
        if !manner.prefix.isEmpty {
            printer.print("@available(*, noasync, message: \"it blocks the thread; use \(self.names.client)\")\n")
        }
        printer.print("\(access)func \(form.function)(\n")
        if form.takesRequest { printer.print("    _ request: \(names.request),\n") }
        printer.print(
            """
                options: Apus.CallOptions = Apus.CallOptions()
            )\(form.effects) -> \(form.result) {
                \(form.attempt)self.channel.\(manner.channelMethod(form.channelMethod))(
                    \(self.names.method).\(names.function),\n
            """
        )
        if form.takesRequest { printer.print("        request,\n") }
        printer.print(
            """
                    requestCodec: \(codec(names.request)),
                    responseCodec: \(codec(names.response)),
                    options: options
                )
            }\n
            """
        )
    }
}
