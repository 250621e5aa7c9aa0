internal import Apus
internal import SwiftProtobuf

/// The proto files of a server's services, by what is in them.
struct DescriptorIndex: Sendable {
    private struct File {
        let serialized: [UInt8]
        let dependencies: [String]
    }

    private struct ExtensionKey: Hashable {
        let type: String
        let number: Int32
    }

    private var files: [String: File] = [:]
    /// The file of each service, method, message, field, oneof, enum, enum value and extension, by full name.
    private var symbols: [String: String] = [:]
    private var types: Set<String> = []
    private var extensions: [ExtensionKey: String] = [:]

    init(_ services: [ServiceDescriptor]) {
        for file in services.flatMap(\.files) where files[file.name] == nil {
            let serialized = file.serialized
            // What the generator wrote can be read; a descriptor made by hand may be anything, and is left out.
            guard let proto = try? Google_Protobuf_FileDescriptorProto(serializedBytes: serialized) else { continue }
            files[file.name] = File(serialized: serialized, dependencies: proto.dependency)
            add(proto, as: file.name)
        }
    }

    func file(of symbol: String) -> String? { symbols[symbol] }
    func file(ofExtension number: Int32, of type: String) -> String? {
        extensions[ExtensionKey(type: type, number: number)]
    }
    func hasType(_ type: String) -> Bool { types.contains(type) }
    func extensionNumbers(of type: String) -> [Int32] {
        extensions.keys.filter { $0.type == type }.map(\.number).sorted()
    }

    /// A file, and those that it needs, each once; of the latter only those that are not left out. `nil` if there is no
    /// such file.
    func files(from name: String, without known: Set<String>) -> [(name: String, serialized: [UInt8])]? {
        guard files[name] != nil else { return nil }
        var found: [(name: String, serialized: [UInt8])] = []
        var seen: Set<String> = [name]
        var waiting = [name]
        while let next = waiting.popLast() {
            guard let file = files[next] else { continue }
            if next == name || !known.contains(next) { found.append((next, file.serialized)) }
            waiting += file.dependencies.filter { seen.insert($0).inserted }
        }
        return found
    }

    // MARK: Filling

    private mutating func add(_ proto: Google_Protobuf_FileDescriptorProto, as file: String) {
        let prefix = proto.package.isEmpty ? "" : proto.package + "."
        for service in proto.service {
            symbols[prefix + service.name] = file
            for method in service.method { symbols["\(prefix)\(service.name).\(method.name)"] = file }
        }
        for enumeration in proto.enumType { add(enumeration, in: prefix, as: file) }
        for field in proto.extension { addExtension(field, in: prefix, as: file) }
        // Messages nest as deep as protoc lets them; a list in place of recursion.
        var waiting = proto.messageType.map { (prefix, $0) }
        while let (prefix, message) = waiting.popLast() {
            let name = prefix + message.name
            symbols[name] = file
            types.insert(name)
            for field in message.field { symbols["\(name).\(field.name)"] = file }
            for oneof in message.oneofDecl { symbols["\(name).\(oneof.name)"] = file }
            for enumeration in message.enumType { add(enumeration, in: name + ".", as: file) }
            for field in message.extension { addExtension(field, in: name + ".", as: file) }
            waiting += message.nestedType.map { (name + ".", $0) }
        }
    }

    private mutating func add(_ enumeration: Google_Protobuf_EnumDescriptorProto, in prefix: String, as file: String) {
        symbols[prefix + enumeration.name] = file
        // The values of an enum are named beside it, not in it.
        for value in enumeration.value { symbols[prefix + value.name] = file }
    }

    private mutating func addExtension(
        _ field: Google_Protobuf_FieldDescriptorProto,
        in prefix: String,
        as file: String
    ) {
        symbols[prefix + field.name] = file
        // With a dot in front, as protoc resolves names.
        let type = field.extendee.hasPrefix(".") ? String(field.extendee.dropFirst()) : field.extendee
        extensions[ExtensionKey(type: type, number: field.number)] = file
    }
}
