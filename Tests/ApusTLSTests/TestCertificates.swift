import TestSupport

@testable import ApusTLS

extension TestCertificates {
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
