internal import Apus
internal import ArgumentParser

/// The TLS that tests set; without `--tls` the channel speaks plaintext, wherever its target is.
struct SecurityOptions: ParsableArguments {
    enum Verification: String, ExpressibleByArgument { case full, chain, none }

    @Flag var tls = false
    @Flag(help: "Say nothing about security, so that the channel decides.")
    var securityUnsaid = false
    @Option var tlsCa: String?
    @Option var tlsCert: String?
    @Option var tlsKey: String?
    @Option var tlsServerName: String?
    @Option var tlsVerification = Verification.full
    @Flag(help: "TLS 1.2 is the newest version to speak.")
    var tls12 = false
    @Option(help: "Refuse, by a verification of our own, a server with this subject.")
    var tlsRefuse: String?
    @Option(help: "How long the verification of our own takes.")
    var tlsVerificationMs: Int?

    var security: ChannelSecurity? {
        if let configuration { return .tls(configuration) }
        return securityUnsaid ? nil : .plaintext
    }

    /// `nil` for plaintext.
    var configuration: ClientTLS? {
        guard tls else { return nil }
        var configuration = ClientTLS()
        if let tlsCa { configuration.trustRoots = .file(tlsCa) }
        if let tlsCert, let tlsKey { configuration.credentials = .pem(chainFile: tlsCert, keyFile: tlsKey) }
        configuration.serverName = tlsServerName
        configuration.verification =
            switch tlsVerification {
            case .full: .full
            case .chain: .chain
            case .none: .none
            }
        if tls12 { configuration.maximumVersion = .tls12 }
        if tlsRefuse != nil || tlsVerificationMs != nil {
            configuration.verifyPeer = { peer in
                try await Task.sleep(for: .milliseconds(tlsVerificationMs ?? 0))
                if peer.subject == tlsRefuse { throw Refusal() }
            }
        }
        return configuration
    }
}

private struct Refusal: Error, CustomStringConvertible {
    var description: String { "it is not on the list" }
}
