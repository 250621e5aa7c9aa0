import Foundation

@testable import ApusTLS

/// What `scripts/make-certs` made, once for the whole run.
enum TestCertificates {
    static let folder: String = {
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

    static func path(_ name: String) -> String { "\(folder)/\(name)" }
    static func bytes(_ name: String) throws -> [UInt8] {
        [UInt8](try Data(contentsOf: URL(fileURLWithPath: path(name))))
    }

    static func credentials(_ name: String) -> TLSCredentials {
        .pem(chainFile: path("\(name).pem"), keyFile: path("\(name).key"))
    }

    static var roots: TLSTrustRoots { .file(path("ca.pem")) }
}

extension ServerTLS {
    static func test(_ names: String..., change: (inout ServerTLS) -> Void = { _ in }) -> ServerTLS {
        var configuration = ServerTLS(credentials: names.map(TestCertificates.credentials))
        change(&configuration)
        return configuration
    }
}

extension ClientTLS {
    static func test(change: (inout ClientTLS) -> Void = { _ in }) -> ClientTLS {
        var configuration = ClientTLS()
        configuration.trustRoots = TestCertificates.roots
        change(&configuration)
        return configuration
    }
}
