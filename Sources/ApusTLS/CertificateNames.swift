/// The names that a certificate is for, to choose one by what a client asks for.
struct CertificateNames: Hashable {
    /// Lower case, without wildcards.
    private(set) var exact: Set<String> = []
    /// What follows the `*` of a wildcard name: `.example.com`.
    private(set) var wildcardSuffixes: Set<String> = []

    init(_ certificate: TLSPeer) {
        var names = certificate.dnsNames
        // So that an old certificate can still be chosen; whether a client accepts it is the client's decision.
        if names.isEmpty, let commonName = certificate.commonName { names = [commonName] }
        for name in names.map(Self.normalized) {
            if name.hasPrefix("*.") { wildcardSuffixes.insert(String(name.dropFirst())) } else { exact.insert(name) }
        }
    }

    /// Lower case, and without the dot of the root.
    static func normalized(_ name: some StringProtocol) -> String {
        let lower = name.lowercased()
        return lower.hasSuffix(".") ? String(lower.dropLast()) : lower
    }

    /// The only name that a wildcard may cover `name` by: its first label is replaced and no other (RFC 9525 §6.3).
    static func wildcardSuffix(of name: String) -> String? {
        guard let dot = name.firstIndex(of: "."), dot != name.startIndex else { return nil }
        return String(name[dot...])
    }
}

extension TLSPeer {
    /// The common name, if the subject begins with one.
    fileprivate var commonName: String? {
        guard subject.hasPrefix("CN=") else { return nil }
        return String(subject.dropFirst(3).prefix { $0 != "," && $0 != "+" })
    }
}
