internal import COpenSSL

/// How a session stands, for the connection to act on.
package enum TLSState: Sendable {
    /// Records go to and fro; there is no plaintext yet.
    case handshaking
    /// ``TLSContext/verifyPeer`` is to be asked about this peer, and ``TLSSession/verificationEnded`` called with the
    /// answer. What comes until then is kept; the connection had better not read.
    indirect case awaitingVerification(TLSPeer)
    /// Plaintext flows.
    case established
    /// The peer said that nothing follows (close_notify), or ``TLSSession/close()`` was called.
    case closed
    /// It is over. An alert for the peer may wait in the output.
    indirect case failed(TLSError)
}

/// One connection's TLS, without its socket: takes and gives bytes.
///
///     handshaking ──▶ established ──close_notify | close()──▶ closed
///       │    ▲ │            ▲
///       │    │ └──▶ awaitingVerification (a client goes back to handshaking, a server on to established)
///       └────┴──── the peer, its certificate or its bytes are not acceptable ──▶ failed
///
/// OpenSSL reads and writes directly in the buffers that the caller passes. What it says by itself (the handshake,
/// tickets, alerts) waits until the next ``encrypt(_:into:)``: ask ``hasOutput`` after each call.
///
/// Confined to one thread at a time. The caller keeps the session alive for the length of each call, from within which,
/// out of `deliver`, all methods but ``receive(_:plaintext:deliver:)`` may be called.
///
/// SAFETY: `handle` owns the `SSL` and with it the BIO, which refers to `transport`; `deinit` frees them in this order.
/// The `SSL` refers back to the session without a reference of its own.
@safe
package final class TLSSession {
    /// What a record adds to its plaintext, at the most: 29 bytes with the suites that HTTP/2 allows, and room for a
    /// KeyUpdate in front of it.
    package static let recordOverheadBytesMax = 64
    /// Records that are encrypted with one key: AES-GCM is good for 24 million full ones (RFC 8446 §5.5), not half a
    /// terabyte, and OpenSSL does not count. In TLS 1.2 there is no other key to be had.
    static let recordsOfOneKeyMax = 1 << 24
    /// The plaintext of one record (RFC 8446 §5.1), and the least that `plaintext` must have room for.
    package static let recordBytesMax = 16 * 1024
    /// What is kept while a decision about the peer is awaited; a connection that stops reading stays far below.
    private static let heldBytesMax = 256 * 1024
    /// Steps of OpenSSL's, four or five for a message and its answer, that a peer may cause behind the handshake
    /// without sending data: tickets, a KeyUpdate now and then. A KeyUpdate of 27 bytes costs us 14 µs, and OpenSSL
    /// takes any number of them.
    static let stepsWithoutDataMax = 128

    package let context: TLSContext
    package internal(set) var state = TLSState.handshaking
    /// For the tests, which do to a session what its user cannot.
    let handle: OpaquePointer
    private let transport: UnsafeMutablePointer<TLSTransport>
    /// A client: the name or address that it wants to reach.
    let serverName: String?

    /// What came after the peer's certificate while the decision about it is awaited.
    var held: [UInt8] = []
    /// Whether the peer has sent anything at all.
    package private(set) var hasReceived = false
    private var isShutDown = false
    enum Decision { case open, accepted, refused(TLSError) }
    var decision = Decision.open
    /// What the callbacks found, which is more than OpenSSL can say.
    var verificationError: TLSError?
    var peerToVerify: TLSPeer?
    /// A server: what the client offered in place of `h2`.
    var protocolsOffered: [String]?
    /// A client: when the session began that it asked the server to resume.
    var resumedAuthentication: Int64?
    var isHandshakeOver = false
    /// Since the handshake was over, or data came.
    private var stepsWithoutData = 0
    /// How many records may still be encrypted with the keys that there are.
    var recordsUntilKeyUpdate = TLSSession.recordsOfOneKeyMax

    /// The connection's agreement, once it is established.
    package private(set) lazy var info: TLSConnectionInfo? = makeInfo()

    /// A server's end of a connection.
    package convenience init(server context: TLSContext) throws(TLSError) {
        precondition(context.role == .server)
        try self.init(context, serverName: nil)
        unsafe SSL_set_accept_state(handle)
    }

    /// A client's end of a connection.
    ///
    /// - Parameter host: the host of the target: a name, or an IP address. The configuration may have another name.
    package convenience init(client context: TLSContext, host: String) throws(TLSError) {
        precondition(context.role == .client)
        let name = ServerName(context.serverName ?? host)
        try self.init(context, serverName: name.text)
        unsafe SSL_set_connect_state(handle)
        try expect(name)
        if let session = context.resumable?.take(for: name.text) {
            resumedAuthentication = session.authenticatedAt
            unsafe SSL_set_session(handle, session.pointer)
        }
    }

    private init(_ context: TLSContext, serverName: String?) throws(TLSError) {
        OpenSSLErrors.clear()
        self.context = context
        self.serverName = serverName
        guard let handle = unsafe SSL_new(context.primary) else {
            throw TLSError(.protocolFailure, "OpenSSL gives no session\(OpenSSLErrors.take().suffix)")
        }
        unsafe self.handle = handle
        unsafe transport = .allocate(capacity: 1)
        unsafe transport.initialize(to: TLSTransport())
        guard let bio = unsafe TransportBIO.make(transport) else {
            throw TLSError(.protocolFailure, "OpenSSL gives no BIO\(OpenSSLErrors.take().suffix)")
        }
        unsafe SSL_set_bio(handle, bio, bio)
        unsafe TLSCallbacks.bind(handle, to: self)
    }

    deinit {
        // A session whose connection ends without close_notify could not be resumed otherwise, also in other hands.
        if case .failed = state {} else { unsafe SSL_set_shutdown(handle, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN) }
        unsafe SSL_free(handle)
        unsafe transport.deinitialize(count: 1)
        unsafe transport.deallocate()
    }
}

