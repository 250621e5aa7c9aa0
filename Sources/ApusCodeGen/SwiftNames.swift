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
        type = typeName(namer.typePrefix(forFile: service.file) + upperCased(service.name), namer)

        // A type in the enum hides one of the same name outside; messages without a package can have any name, and so
        // can modules. Of `Outer.Inner` it is the first part that would be hidden.
        let messages = service.methods.flatMap { [$0.inputType, $0.outputType] }.compactMap(\.self)
        var taken = Set(messages.map { String(namer.fullName(message: $0).prefix { $0 != "." }) })
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
    // The first two cannot be written behind a dot, not even in backticks; the last is no name.
    return name == "init" || name == "self" || name == "_" ? name + "_" : name
}

/// What the type of a service is called that would otherwise be called `name`: services without a package can have
/// names that Swift does not allow for a type, or that generated code means something else by.
private func typeName(_ name: String, _ namer: SwiftProtobufNamer) -> String {
    let isTaken = reservedTypeNames.contains(name) || name == namer.swiftProtobufModuleName
    return isTaken || name.allSatisfy { $0 == "_" } ? name + "Service" : name
}

private let reservedTypeNames: Set<String> = [
    "Any", "Apus", "ApusProtobuf", "Array", "Bool", "Data", "Dictionary", "Double", "Equatable", "Error", "Extensions",
    "Float", "Foundation", "Hashable", "Int", "Int32", "Int64", "Never", "Optional", "Protocol", "Result", "Self",
    "Sendable", "Set", "String", "Swift", "Type", "UInt", "UInt32", "UInt64", "Void",
]

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
