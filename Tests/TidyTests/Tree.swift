import Foundation

/// The files of a repository that the rules look at, or in a test of a rule those it is given.
struct Tree {
    let files: [SourceFile]
    /// Whether the tree has a file at a path, of any kind.
    let hasFile: @Sendable (String) -> Bool

    init(files: [SourceFile], hasFile: @escaping @Sendable (String) -> Bool = { _ in false }) {
        self.files = files
        self.hasFile = hasFile
    }

    /// The Swift files below `Sources/`.
    var sources: [SourceFile] { files.filter { $0.isSwift && $0.path.hasPrefix("Sources/") } }

    var swiftFiles: [SourceFile] { files.filter(\.isSwift) }

    /// Reads the tree below a folder: what is written by hand, so neither builds and caches nor generated code.
    init(root: String) throws {
        var files: [SourceFile] = []
        for top in ["Benchmarks", "Examples", "Fuzz", "Package.swift", "Plugins", "Sources", "Tests", "scripts"] {
            for path in try Self.paths(below: top, in: root) where Self.isChecked(path) {
                let data = try Data(contentsOf: URL(fileURLWithPath: "\(root)/\(path)"))
                // Without a suffix it is code if it is a script; else it is something built.
                guard path.contains(".") || data.starts(with: "#!".utf8) else { continue }
                files.append(SourceFile(path: path, text: String(decoding: data, as: UTF8.self)))
            }
        }
        self.init(files: files) { FileManager.default.fileExists(atPath: "\(root)/\($0)") }
    }

    private static let checkedSuffixes = [".swift", ".c", ".h", ".py", ".sh"]

    private static func isChecked(_ path: String) -> Bool {
        let name = path.split(separator: "/").last ?? ""
        let isCode = checkedSuffixes.contains { path.hasSuffix($0) } || !name.contains(".")
        return isCode && !path.hasSuffix(".pb.swift") && !path.hasSuffix(".apus.swift") && !path.hasSuffix("_pb2.py")
    }

    private static func paths(below path: String, in root: String) throws -> [String] {
        let attributes = try? FileManager.default.attributesOfItem(atPath: "\(root)/\(path)")
        // What a link leads to is read where it is.
        guard let attributes, attributes[.type] as? FileAttributeType != .typeSymbolicLink else { return [] }
        // What has no entries to list is a file.
        guard let names = try? FileManager.default.contentsOfDirectory(atPath: "\(root)/\(path)") else { return [path] }
        return try names.sorted().flatMap { name in
            name.hasPrefix(".") || name.hasPrefix("__") ? [] : try paths(below: "\(path)/\(name)", in: root)
        }
    }
}
