internal import ApusBase
internal import COpenSSL

/// A configuration of TLS, loaded: what the sessions of a server or a channel have in common. Immutable, and shared by
/// all loops; a session keeps the one it began with.
///
/// SAFETY: the pointers are references of this object's own, given back in deinit. OpenSSL's contexts may be used from
/// any thread once nobody changes them any more, which is when `init` returns.
// For that reason, and because everything else in here is immutable.
@safe
package final class TLSContext: @unchecked Sendable {
    /// Which end of a connection the sessions are.
    package enum Role: Sendable {
        case server, client
    }

    package let role: Role
    /// The custom decision about peers, if there is one.
    package let verifyPeer: TLSPeerVerifier?
    /// A client: what is checked.
    let verification: ClientTLS.Verification
    /// A client: the name in place of the target's.
    let serverName: String?
    /// A client: what it may resume.
    let resumable: ClientSessionCache?
    /// A server that gives tickets: what they are encrypted with.
    let ticketKeys: TicketKeys?
    /// Whether a handshake takes milliseconds here, because one of the private keys is of a slow kind: it is then not
    /// for an event loop.
    package let handshakeIsSlow: Bool
    /// One for each set of names that a server has credentials for; the first is the default.
    private let contexts: [OpenSSLContext]
    private let contextsByName: [String: Int]
    private let contextsByWildcard: [String: Int]

    /// Loads what a server shows and trusts. Reads files, so that it is not for a loop.
    package init(_ configuration: ServerTLS) throws(TLSError) {
        try Self.startOpenSSL()
        role = .server
        verifyPeer = configuration.verifyPeer
        verification = .chain
        serverName = nil
        resumable = nil
        guard !configuration.credentials.isEmpty else {
            throw TLSError(.invalidConfiguration, "a TLS server needs a certificate and its private key")
        }
        let trust: TrustStore?
        switch configuration.clientCertificates {
        case .none: trust = nil
        case .optional(let roots), .required(let roots): trust = try TrustStore(roots)
        }
        var contexts: [OpenSSLContext] = []
        var groups: [Group] = []
        var hasSlowKey = false
        for credentials in configuration.credentials {
            let loaded = try LoadedCredentials(credentials)
            hasSlowKey = hasSlowKey || loaded.keyIsSlow
            // An RSA and an EC certificate of the same names share a context, in which OpenSSL chooses.
            if let index = groups.firstIndex(where: { $0.accepts(loaded) }) {
                try contexts[index].show(loaded, credentials)
                groups[index].keyTypes.insert(loaded.keyType)
            } else {
                let context = try OpenSSLContext(server: configuration, trust: trust)
                try context.show(loaded, credentials)
                contexts.append(context)
                groups.append(Group(names: loaded.names, keyTypes: [loaded.keyType]))
            }
        }
        self.contexts = contexts
        handshakeIsSlow = hasSlowKey
        ticketKeys = configuration.sessionTickets ? try TicketKeys() : nil
        (contextsByName, contextsByWildcard) = Self.index(groups)
    }

    /// Loads what a client shows and trusts. Reads files, so that it is not for a loop.
    package init(_ configuration: ClientTLS) throws(TLSError) {
        try Self.startOpenSSL()
        role = .client
        verifyPeer = configuration.verifyPeer
        verification = configuration.verification
        serverName = configuration.serverName
        resumable = configuration.sessionResumption ? ClientSessionCache() : nil
        let context = try OpenSSLContext(client: configuration)
        var hasSlowKey = false
        if let credentials = configuration.credentials {
            let loaded = try LoadedCredentials(credentials)
            try context.show(loaded, credentials)
            hasSlowKey = loaded.keyIsSlow
        }
        handshakeIsSlow = hasSlowKey
        contexts = [context]
        ticketKeys = nil
        (contextsByName, contextsByWildcard) = ([:], [:])
    }

    /// Before any other call into OpenSSL, which would start itself and arrange to clean up at exit, while loops still
    /// use it.
    private static func startOpenSSL() throws(TLSError) {
        guard copenssl_start() == 1 else { throw TLSError(.protocolFailure, "OpenSSL cannot be started") }
    }

    /// Credentials for the same names.
    private struct Group {
        let names: CertificateNames
        var keyTypes: Set<CInt>

        func accepts(_ credentials: LoadedCredentials) -> Bool {
            names == credentials.names && !keyTypes.contains(credentials.keyType)
        }
    }

    /// The first credentials for a name win.
    private static func index(_ groups: [Group]) -> (names: [String: Int], wildcards: [String: Int]) {
        var names: [String: Int] = [:]
        var wildcards: [String: Int] = [:]
        for (index, group) in groups.enumerated() {
            for name in group.names.exact where names[name] == nil { names[name] = index }
            for suffix in group.names.wildcardSuffixes where wildcards[suffix] == nil { wildcards[suffix] = index }
        }
        return (names, wildcards)
    }

    /// The context that sessions are made of.
    var primary: OpaquePointer { unsafe contexts[0].pointer }

    /// The context to answer with a client that asks for `name`; `nil` to stay with the first.
    func context(forServerName name: String) -> OpaquePointer? {
        let name = CertificateNames.normalized(name)
        let index = contextsByName[name] ?? CertificateNames.wildcardSuffix(of: name).flatMap { contextsByWildcard[$0] }
        return unsafe index.map { unsafe contexts[$0].pointer }
    }
}

/// The context that is current, and how to load the next. Thread-safe.
package final class TLSContextSource: Sendable {
    private struct State: Sendable {
        var load: @Sendable () throws(TLSError) -> TLSContext
        var context: TLSContext
    }

    private let state: Lock<State>
    /// One load at a time: of two the later one counts, whichever takes longer to read its files.
    private let loading = Lock(())

    /// Loads the first context.
    ///
    /// - Parameter load: loads one, for instance from the same files; called here and by ``reload()``.
    package init(_ load: @escaping @Sendable () throws(TLSError) -> TLSContext) throws(TLSError) {
        state = Lock(State(load: load, context: try load()))
    }

    /// What a new connection uses.
    package var current: TLSContext { state.withLock { $0.context } }

    /// Loads again. Connections that exist keep what they have; if loading fails, so do new ones. Reads files, so that
    /// it is not for a loop.
    package func reload() throws(TLSError) {
        try loading.withLock { _ throws(TLSError) in
            let next = try state.withLock { $0.load }()
            state.withLock { $0.context = next }
        }
    }

    /// Loads another context, now and from here on; if that fails, all stays as it was.
    package func replaceLoader(_ load: @escaping @Sendable () throws(TLSError) -> TLSContext) throws(TLSError) {
        try loading.withLock { _ throws(TLSError) in
            let next = try load()
            state.withLock { $0 = State(load: load, context: next) }
        }
    }
}
