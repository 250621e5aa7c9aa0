import Foundation

/// The protos to generate from, and where their imports are.
struct ProtoInputs {
    private(set) var files: [String] = []
    private(set) var importPaths: [String]

    init(_ inputs: [String], importPaths: [String]) throws {
        guard !inputs.isEmpty else { throw Problem("say which .proto files, or folders of them, to generate from") }
        self.importPaths = importPaths
        for folder in importPaths where try Self.kind(of: folder, "--import-path ") != .folder {
            throw Problem("--import-path \(folder): this is not a folder")
        }
        for input in inputs {
            switch try Self.kind(of: input, "") {
            case .folder:
                let found = try Self.protos(in: input)
                guard !found.isEmpty else { throw Problem("\(input): there is no .proto file in this folder") }
                for file in found { add(file) }
                if importPaths.isEmpty { addImportPath(input) }
            case .file:
                guard input.hasSuffix(".proto") else { throw Problem("\(input): this is not a .proto file") }
                add(input)
                if importPaths.isEmpty {
                    let folder = (input as NSString).deletingLastPathComponent
                    addImportPath(folder.isEmpty ? "." : folder)
                }
            }
        }
    }

    private mutating func add(_ file: String) {
        if !files.contains(file) { files.append(file) }
    }

    private mutating func addImportPath(_ folder: String) {
        if !importPaths.contains(folder) { importPaths.append(folder) }
    }

    private enum Kind { case file, folder }

    private static func kind(of path: String, _ origin: String) throws -> Kind {
        var isFolder = ObjCBool(false)
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
            throw Problem("\(origin)\(path): there is no such file or folder")
        }
        return isFolder.boolValue ? .folder : .file
    }

    /// In an order that does not depend on the file system.
    private static func protos(in folder: String) throws -> [String] {
        try FileManager.default.subpathsOfDirectory(atPath: folder)
            .filter { $0.hasSuffix(".proto") && !$0.split(separator: "/").contains { $0.hasPrefix(".") } }
            .sorted()
            .map { folder.hasSuffix("/") ? folder + $0 : folder + "/" + $0 }
    }
}
