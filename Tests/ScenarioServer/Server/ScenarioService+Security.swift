internal import Apus

/// What the connection's TLS agreed on, and whom a handler sees at its other end.
extension ScenarioService {
    func registerSecurity(with registry: inout MethodRegistry) {
        registry.unary("DescribeSecurity") { _, context in
            guard let tls = context.tls else {
                let process = context.peerCredentials.map { "\($0.processID) \($0.userID) \($0.groupID)" }
                return Self.text("plaintext=yes\nprocess=\(process ?? "")")
            }
            let peer = tls.peer
            return Self.text(
                """
                version=\(tls.version)
                suite=\(tls.cipherSuite)
                protocol=\(tls.applicationProtocol)
                server_name=\(tls.serverName ?? "")
                resumed=\(tls.isResumed)
                subject=\(peer?.subject ?? "")
                dns_names=\(peer?.dnsNames.joined(separator: ",") ?? "")
                uris=\(peer?.uris.joined(separator: ",") ?? "")
                spiffe_id=\(peer?.spiffeID ?? "")
                chain=\(peer?.certificateChain.count ?? 0)
                verified=\(peer?.isVerified ?? false)
                """
            )
        }
    }
}
