package import SwiftProtobufPluginLibrary

/// What stands in `--apus_opt=`. The names and values are those of swift-protobuf's plugin where it has the same
/// option, so that one list serves both.
package struct GeneratorOptions {
    package enum FileNaming: String, CaseIterable {
        case fullPath = "FullPath"
        case pathToUnderscores = "PathToUnderscores"
        case dropPath = "DropPath"
    }

    package enum Visibility: String, CaseIterable {
        case `internal` = "Internal"
        case `package` = "Package"
        case `public` = "Public"

        /// The modifier in front of a declaration, with a space behind it.
        var modifier: String { self == .internal ? "" : keyword + " " }
        var keyword: String { rawValue.lowercased() }
    }

    package var fileNaming = FileNaming.fullPath
    package var visibility = Visibility.internal
    /// `public import` and so on, for packages that enable `InternalImportsByDefault`.
    package var usesAccessLevelOnImports = false
    package var makesServer = true
    package var makesClient = true
    /// Whether stubs carry the descriptors that reflection shows.
    package var makesReflection = true
    package var mappings = ProtoFileToModuleMappings()

    package init() {}

    /// - Throws: ``GeneratorProblem``: an option that there is not, or a value that does not fit it.
    package init(_ parameter: any CodeGeneratorParameter) throws {
        var mappingsPath = ""
        var protobufModule: String?
        for (name, value) in parameter.parsedPairs {
            switch name {
            case "FileNaming": fileNaming = try Self.choice(name, value, spelledWithUnderscores: true)
            case "Visibility": visibility = try Self.choice(name, value)
            case "UseAccessLevelOnImports": usesAccessLevelOnImports = try Self.flag(name, value)
            case "Server": makesServer = try Self.flag(name, value)
            case "Client": makesClient = try Self.flag(name, value)
            case "Reflection": makesReflection = try Self.flag(name, value)
            case "ProtoPathModuleMappings": mappingsPath = value
            case "SwiftProtobufModuleName": protobufModule = value
            // What concerns messages alone is accepted, so that one list of options does for both plugins.
            case "EnumGeneration", "experimental_strip_nonfunctional_codegen", "ExperimentalHiddenNames": continue
            case "ImplementationOnlyImports":
                guard try !Self.flag(name, value) else {
                    throw GeneratorProblem("ImplementationOnlyImports is not supported; use UseAccessLevelOnImports")
                }
            default:
                throw GeneratorProblem(
                    "there is no option \(name); there are FileNaming, Visibility, UseAccessLevelOnImports, "
                        + "ProtoPathModuleMappings, SwiftProtobufModuleName, Server, Client and Reflection"
                )
            }
        }
        do {
            mappings =
                mappingsPath.isEmpty
                ? ProtoFileToModuleMappings(swiftProtobufModuleName: protobufModule)
                : try ProtoFileToModuleMappings(path: mappingsPath, swiftProtobufModuleName: protobufModule)
        } catch {
            throw GeneratorProblem("ProtoPathModuleMappings=\(mappingsPath) cannot be used: \(error)")
        }
    }

    private static func choice<Choice: RawRepresentable<String> & CaseIterable>(
        _ name: String,
        _ value: String,
        spelledWithUnderscores: Bool = false
    ) throws -> Choice {
        let wanted = (spelledWithUnderscores ? value.replacing("_", with: "") : value).lowercased()
        if let choice = Choice.allCases.first(where: { $0.rawValue.lowercased() == wanted }) { return choice }
        let names = Choice.allCases.map(\.rawValue).joined(separator: ", ")
        throw GeneratorProblem("\(name) is one of \(names), not \"\(value)\"")
    }

    private static func flag(_ name: String, _ value: String) throws -> Bool {
        switch value.lowercased() {
        case "true": true
        case "false": false
        default: throw GeneratorProblem("\(name) is true or false, not \"\(value)\"")
        }
    }
}
