/// How a ``Server``'s connections are protected.
public enum ServerSecurity: Sendable {
    /// They are not: whoever is on the way can read and change everything.
    case plaintext
    /// By TLS 1.2 or 1.3.
    case tls(ServerTLS)
}

/// How a ``Channel``'s connection is protected.
public enum ChannelSecurity: Sendable {
    /// It is not: whoever is on the way can read and change everything.
    case plaintext
    /// By TLS 1.2 or 1.3.
    case tls(ClientTLS)

    /// By TLS, with the authorities that the system trusts.
    public static func tls() -> ChannelSecurity { .tls(ClientTLS()) }
}
