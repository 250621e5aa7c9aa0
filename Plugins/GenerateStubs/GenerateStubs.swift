import Foundation
import PackagePlugin

/// `swift package generate-stubs`: runs protoc with swift-protobuf's plugin for the messages and ours for the stubs.
///
/// It brings both plugins with it; protoc has to be there, since no package of Swift has one that is quick to build.
@main
struct GenerateStubs: CommandPlugin {
    func performCommand(context: PluginContext, arguments: [String]) throws {
        let options = try Options(arguments)
        if options.wantsHelp { return print(Options.help) }

        let output = try outputFolder(options, context)
        let inputs = try ProtoInputs(options.inputs, importPaths: options.importPaths)
        let tools = ProtocPlugins(package: context.package.directoryURL, scratch: context.pluginWorkDirectoryURL)
        var invocation = ProtocInvocation(program: try ProtocInvocation.program(options.protoc))
        invocation.importPaths = inputs.importPaths
        invocation.files = inputs.files
        if options.makesMessages {
            invocation.add(
                plugin: "swift",
                at: try tools.build("protoc-gen-swift"),
                options: options.messageOptions
            )
        }
        if options.makesStubs {
            invocation.add(
                plugin: "apus",
                at: try tools.build("protoc-gen-apus"),
                options: options.stubOptions
            )
        }
        if options.isVerbose || options.isDryRun { print(invocation.commandLine(output: output)) }
        if options.isDryRun { return }
        let made = context.pluginWorkDirectoryURL.appendingPathComponent("made").path
        try? FileManager.default.removeItem(atPath: made)
        try FileManager.default.createDirectory(atPath: made, withIntermediateDirectories: true)
        try invocation.run(output: made)
        try copyWhatIsNew(from: made, to: output)
    }

    /// Leaves a file alone that is as it was: to write it would have it compiled again.
    private func copyWhatIsNew(from made: String, to output: String) throws {
        let files = FileManager.default
        for path in try files.subpathsOfDirectory(atPath: made).sorted() where path.hasSuffix(".swift") {
            let (new, old) = (URL(fileURLWithPath: made + "/" + path), URL(fileURLWithPath: output + "/" + path))
            let contents = try Data(contentsOf: new)
            if contents == (try? Data(contentsOf: old)) { continue }
            try files.createDirectory(at: old.deletingLastPathComponent(), withIntermediateDirectories: true)
            try contents.write(to: old)
            print("wrote \(output)/\(path)")
        }
    }

    private func outputFolder(_ options: Options, _ context: PluginContext) throws -> String {
        switch (options.outputPath, options.target) {
        case (let path?, nil): return path
        case (nil, let name?):
            let targets = context.package.targets.compactMap { $0 as? any SourceModuleTarget }
            if let target = targets.first(where: { $0.name == name }) { return target.directoryURL.path }
            let names = targets.map(\.name).sorted().joined(separator: ", ")
            throw Problem("--target \(name): there is no such target in this package; there are \(names)")
        case (nil, nil): throw Problem("say where the code goes: --output-path FOLDER or --target NAME")
        case (_?, _?): throw Problem("--output-path and --target both say where the code goes; give one of them")
        }
    }
}

/// Why nothing was generated: one line.
struct Problem: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}