// MARK: - Bytes in

// SAFETY: see `TLSSession`; what a call is given is the caller's for its length.
extension TLSSession {
    /// A client: says hello. A server has nothing to say first.
    package func startHandshake() -> TLSState {
        if context.role == .client, case .handshaking = state { handshake() }
        return state
    }

    /// Reads what the peer sent.
    ///
    /// - Parameters:
    ///   - ciphertext: bytes of the peer, in pieces of any size. All of them are used up or kept.
    ///   - plaintext: a buffer to decrypt into, of at least ``recordBytesMax``.
    ///   - deliver: is called with what was decrypted, which is the callee's for the length of the call. Several
    ///     records come in one piece if the buffer has room for them.
    package func receive(
        _ ciphertext: UnsafeRawBufferPointer,
        plaintext: UnsafeMutableRawBufferPointer,
        deliver: (UnsafeRawBufferPointer) -> Void
    ) -> TLSState {
        if unsafe !recognise(ciphertext) { return state }
        switch state {
        case .handshaking, .established:
            unsafe transport.pointee.input = unsafe ciphertext
            unsafe advance(plaintext, deliver)
            if case .awaitingVerification = state { held = unsafe [UInt8](transport.pointee.input) }
            unsafe transport.pointee.input = UnsafeRawBufferPointer(start: nil, count: 0)
        case .awaitingVerification: unsafe hold(ciphertext)
        case .closed, .failed: break
        }
        return state
    }

    /// The decision about the peer was taken; what was kept in the meantime is read.
    ///
    /// - Parameter refusal: why the peer is not acceptable; `nil` if it is.
    package func verificationEnded(
        refusal: String?,
        plaintext: UnsafeMutableRawBufferPointer,
        deliver: (UnsafeRawBufferPointer) -> Void
    ) -> TLSState {
        guard case .awaitingVerification = state else { return state }
        decision = refusal.map { .refused(TLSError(.refusedByVerifier, "\(peerRole) was refused: \($0)")) } ?? .accepted
        let isInHandshake = unsafe SSL_is_init_finished(handle) == 0
        if !isInHandshake, case .refused(let error) = decision {
            // OpenSSL offers no way to send a fatal alert of one's own.
            unsafe SSL_shutdown(handle)
            fail(error)
            return state
        }
        state = isInHandshake ? .handshaking : .established
        let bytes = held
        held = []
        return unsafe bytes.withUnsafeBytes { unsafe receive($0, plaintext: plaintext, deliver: deliver) }
    }

    /// The peer closed the connection beneath TLS: without close_notify something is missing.
    package func endOfInput() -> TLSState {
        switch state {
        case .handshaking, .awaitingVerification:
            fail(TLSError(.truncated, "\(peerRole) closed the connection during the TLS handshake"))
        case .established: fail(TLSError(.truncated, "\(peerRole) closed the connection without TLS's close_notify"))
        case .closed, .failed: break
        }
        return state
    }

    private func hold(_ ciphertext: UnsafeRawBufferPointer) {
        if held.count + ciphertext.count > Self.heldBytesMax {
            return fail(TLSError(.protocolFailure, "\(peerRole) sent too much before it was verified"))
        }
        unsafe held.append(contentsOf: ciphertext)
    }

    /// Whether what comes first may be TLS; if not, that is what the session fails of.
    private func recognise(_ ciphertext: UnsafeRawBufferPointer) -> Bool {
        guard !hasReceived, ciphertext.count > 0 else { return true }
        hasReceived = true
        guard let problem = unsafe ForeignBytes.description(of: ciphertext) else { return true }
        fail(TLSError(.plaintextPeer, "\(peerRole) speaks plaintext: \(problem)"))
        return false
    }

    private func advance(_ plaintext: UnsafeMutableRawBufferPointer, _ deliver: (UnsafeRawBufferPointer) -> Void) {
        if case .handshaking = state { handshake() }
        if case .established = state { unsafe readRecords(plaintext, deliver) }
    }

