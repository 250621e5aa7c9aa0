internal import Foundation

/// What `scripts/make-certs` made, once for the whole run.
package enum TestCertificates {
    package static let folder: String = {
        let root = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3).joined(separator: "/")
        let folder = FileManager.default.temporaryDirectory.appending(path: "apus-tls-\(UUID().uuidString)").path
        // Foundation's `Process` leaks, which the address sanitizer would tell.
        // SAFETY: the stream is ours until it is closed.
        let output = unsafe popen("'\(root)/scripts/make-certs' '\(folder)' > /dev/null", "r")
        let status = unsafe pclose(output)
        precondition(status == 0, "scripts/make-certs failed")
        atexit { try? FileManager.default.removeItem(atPath: TestCertificates.folder) }
        return folder
    }()

    package static func path(_ name: String) -> String { "\(folder)/\(name)" }
    package static func bytes(_ name: String) throws -> [UInt8] {
        [UInt8](try Data(contentsOf: URL(fileURLWithPath: path(name))))
    }
}
