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

    func printProtoFiles(to printer: inout StubPrinter) {
        printer.print("\n/// The proto files that define the services above.\n")
        printer.print("private let \(Self.filesName): [Apus.ServiceDescriptor.File] = [\n")
        for file in file.withImports {
            // The bytes of a proto that was just parsed: they are all there.
            let bytes = (try? file.extractProto().serializedData()) ?? Data()
            printer.print("    Apus.ServiceDescriptor.File(\n")
            printer.print("        name: \"\(literal(file.name))\",\n")
            printer.print("        base64: \"\"\"\n")
            let text = Array(bytes.base64EncodedString().utf8)
            for start in stride(from: 0, to: text.count, by: Self.lineWidth) {
                let end = min(start + Self.lineWidth, text.count)
                let line = String(decoding: text[start..<end], as: UTF8.self)
                printer.print("            \(line)\(end == text.count ? "" : "\\")\n")
            }
            printer.print("            \"\"\"\n    ),\n")
        }
        printer.print("]\n")
    }
}
