internal import Apus
internal import ArgumentParser
internal import Dispatch
internal import Glibc
internal import Logging

/// The TLS that tests set; without a certificate the server speaks plaintext.
struct SecurityOptions: ParsableArguments {
    @Option(help: "A certificate, in a PEM file; with several the client's server name chooses.")
    var tlsCert: [String] = []
    @Option(help: "The private keys, in the order of the certificates.")
    var tlsKey: [String] = []
    @Option(help: "Demand a certificate of clients, of an authority in this PEM file.")
    var tlsClientCa: String?
    @Flag(help: "A client need not have a certificate.")
    var tlsClientOptional = false
    @Option(help: "Refuse, by a verification of our own, a client with this subject.")
    var tlsRefuse: String?
    @Option(help: "How long the verification of our own takes.")
    var tlsVerificationMs: Int?

    @Option(help: "SIGHUP replaces the TLS by this certificate.")
    var tlsNextCert: String?
    @Option(help: "The key of --tls-next-cert.")
    var tlsNextKey: String?

    func validate() throws {
        if tlsCert.count != tlsKey.count { throw ValidationError("each --tls-cert needs its --tls-key") }
    }

    /// - Parameter journal: records, under the key `verification`, what became of each verification of our own.
    func security(_ journal: Journal) -> ServerSecurity {
        if tlsCert.isEmpty { return .plaintext }
        var tls = ServerTLS(credentials: zip(tlsCert, tlsKey).map { .pem(chainFile: $0, keyFile: $1) })
        if let tlsClientCa {
            tls.clientCertificates = tlsClientOptional ? .optional(.file(tlsClientCa)) : .required(.file(tlsClientCa))
        }
        if tlsRefuse != nil || tlsVerificationMs != nil {
            tls.verifyPeer = { peer in
                try await journal.recording("verification") {
                    try await Task.sleep(for: .milliseconds(tlsVerificationMs ?? 0))
                    if peer.subject == tlsRefuse { throw Refusal() }
                }
            }
        }
        return .tls(tls)
    }
}

extension SecurityOptions {
    /// Replaces the server's TLS when the process gets SIGHUP; `nil` when there is nothing to replace it by.
    func replaceOnHangUp(_ server: Server, _ logger: Logger) -> (any DispatchSourceSignal)? {
        guard let tlsNextCert, let tlsNextKey else { return nil }
        signal(SIGHUP, SIG_IGN)
        let source = DispatchSource.makeSignalSource(signal: SIGHUP)
        source.setEventHandler {
            do throws(RPCError) {
                try server.replaceTLS(ServerTLS(credentials: [.pem(chainFile: tlsNextCert, keyFile: tlsNextKey)]))
                logger.info("TLS was replaced")
            } catch {
                logger.error("TLS stays as it was", metadata: ["cause": "\(error)"])
            }
        }
        source.resume()
        return source
    }
}

private struct Refusal: Error, CustomStringConvertible {
    var description: String { "it is not on the list" }
}
