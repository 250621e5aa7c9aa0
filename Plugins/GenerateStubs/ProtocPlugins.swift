import Foundation

/// The plugins of protoc, built out of the packages that have them in the versions that the user's package resolves.
///
/// They are built in a folder of the command's own, by a `swift build` of its own: docs/decisions/0011 says why they
/// are neither dependencies of the command nor built by `PackageManager.build`.
struct ProtocPlugins {
    private let package: String
    private let scratch: String

    init(package: URL, scratch: URL) {
        self.package = package.path
        self.scratch = scratch.appendingPathComponent("build").path
    }

    /// The path of a plugin, which is built if that has not been done.
    func build(_ product: String) throws -> String {
        let arguments = ["build", "--package-path", package, "--scratch-path", scratch]
        if !FileManager.default.fileExists(atPath: scratch) {
            print("building the plugins of protoc, which takes minutes, once for each release of them")
        }
        let said = try swift(arguments + ["--product", product])
        guard said.status == 0 else { throw Problem("\(product) does not build:\n\(said.output)") }
        let path = try swift(arguments + ["--show-bin-path"]).output.split(separator: "\n").last ?? ""
        let program = "\(path)/\(product)"
        guard FileManager.default.isExecutableFile(atPath: program) else {
            throw Problem("\(product) was built, but is not at \(program):\n\(said.output)")
        }
        return program
    }

    /// Runs the `swift` on the path.
    private func swift(_ arguments: [String]) throws -> (status: Int32, output: String) {
        let process = Process()
        let pipe = Pipe()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["swift"] + arguments
        // SwiftPM hands the traits of a package to the compiler in the order of a set, which is another in each run:
        // half of the time it would compile all of swift-protobuf anew.
        process.environment = ProcessInfo.processInfo.environment.merging(["SWIFT_DETERMINISTIC_HASHING": "1"]) { $1 }
        process.standardOutput = pipe
        process.standardError = pipe
        try process.run()
        // To the end of what it says: a pipe that nobody reads would hold it up.
        let output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return (process.terminationStatus, output)
    }
}
