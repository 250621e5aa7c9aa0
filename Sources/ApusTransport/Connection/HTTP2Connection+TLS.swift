internal import ApusBase
internal import ApusEventLoop
internal import ApusTLS

// The connection's bytes inside TLS: what is read is decrypted from one of the loop's buffers into another, what is
// sent is encrypted from one half of a buffer into the other.

extension HTTP2Connection {
    /// What one round of output takes of the session: with the overhead of its records it fits behind itself in the
    /// loop's buffer.
    private static let plaintextChunkBytes = 96 * 1024

    /// A client says hello; a server waits.
    final func startHandshake() {
        guard let tls else { return }
        follow(tls.startHandshake())
    }

    /// Bytes of the peer as they came.
    final func receiveSecured(_ bytes: UnsafeRawBufferPointer) {
        // SAFETY: both buffers are the loop's, and are used up before anything else runs on the loop.
        guard let tls else { return }
        if takesStepsElsewhere { return takeStep(.received(unsafe [UInt8](bytes))) }
        follow(unsafe tls.receive(bytes, plaintext: loop.plaintextScratch) { unsafe deliver($0) })
    }

    /// The peer's direction is closed; without TLS's own goodbye something may be missing.
    final func inputEnded() {
        if phase == .open, let tls { follow(tls.endOfInput()) }
        close("the peer closed it")
    }

    private func deliver(_ plaintext: UnsafeRawBufferPointer) {
        // SAFETY: the bytes are the caller's for the length of this call.
        guard phase == .open else { return }
        noteSecured()
        unsafe receive(plaintext)
    }

    private func noteSecured() {
        guard !isSecured else { return }
        isSecured = true
        secured(tls?.info)
    }

    /// Acts on where TLS stands.
    private func follow(_ state: TLSState) {
        guard phase == .open, let tls else { return }
        switch state {
        case .handshaking: break
        case .awaitingVerification(let peer): verify(peer)
        case .established: noteSecured()
        case .closed: return close("the peer closed it")
        case .failed(let error): return securityEnded(error, tls)
        }
        if tls.hasOutput { scheduleFlush() }
    }

    private func securityEnded(_ error: TLSError, _ tls: TLSSession) {
        securityFailed(error)
        // What explains it to the peer, an alert, is written if the socket takes it.
        // SAFETY: there are no bytes at no address.
        _ = unsafe writeEncrypted(UnsafeRawBufferPointer(start: nil, count: 0), tls)
        // A client has sent its first calls behind its handshake: to close the socket before they are read would make
        // the kernel drop the alert, and the client would never know why.
        if framer.role == .server, error.reason != .truncated {
            return linger(cause: "TLS: \(error)")
        }
        close("TLS: \(error)")
    }

    // MARK: Steps that another thread takes

    /// Whether TLS stands still: for a decision about the peer, or while another thread has it in hand.
    var isHandshakeHeld: Bool { verification != nil || handshakeStep != nil }

    /// Whether what comes next would hold up the loop.
    var takesStepsElsewhere: Bool { !isSecured && tls?.context.handshakeIsSlow == true }

    private func takeStep(_ event: HandshakeStep.Event) {
        guard handshakeStep == nil, let tls else { return }
        setInterest([])
        handshakeStep = HandshakeStep(self, tls, event)
    }

    /// TLS is ours again.
    final func handshakeStepEnded(_ state: TLSState, _ plaintext: [UInt8]) {
        guard phase == .open, handshakeStep != nil else { return }
        handshakeStep = nil
        if isUnsentEmpty { setInterest(.read) }
        // SAFETY: the bytes are the array's, which nobody changes.
        if !plaintext.isEmpty { unsafe plaintext.withUnsafeBytes { unsafe deliver($0) } }
        follow(state)
    }

    /// Nobody waits for TLS any more.
    final func abandonHandshake() {
        verification?.cancel()
        verification = nil
        handshakeStep?.abandon()
        // It stays: the session is not ours until the step has ended, which is now never.
    }

