/// What stands behind `swift package generate-stubs`.
struct Options {
    var protoc: String?
    var importPaths: [String] = []
    var inputs: [String] = []
    var outputPath: String?
    var target: String?
    var makesMessages = true
    var makesClient = true
    var makesServer = true
    var makesReflection = true
    var isDryRun = false
    var isVerbose = false
    var wantsHelp = false
    /// In the spelling of `--swift_opt` and `--apus_opt`.
    private var shared: [String] = []

    var makesStubs: Bool { makesClient || makesServer }

    var messageOptions: String { shared.joined(separator: ",") }

    var stubOptions: String {
        var all = shared
        if !makesClient { all.append("Client=false") }
        if !makesServer { all.append("Server=false") }
        if !makesReflection { all.append("Reflection=false") }
        return all.joined(separator: ",")
    }

    static let help = """
        Makes messages and gRPC stubs out of protos.

        swift package --allow-writing-to-package-directory generate-stubs [OPTION]... FILE-OR-FOLDER...

        A folder stands for all .proto files below it, and is where their imports are looked for.

          --output-path FOLDER       where the code goes
          --target NAME              the same: the sources of a target of this package
          --protoc PATH              the protoc to run; without it $PROTOC_PATH, or the protoc on the PATH
          --import-path FOLDER       where imports are looked for, instead of the folders and the files' folders; can
                                     be given more than once
          --access-level LEVEL       internal (without this option), package or public
          --access-level-on-imports  write `public import` and the like
          --file-naming NAMING       full-path (without this option), path-to-underscores or drop-path
          --module-mappings FILE     which protos are in which module: swift-protobuf's ProtoPathModuleMappings
          --no-messages              only stubs
          --no-client                no clients
          --no-server                no handler protocols; with --no-client only messages
          --no-reflection            stubs without the descriptors that reflection shows
          --dry-run                  say what would be run, and do not run it
          --verbose                  say what is run
          --help                     this
        """

    init(_ arguments: [String]) throws {
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            guard argument.hasPrefix("-") else {
                inputs.append(argument)
                continue
            }
            if argument == "--" {
                inputs += rest
                break
            }
            let parts = argument.split(separator: "=", maxSplits: 1).map(String.init)
            if try readFlag(argument) { continue }
            guard let set = Self.values[parts[0]] else {
                throw Problem("there is no option \(parts[0]); `swift package generate-stubs --help` lists them")
            }
            guard let value = parts.count == 2 ? parts[1] : rest.popFirst(), !value.isEmpty else {
                throw Problem("\(parts[0]) needs a value")
            }
            try set(&self, value)
        }
        guard wantsHelp || makesMessages || makesStubs else {
            throw Problem("--no-messages, --no-client and --no-server together leave nothing to make")
        }
    }

    private mutating func readFlag(_ name: String) throws -> Bool {
        switch name {
        case "--help", "-h": wantsHelp = true
        case "--access-level-on-imports": shared.append("UseAccessLevelOnImports=true")
        case "--no-messages": makesMessages = false
        case "--no-client": makesClient = false
        case "--no-server": makesServer = false
        case "--no-reflection": makesReflection = false
        case "--dry-run": isDryRun = true
        case "--verbose": isVerbose = true
        default: return false
        }
        return true
    }

    private static let values: [String: @Sendable (inout Options, String) throws -> Void] = [
        "--protoc": { $0.protoc = $1 },
        "--import-path": { $0.importPaths.append($1) },
        "--output-path": { $0.outputPath = $1 },
        "--target": { $0.target = $1 },
        "--module-mappings": { options, path in
            // A comma ends an option of protoc's plugins.
            guard !path.contains(",") else { throw Problem("--module-mappings \(path): the path has a comma in it") }
            options.shared.append("ProtoPathModuleMappings=\(path)")
        },
        "--access-level": { options, level in
            guard ["internal", "package", "public"].contains(level.lowercased()) else {
                throw Problem("--access-level is internal, package or public, not \"\(level)\"")
            }
            options.shared.append("Visibility=\(level.prefix(1).uppercased() + level.dropFirst().lowercased())")
        },
        "--file-naming": { options, naming in
            let names = ["fullpath": "FullPath", "pathtounderscores": "PathToUnderscores", "droppath": "DropPath"]
            guard let name = names[naming.lowercased().filter { $0 != "-" && $0 != "_" }] else {
                throw Problem("--file-naming is full-path, path-to-underscores or drop-path, not \"\(naming)\"")
            }
            options.shared.append("FileNaming=\(name)")
        },
    ]
}
