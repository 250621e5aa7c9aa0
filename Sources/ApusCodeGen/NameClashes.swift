import SwiftProtobufPluginLibrary

/// Things of one Swift name: the compiler would say so, but not about the protos.
///
/// Looked for in the files of one run and in all that they import, because a stub is in one module with the messages
/// of files that are not mapped to another.
struct NameClashes {
    private let options: GeneratorOptions
    /// What has a name in a module, by both.
    private var owners: [String: Owner] = [:]

    private struct Owner {
        let what: String
        let file: FileDescriptor
        /// Of what is only imported others have taken care.
        let isGenerated: Bool
    }

    /// Modules that stubs name: a type of the same name in the stub's own module would hide them.
    private static let modules: Set<String> = ["Apus", "ApusProtobuf"]

    /// - Throws: ``GeneratorProblem``: what clashes, and where it is.
    static func check(_ files: [FileDescriptor], _ options: GeneratorOptions) throws(GeneratorProblem) {
        var clashes = NameClashes(options: options)
        // What is imported comes first, so that a clash is reported where something can be done about it.
        var seen = Set(files.map(\.name))
        for file in files.flatMap(\.withImports) where seen.insert(file.name).inserted {
            try clashes.claimNames(of: file, isGenerated: false)
        }
        for file in files { try clashes.claimNames(of: file, isGenerated: true) }
        if files.contains(where: { !$0.services.isEmpty }) { try clashes.checkModules(of: files) }
    }

    private init(options: GeneratorOptions) { self.options = options }

    private mutating func claimNames(of file: FileDescriptor, isGenerated: Bool) throws(GeneratorProblem) {
        let prefix = file.options.swiftPrefix
        guard !isGenerated || isNameStart(prefix) else {
            throw GeneratorProblem("\(file.name): swift_prefix \"\(prefix)\" cannot begin a name in Swift")
        }
        let namer = SwiftProtobufNamer(currentFile: file, protoFileToModuleMappings: options.mappings)
        func owner(_ what: String) -> Owner { Owner(what: what, file: file, isGenerated: isGenerated) }
        for message in file.messages {
            try claim(namer.relativeName(message: message), owner("message \(message.fullName)"))
        }
        for enumeration in file.enums {
            try claim(namer.relativeName(enum: enumeration), owner("enum \(enumeration.fullName)"))
        }
        // Stubs of what is imported may not exist.
        for service in file.services where isGenerated {
            try claim(try ServiceNames(service, namer).type, owner("service \(service.fullName)"))
        }
    }

    private mutating func claim(_ name: String, _ owner: Owner) throws(GeneratorProblem) {
        // Types of different modules do not meet.
        let key = "\(module(of: owner.file)).\(name)"
        if let other = owners.updateValue(owner, forKey: key), owner.isGenerated {
            throw GeneratorProblem(
                "\(owner.file.name): \(owner.what) and \(other.what) (\(other.file.name)) are both \(name) in Swift; "
                    + "rename one, or set swift_prefix"
            )
        }
    }

    private func checkModules(of files: [FileDescriptor]) throws(GeneratorProblem) {
        for module in Set(files.map(module(of:))).sorted() {
            for name in Self.modules.sorted() {
                guard let owner = owners["\(module).\(name)"] else { continue }
                throw GeneratorProblem(
                    "\(owner.file.name): \(owner.what) would hide the module \(name) in Swift; "
                        + "rename it, put it into a package, or set swift_prefix"
                )
            }
        }
    }

    private func module(of file: FileDescriptor) -> String { options.mappings.moduleName(forFile: file) ?? "" }
}

/// Whether letters, digits and underscores follow a letter or underscore; nothing will do as well.
private func isNameStart(_ prefix: String) -> Bool {
    let isLetter = { (character: Character) in character.isLetter || character == "_" }
    return prefix.allSatisfy { isLetter($0) || $0.isNumber } && prefix.first.map(isLetter) ?? true
}

extension FileDescriptor {
    /// The file after all that it imports, each after its own imports, once.
    var withImports: [FileDescriptor] {
        var seen: Set<String> = []
        var files: [FileDescriptor] = []
        func visit(_ file: FileDescriptor) {
            guard seen.insert(file.name).inserted else { return }
            for dependency in file.dependencies { visit(dependency) }
            files.append(file)
        }
        visit(self)
        return files
    }
}
