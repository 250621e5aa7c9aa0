internal import COpenSSL

/// The functions that OpenSSL calls during a handshake.
///
/// SAFETY: OpenSSL calls back only inside calls that a `TLSSession` makes on its own `SSL`, which holds the pointer to
/// that session, so the session is alive; byte ranges are valid for the length of the callback.
@safe
enum TLSCallbacks {
    private static let sessionIndex: CInt = 0
    private static let extensionALPN: UInt32 = 16

    /// Has OpenSSL find the session again by its `SSL`, which must not outlive it.
    static func bind(_ handle: OpaquePointer, to session: TLSSession) {
        unsafe SSL_set_ex_data(handle, sessionIndex, Unmanaged.passUnretained(session).toOpaque())
    }

    @inline(__always)
    private static func withSession<Result>(_ handle: OpaquePointer?, _ body: (TLSSession) -> Result) -> Result? {
        guard let pointer = unsafe SSL_get_ex_data(handle, sessionIndex) else { return nil }
        return unsafe Unmanaged<TLSSession>.fromOpaque(pointer)._withUnsafeGuaranteedRef(body)
    }

    /// A server: the client's first message came. One that offers no protocol at all is refused before anything is
    /// computed; OpenSSL would not ask ``selectProtocol`` for it.
    static let clientHello: SSL_client_hello_cb_fn = { handle, alert, _ in
        var bytes: UnsafePointer<UInt8>?
        var count = 0
        if unsafe SSL_client_hello_get0_ext(handle, extensionALPN, &bytes, &count) == 1 {
            return SSL_CLIENT_HELLO_SUCCESS
        }
        unsafe withSession(handle) { $0.protocolsOffered = [] }
        unsafe alert?.pointee = CInt(SSL_AD_NO_APPLICATION_PROTOCOL)
        return SSL_CLIENT_HELLO_ERROR
    }

    typealias ServerName =
        @convention(c) (OpaquePointer?, UnsafeMutablePointer<CInt>?, UnsafeMutableRawPointer?) -> CInt

    /// A server: the client asks for a name.
    static let serverName: ServerName = { handle, _, _ in
        guard let name = unsafe SSL_get_servername(handle, TLSEXT_NAMETYPE_host_name) else {
            return SSL_TLSEXT_ERR_NOACK
        }
        let text = unsafe String(cString: name)
        let isKnown = unsafe withSession(handle) { session in
            guard let context = unsafe session.context.context(forServerName: text) else { return false }
            return unsafe SSL_set_SSL_CTX(handle, context) != nil
        }
        return isKnown == true ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK
    }

    /// A server: the client offers protocols (RFC 7301 §3.1): each a byte of length and its name.
    static let selectProtocol: SSL_CTX_alpn_select_cb_func = { handle, selected, selectedCount, offered, count, _ in
        let offered = unsafe UnsafeBufferPointer(start: offered, count: Int(count))
        var names: [String] = []
        var index = 0
        while index < offered.count {
            let end = min(offered.count, unsafe index + 1 + Int(offered[index]))
            let name = unsafe UnsafeBufferPointer(rebasing: offered[index + 1..<end])
            if unsafe name.elementsEqual("h2".utf8) {
                unsafe selected?.pointee = name.baseAddress
                unsafe selectedCount?.pointee = UInt8(name.count)
                return SSL_TLSEXT_ERR_OK
            }
            unsafe names.append(String(decoding: name, as: UTF8.self))
            index = end
        }
        unsafe withSession(handle) { $0.protocolsOffered = names }
        return SSL_TLSEXT_ERR_ALERT_FATAL
    }

    /// Both: the peer's certificate is there.
    static let verify: @convention(c) (OpaquePointer?, UnsafeMutableRawPointer?) -> CInt = { storeContext, _ in
        guard let storeContext = unsafe storeContext,
            let handle = unsafe X509_STORE_CTX_get_ex_data(storeContext, SSL_get_ex_data_X509_STORE_CTX_idx())
        else { return 0 }
        return unsafe withSession(OpaquePointer(handle)) { unsafe $0.verify(storeContext) } == true ? 1 : 0
    }

    /// Both: a step of a handshake is taken, or an alert goes out or comes in; never for application data.
    static let step: @convention(c) (OpaquePointer?, CInt, CInt) -> Void = { handle, what, _ in
        guard what & (SSL_CB_LOOP | SSL_CB_ALERT) != 0 else { return }
        unsafe withSession(handle) { $0.noteStep() }
    }

    typealias TicketKeyUse =
        @convention(c) (
            OpaquePointer?, UnsafeMutablePointer<UInt8>?, UnsafeMutablePointer<UInt8>?, OpaquePointer?, OpaquePointer?,
            CInt
        ) -> CInt

    /// A server: a ticket is encrypted or decrypted, with a key whose name stands in front of it. 0: the key is
    /// unknown; 2: the client gets another ticket, as it does in TLS 1.3 each time.
    static let ticketKey: TicketKeyUse = { handle, name, initialVector, cipher, authentication, encrypts in
        guard let keys = unsafe withSession(handle, { $0.context.ticketKeys }) ?? nil, let name = unsafe name,
            let initialVector = unsafe initialVector
        else { return -1 }
        let nameBytes = unsafe UnsafeMutableRawBufferPointer(start: name, count: TicketKey.nameBytes)
        if encrypts != 0 {
            let key = keys.current()
            unsafe nameBytes.copyMemory(from: key.name)
            guard unsafe RAND_bytes(initialVector, CInt(TicketKey.initialVectorBytes)) == 1 else { return -1 }
            return unsafe key.prepare(cipher, authentication, initialVector: initialVector, encrypts: true) ? 1 : -1
        }
        guard let (key, isOld) = unsafe keys.find(UnsafeRawBufferPointer(nameBytes)) else { return 0 }
        guard unsafe key.prepare(cipher, authentication, initialVector: initialVector, encrypts: false) else {
            return -1
        }
        let isForOneUse = unsafe SSL_version(handle) == TLS1_3_VERSION
        return isOld || isForOneUse ? 2 : 1
    }

    /// A server: a ticket is made for the client.
    static let makeTicket: SSL_CTX_generate_session_ticket_fn = { handle, _ in
        guard let session = unsafe SSL_get_session(handle) else { return 0 }
        return unsafe SessionLifetime.note(in: session) ? 1 : 0
    }

    /// A server: a client came with a ticket. One that is good for nothing leads to a whole handshake, and a new one.
    static let useTicket: SSL_CTX_decrypt_session_ticket_fn = { handle, session, _, _, status, _ in
        guard status == SSL_TICKET_SUCCESS || status == SSL_TICKET_SUCCESS_RENEW, let session = unsafe session,
            let context = unsafe SSL_get_SSL_CTX(handle),
            unsafe SessionLifetime.allows(session, secondsMax: SSL_CTX_get_timeout(context))
        else { return SSL_TICKET_RETURN_IGNORE_RENEW }
        return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW
    }

    /// A client: here is a session to resume. 1 keeps the reference.
    static let newSession: @convention(c) (OpaquePointer?, OpaquePointer?) -> CInt = { handle, session in
        guard let session = unsafe session else { return 0 }
        unsafe withSession(handle) { unsafe $0.keep(session) }
        return 1
    }
}
