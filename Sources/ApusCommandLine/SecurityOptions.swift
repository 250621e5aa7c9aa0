package import Apus
package import ArgumentParser
package import Dispatch
internal import Glibc
package import Logging

/// How the server's connections are protected.
package struct ServerSecurityOptions: ParsableArguments {
    @Option(help: "Serve TLS, with the certificates of this PEM file. SIGHUP reads all files anew.")
    package var tlsCert: String?

    @Option(help: "The private key of --tls-cert, in a PEM file.")
    package var tlsKey: String?

    @Option(help: "Require a certificate of clients, signed by an authority in this PEM file.")
    package var tlsClientCa: String?

    package init() {}

    package func validate() throws {
        if (tlsCert == nil) != (tlsKey == nil) { throw ValidationError("--tls-cert and --tls-key belong together") }
        if tlsClientCa != nil, tlsCert == nil { throw ValidationError("--tls-client-ca needs --tls-cert") }
    }

    package func makeSecurity() throws -> ServerSecurity {
        guard let tlsCert, let tlsKey else { return .plaintext }
        var tls = ServerTLS(credentials: [.pem(chainFile: tlsCert, keyFile: tlsKey)])
        if let tlsClientCa { tls.clientCertificates = .required(.file(tlsClientCa)) }
        return .tls(tls)
    }

    /// Reads certificates and roots anew when the process gets SIGHUP; `nil` in plaintext.
    package func reloadOnHangUp(_ server: Server, _ logger: Logger) -> (any DispatchSourceSignal)? {
        guard tlsCert != nil else { return nil }
        signal(SIGHUP, SIG_IGN)
        let source = DispatchSource.makeSignalSource(signal: SIGHUP)
        source.setEventHandler {
            do throws(RPCError) {
                try server.reloadTLS()
                logger.info("certificates were read anew")
            } catch {
                logger.error("certificates stay as they were", metadata: ["cause": "\(error)"])
            }
        }
        source.resume()
        return source
    }
}

/// How the client's connection is protected.
package struct ClientSecurityOptions: ParsableArguments {
    @Flag(help: "Speak TLS, with the authorities that the system trusts.")
    package var tls = false

    @Option(help: "Trust the authorities in this PEM file, and no others.")
    package var tlsCa: String?

    @Option(help: "Show the certificates of this PEM file to the server.")
    package var tlsCert: String?

    @Option(help: "The private key of --tls-cert, in a PEM file.")
    package var tlsKey: String?

    @Option(help: "The name to find in the server's certificate, in place of the target's host.")
    package var tlsServerName: String?

    package init() {}

    package func validate() throws {
        if (tlsCert == nil) != (tlsKey == nil) { throw ValidationError("--tls-cert and --tls-key belong together") }
        if !tls, tlsCa ?? tlsCert ?? tlsServerName != nil { throw ValidationError("the --tls-… options need --tls") }
    }

    /// Whoever calls without --tls wants plaintext.
    package func makeSecurity() -> ChannelSecurity {
        guard tls else { return .plaintext }
        var configuration = ClientTLS()
        if let tlsCa { configuration.trustRoots = .file(tlsCa) }
        if let tlsCert, let tlsKey { configuration.credentials = .pem(chainFile: tlsCert, keyFile: tlsKey) }
        configuration.serverName = tlsServerName
        return .tls(configuration)
    }
}
