import Foundation
import SwiftProtobuf
import SwiftProtobufPluginLibrary

// The descriptors that reflection shows: the file and all that it imports, in the order in which each comes after its
// own imports, without comments. Once for all services of the file.

extension StubFile {
    /// What the list of files is called in the generated file. No message has such a name in Swift.
    static let filesName = "_protoFiles"
    /// Characters of base64 in a line.
    private static let lineWidth = 100

    func printProtoFiles(to printer: inout CodePrinter) {
        printer.print("\n/// The proto files that define the services above.\n")
        printer.print("private let \(Self.filesName): [Apus.ServiceDescriptor.File] = [\n")
        for file in filesInOrder() {
            // The bytes of a proto that was just parsed: they are all there.
            let bytes = (try? file.extractProto().serializedData()) ?? Data()
            printer.print("    Apus.ServiceDescriptor.File(\n")
            printer.print("        name: \"\(file.name)\",\n")
            printer.print("        base64: \"\"\"\n")
            var text = Substring(bytes.base64EncodedString())
            while !text.isEmpty {
                let isLast = text.count <= Self.lineWidth
                printer.print("            \(text.prefix(Self.lineWidth))\(isLast ? "" : "\\")\n")
                text = text.dropFirst(Self.lineWidth)
            }
            printer.print("            \"\"\"\n    ),\n")
        }
        printer.print("]\n")
    }

    private func filesInOrder() -> [FileDescriptor] {
        var seen: Set<String> = []
        var files: [FileDescriptor] = []
        func visit(_ file: FileDescriptor) {
            guard seen.insert(file.name).inserted else { return }
            for dependency in file.dependencies { visit(dependency) }
            files.append(file)
        }
        visit(file)
        return files
    }
}
