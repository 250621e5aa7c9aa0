import SwiftProtobufPluginLibrary

/// What a service and its methods are called in Swift.
struct ServiceNames {
    /// The enum that everything of the service is in, such as `Echo_V1_EchoService`.
    let type: String
    /// In the order of the service's methods.
    let methods: [MethodNames]
    /// The types in that enum. Each ends with underscores where a message of the service has its plain name.
    let handler, client, blockingClient, method, synchronousHandler: String

    init(_ service: ServiceDescriptor, _ namer: SwiftProtobufNamer) throws(GeneratorProblem) {
        type = namer.typePrefix(forFile: service.file) + upperCased(service.name)

        // A type in the enum hides one of the same name outside; messages without a package can have any name.
        var taken = Set(
            service.methods.flatMap { [namer.fullName(message: $0.inputType), namer.fullName(message: $0.outputType)] }
        )
        func unique(_ name: String) -> String {
            var name = name
            while !taken.insert(name).inserted { name += "_" }
            return name
        }
        handler = unique("Handler")
        client = unique("Client")
        blockingClient = unique("BlockingClient")
        method = unique("Method")
        synchronousHandler = unique("SynchronousHandler")

        let functions = service.methods.map { function(for: $0.name) }
        var names: [MethodNames] = []
        for (index, descriptor) in service.methods.enumerated() {
            if let other = functions[..<index].firstIndex(of: functions[index]) {
                throw GeneratorProblem(
                    "\(service.file.name): methods \(service.methods[other].name) and \(descriptor.name) of "
                        + "\(service.fullName) are both \(functions[index]) in Swift; rename one"
                )
            }
            var withMetadata = functions[index] + "WithMetadata"
            while functions.contains(withMetadata) { withMetadata += "_" }
            names.append(
                MethodNames(
                    function: functions[index],
                    functionWithMetadata: withMetadata,
                    synchronous: unique("Synchronous" + upperCased(descriptor.name)),
                    request: namer.fullName(message: descriptor.inputType),
                    response: namer.fullName(message: descriptor.outputType)
                )
            )
        }
        methods = names
    }
}

struct MethodNames {
    /// Such as `get`.
    let function: String
    /// Such as `getWithMetadata`; of unary methods alone.
    let functionWithMetadata: String
    /// The protocol of a handler that does not suspend, such as `SynchronousGet`; of unary methods alone.
    let synchronous: String
    let request: String
    let response: String

    /// The function's name where it is declared.
    var declared: String { keywords.contains(function) ? "`\(function)`" : function }
}

/// `Get` is `get`, `HTTPGet` is `httpGet`, `do_nothing` is `doNothing`.
private func function(for method: String) -> String {
    let name: String
    if method.contains("_") {
        name = NamingUtils.toLowerCamelCase(method)
    } else {
        let capitals = method.prefix { $0.isUppercase }.count
        // The last capital of several begins the next word, unless it ends the name.
        let lowered = capitals > 1 && capitals < method.count ? capitals - 1 : capitals
        name = method.prefix(lowered).lowercased() + method.dropFirst(lowered)
    }
    // Neither can be written behind a dot, not even in backticks.
    return name == "init" || name == "self" ? name + "_" : name
}

/// Swift's type names begin with a capital; a proto's need not.
private func upperCased(_ name: String) -> String { name.prefix(1).uppercased() + name.dropFirst() }

/// Words that need backticks as the name of a function. They need none behind a dot.
private let keywords: Set<String> = [
    "as", "associatedtype", "break", "case", "catch", "class", "continue", "default", "defer", "deinit", "do", "else",
    "enum", "extension", "fallthrough", "false", "fileprivate", "for", "func", "guard", "if", "import", "in", "inout",
    "internal", "is", "let", "nil", "operator", "precedencegroup", "private", "protocol", "public", "repeat",
    "rethrows", "return", "static", "struct", "subscript", "super", "switch", "throw", "throws", "true", "try",
    "typealias", "var",
    "where", "while",
]

/// Whether letters, digits and underscores follow a letter or underscore; nothing will do as well.
private func isNameStart(_ prefix: String) -> Bool {
    let isLetter = { (character: Character) in character.isLetter || character == "_" }
    return prefix.allSatisfy { isLetter($0) || $0.isNumber } && prefix.first.map(isLetter) ?? true
}

/// Two things of one Swift name, in the files of one run: the compiler would say so, but not about the protos.
func checkNames(_ files: [FileDescriptor], _ options: GeneratorOptions) throws(GeneratorProblem) {
    var owners: [String: String] = [:]
    func claim(_ name: String, _ what: String, in file: FileDescriptor) throws(GeneratorProblem) {
        // Types of different modules do not meet.
        let module = options.mappings.moduleName(forFile: file) ?? ""
        if let other = owners.updateValue("\(what) (\(file.name))", forKey: "\(module).\(name)") {
            throw GeneratorProblem(
                "\(file.name): \(what) and \(other) are both \(name) in Swift; rename one, or set swift_prefix"
            )
        }
    }
    for file in files {
        let prefix = file.options.swiftPrefix
        guard isNameStart(prefix) else {
            throw GeneratorProblem("\(file.name): swift_prefix \"\(prefix)\" cannot begin a name in Swift")
        }
        let namer = SwiftProtobufNamer(currentFile: file, protoFileToModuleMappings: options.mappings)
        for message in file.messages {
            try claim(namer.relativeName(message: message), "message \(message.fullName)", in: file)
        }
        for enumeration in file.enums {
            try claim(namer.relativeName(enum: enumeration), "enum \(enumeration.fullName)", in: file)
        }
        for service in file.services {
            try claim(try ServiceNames(service, namer).type, "service \(service.fullName)", in: file)
        }
    }
}