    // MARK: The application's decision

    /// Whether a decision about the peer is awaited.
    var isVerifying: Bool { verification != nil }

    /// Asks the application about the peer. HTTP/2 stands still until it has decided.
    private func verify(_ peer: TLSPeer) {
        guard !isVerifying, let verifier = tls?.context.verifyPeer else { return }
        setInterest([])
        verification = PeerVerification(self, peer, verifier)
    }

    final func verificationEnded(_ refusal: String?) {
        guard phase == .open, isVerifying, let tls else { return }
        verification = nil
        if takesStepsElsewhere { return takeStep(.decided(refusal: refusal)) }
        if isUnsentEmpty { setInterest(.read) }
        // SAFETY: the buffer is the loop's, and is used up before anything else runs on the loop.
        let state = unsafe tls.verificationEnded(refusal: refusal, plaintext: loop.plaintextScratch) {
            unsafe deliver($0)
        }
        follow(state)
    }

    // MARK: Output

    /// Writes what TLS itself has to say, and once it is established what the session has.
    final func flushSecured() {
        guard let tls, handshakeStep == nil else { return }
        // SAFETY: there are no bytes at no address.
        guard isSecured else {
            _ = unsafe writeEncrypted(UnsafeRawBufferPointer(start: nil, count: 0), tls)
            return
        }
        var written = 0
        while written < Self.outputPerTurnBytesMax {
            prepareOutput()
            // SAFETY: the scratch buffer is the loop's and is used up before anything else runs on the loop.
            let buffer = unsafe UnsafeMutableRawBufferPointer(rebasing: loop.writeScratch[..<Self.plaintextChunkBytes])
            guard let count = unsafe framer.produce(into: buffer) else {
                return close("the HTTP/2 session failed: \(framer.lastDiagnosis)")
            }
            if unsafe !writeEncrypted(UnsafeRawBufferPointer(rebasing: buffer[..<count]), tls) { return }
            if case .failed(let error) = tls.state { return securityEnded(error, tls) }
            written += count
            if buffer.count - count >= HTTP2Session.frameBytesMax, !outputRanDry() { break }
        }
        flushed(written)
    }

    /// Encrypts and writes; what the socket does not take is kept, encrypted. `false` when that was all for now.
    private func writeEncrypted(_ plaintext: UnsafeRawBufferPointer, _ tls: TLSSession) -> Bool {
        // SAFETY: the second part of the scratch buffer is free while the first holds the plaintext.
        let output = unsafe UnsafeMutableRawBufferPointer(rebasing: loop.writeScratch[Self.plaintextChunkBytes...])
        var consumed = 0
        var mayWriteMore = true
        repeat {
            let rest = unsafe UnsafeRawBufferPointer(rebasing: plaintext[consumed...])
            let step = unsafe tls.encrypt(rest, into: output)
            if step.consumed == 0, step.written == 0 { break }
            consumed += step.consumed
            mayWriteMore = unsafe write(UnsafeRawBufferPointer(rebasing: output[..<step.written]))
            if phase != .open { return false }
        } while consumed < plaintext.count || tls.hasOutput
        return mayWriteMore
    }

    /// The peer is told that nothing follows (close_notify), if the socket takes it.
    final func sayGoodbye() {
        guard phase == .open, handshakeStep == nil, let tls else { return }
        tls.close()
        guard tls.hasOutput else { return }
        // SAFETY: the scratch buffer is the loop's and is used up before anything else runs on the loop.
        let step = unsafe tls.encrypt(UnsafeRawBufferPointer(start: nil, count: 0), into: loop.writeScratch)
        let bytes = unsafe [UInt8](UnsafeRawBufferPointer(rebasing: loop.writeScratch[..<step.written]))
        if isUnsentEmpty { writePlainly(bytes) }
    }
}
