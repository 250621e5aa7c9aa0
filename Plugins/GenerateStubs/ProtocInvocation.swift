import Foundation

/// One run of protoc.
struct ProtocInvocation {
    let program: String
    var importPaths: [String] = []
    var files: [String] = []
    private var plugins: [(name: String, path: String, options: String)] = []

    init(program: String) { self.program = program }

    mutating func add(plugin name: String, at path: String, options: String) {
        plugins.append((name, path, options))
    }

    private func arguments(output: String) -> [String] {
        var arguments = importPaths.map { "--proto_path=\($0)" }
        for plugin in plugins {
            arguments += ["--plugin=protoc-gen-\(plugin.name)=\(plugin.path)", "--\(plugin.name)_out=\(output)"]
            if !plugin.options.isEmpty { arguments.append("--\(plugin.name)_opt=\(plugin.options)") }
        }
        return arguments + files
    }

    func commandLine(output: String) -> String { ([program] + arguments(output: output)).joined(separator: " ") }

    /// Runs it; what protoc says goes where the command's own output goes.
    func run(output: String) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments(output: output)
        do {
            try process.run()
        } catch {
            throw Problem("\(program) cannot be run: \(error)")
        }
        process.waitUntilExit()
        if process.terminationReason == .uncaughtSignal {
            throw Problem("\(program) was ended by signal \(process.terminationStatus)")
        }
        guard process.terminationStatus == 0 else {
            throw Problem("nothing is generated: \(program) failed with exit code \(process.terminationStatus)")
        }
    }

    /// Where protoc is: as said, or by the environment.
    static func program(_ said: String?) throws -> String {
        let environment = ProcessInfo.processInfo.environment
        if let said { return try executable(said, "--protoc") }
        if let path = environment["PROTOC_PATH"], !path.isEmpty { return try executable(path, "PROTOC_PATH") }
        let folders = (environment["PATH"] ?? "").split(separator: ":")
        let paths = folders.map { "\($0)/protoc" }
        if let path = paths.first(where: FileManager.default.isExecutableFile) { return path }
        throw Problem(
            "there is no protoc on the PATH: install it (Debian's package is protobuf-compiler), "
                + "or say where it is with --protoc PATH or PROTOC_PATH"
        )
    }

    private static func executable(_ path: String, _ origin: String) throws -> String {
        var isFolder = ObjCBool(false)
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
            throw Problem("\(origin) \(path): there is no such file")
        }
        guard !isFolder.boolValue, FileManager.default.isExecutableFile(atPath: path) else {
            throw Problem("\(origin) \(path): this is not a program")
        }
        return path
    }
}