    private func readRecords(_ plaintext: UnsafeMutableRawBufferPointer, _ deliver: (UnsafeRawBufferPointer) -> Void) {
        precondition(plaintext.count >= Self.recordBytesMax)
        while case .established = state {
            var filled = 0
            var result: CInt = 1
            OpenSSLErrors.clear()
            // A read returns one record at the most, or what is left of one.
            while plaintext.count - filled >= Self.recordBytesMax, let start = plaintext.baseAddress {
                var count = 0
                result = unsafe SSL_read_ex(handle, start + filled, plaintext.count - filled, &count)
                if result != 1 { break }
                filled += count
                stepsWithoutData = 0
            }
            let problem = result == 1 ? SSL_ERROR_NONE : unsafe SSL_get_error(handle, result)
            let errors = problem == SSL_ERROR_SSL || problem == SSL_ERROR_SYSCALL ? OpenSSLErrors.take() : nil
            if filled > 0 { unsafe deliver(UnsafeRawBufferPointer(rebasing: plaintext[..<filled])) }
            guard case .established = state else { return }
            switch problem {
            case SSL_ERROR_NONE: continue
            case SSL_ERROR_WANT_READ: return refuseFlood()
            case SSL_ERROR_ZERO_RETURN: state = .closed
            default: fail(describe(errors ?? OpenSSLErrors()))
            }
        }
    }
}

// MARK: - Floods

// SAFETY: see `TLSSession`; what a call is given is the caller's for its length.
extension TLSSession {
    /// From OpenSSL: it sends or reads a message of a handshake, or an alert.
    func noteStep() {
        guard isHandshakeOver else { return }
        stepsWithoutData += 1
        // OpenSSL would go on with what there is to read; without it, it returns.
        if stepsWithoutData > Self.stepsWithoutDataMax { unsafe transport.pointee.isInputStopped = true }
    }

    /// A peer may ask for new keys again and again, or in TLS 1.2 for a new handshake. RFC 8446 §4.6.3 sets no limit.
    private func refuseFlood() {
        guard unsafe transport.pointee.isInputStopped else { return }
        unsafe SSL_shutdown(handle)
        fail(TLSError(.protocolFailure, "\(peerRole) sent handshake messages and no data, without end"))
    }
}

// MARK: - Bytes out

// SAFETY: see `TLSSession`; what a call is given is the caller's for its length.
extension TLSSession {
    /// Whether ``encrypt(_:into:)`` has something to write even without plaintext.
    package var hasOutput: Bool { unsafe transport.pointee.hasPending }

    /// The room in which `plaintextBytes` fit after encryption, when nothing else waits.
    package static func encryptedBytesMax(_ plaintextBytes: Int) -> Int {
        let records = (plaintextBytes + recordBytesMax - 1) / recordBytesMax
        return plaintextBytes + records * recordOverheadBytesMax
    }

    /// Writes what the session itself has to say, and then as many whole records of the plaintext as there is room for.
    ///
    /// - Parameters:
    ///   - plaintext: nothing of it is taken unless the session is established.
    ///   - output: at least ``encryptedBytesMax(_:)`` of a record, or a call may write nothing.
    /// - Returns: the bytes of plaintext taken, and those written to `output`.
    package func encrypt(
        _ plaintext: UnsafeRawBufferPointer,
        into output: UnsafeMutableRawBufferPointer
    ) -> (consumed: Int, written: Int) {
        unsafe transport.pointee.output = unsafe output
        unsafe transport.pointee.outputBytes = 0
        defer { unsafe transport.pointee.output = UnsafeMutableRawBufferPointer(start: nil, count: 0) }
        unsafe transport.pointee.drain()
        var consumed = 0
        while case .established = state, !hasOutput, consumed < plaintext.count, let start = plaintext.baseAddress {
            let count = min(Self.recordBytesMax, plaintext.count - consumed)
            let room = unsafe output.count - transport.pointee.outputBytes
            guard room >= count + Self.recordOverheadBytesMax else { break }
            OpenSSLErrors.clear()
            recordsUntilKeyUpdate -= 1
            if recordsUntilKeyUpdate == 0 { updateKey() }
            var written = 0
            guard unsafe SSL_write_ex(handle, start + consumed, count, &written) == 1 else {
                fail(describe(OpenSSLErrors.take()))
                break
            }
            consumed += written
        }
        return (consumed, unsafe transport.pointee.outputBytes)
    }

    /// Has the next record encrypted with a new key, after a KeyUpdate message (RFC 8446 §4.6.3).
    private func updateKey() {
        recordsUntilKeyUpdate = Self.recordsOfOneKeyMax
        guard unsafe SSL_version(handle) == TLS1_3_VERSION else { return }
        unsafe SSL_key_update(handle, SSL_KEY_UPDATE_NOT_REQUESTED)
    }

    /// Says that nothing follows (close_notify); what was encrypted before stays valid. Nothing is read from here on.
    package func close() {
        if case .failed = state { return }
        state = .closed
        held = []
        if isShutDown { return }
        isShutDown = true
        OpenSSLErrors.clear()
        // In the middle of a handshake OpenSSL has no close_notify to send, and says so.
        unsafe SSL_shutdown(handle)
        OpenSSLErrors.clear()
    }
}
