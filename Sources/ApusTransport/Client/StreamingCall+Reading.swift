package import ApusBase
internal import ApusCompression
internal import ApusEventLoop

// Response messages, for the application on any thread.

extension StreamingCall {
    private enum Next {
        /// A message; so many bytes are to be credited.
        case message([UInt8], credit: Int)
        /// The same of one that is to be inflated.
        case compressed([UInt8], MessageEncodings.Index, credit: Int)
        case end(CallEnd)
        case nothingYet
    }

    /// The next response message, when it is there already: the usual case in a busy stream, without an asynchronous
    /// frame.
    @inline(__always)
    package func messageNow() -> [UInt8]? {
        guard case .message(let message, let credit) = takeNext(compressed: false) else { return nil }
        if credit > 0 { self.credit(credit) }
        return message
    }

    /// The next response message; `nil` after the last one of a call that ended with OK.
    ///
    /// - Throws: the call's error; what came before it is given out first. `CANCELLED` when the task was cancelled,
    ///   and with it the call.
    package func nextMessage() async throws(RPCError) -> [UInt8]? { try await nextReceived()?.bytes }

    /// The next response message, and whether it came compressed.
    package func nextReceived() async throws(RPCError) -> ReceivedBytes? {
        while true {
            switch takeNext(compressed: true) {
            case .message(let message, let credit):
                if credit > 0 { self.credit(credit) }
                return ReceivedBytes(bytes: message)
            case .compressed(let message, let encoding, let credit):
                if credit > 0 { self.credit(credit) }
                let limit = maxResponseBytes
                let result = await channel.encodings.inflateAnywhere(message, encoding, bytesMax: limit)
                return ReceivedBytes(bytes: try inflatedOrFail(result, encoding), wasCompressed: true)
            case .end(let end):
                if let error = end.error { throw error }
                return nil
            case .nothingYet: try await waitToRead()
            }
        }
    }

    package func nextMessageBlocking() throws(RPCError) -> [UInt8]? { try nextReceivedBlocking()?.bytes }

    package func nextReceivedBlocking() throws(RPCError) -> ReceivedBytes? {
        while true {
            switch takeNext(compressed: true) {
            case .message(let message, let credit):
                if credit > 0 { self.credit(credit) }
                return ReceivedBytes(bytes: message)
            case .compressed(let message, let encoding, let credit):
                if credit > 0 { self.credit(credit) }
                let result = channel.encodings.inflate(message, encoding, bytesMax: maxResponseBytes)
                return ReceivedBytes(bytes: try inflatedOrFail(result, encoding), wasCompressed: true)
            case .end(let end):
                if let error = end.error { throw error }
                return nil
            case .nothingYet:
                let parker = ThreadParker()
                switch startToWait(.thread(parker)) {
                case .waits: parker.park()
                case .isThere: break
                case .isTaken: throw readTwice
                }
            }
        }
    }

    @inline(__always)
    private func takeNext(compressed takesCompressed: Bool) -> Next {
        let portion = creditPortion
        return shared.withLock { shared in
            let isCompressed = shared.inbound.isFirstCompressed
            if isCompressed, !takesCompressed { return .nothingYet }
            if let message = shared.inbound.popFirst() {
                shared.uncredited += message.count + MessageDeframer.prefixBytes
                var credit = 0
                if shared.uncredited >= portion, shared.end == nil { swap(&credit, &shared.uncredited) }
                if isCompressed { return .compressed(message, shared.responseEncoding, credit: credit) }
                return .message(message, credit: credit)
            }
            return shared.end.map { .end($0) } ?? .nothingYet
        }
    }

    /// A message that was inflated. What is wrong with it ends the call, for everybody who asks from here on.
    private func inflatedOrFail(
        _ result: Result<[UInt8], DecompressionError>,
        _ encoding: MessageEncodings.Index
    ) throws(RPCError) -> [UInt8] {
        do {
            return try inflated(result, encoding)
        } catch {
            shared.withLock { shared in
                // Even an OK that came meanwhile: a part of the answer is missing.
                if shared.end?.error == nil { shared.end = .failed(error) }
                shared.inbound.removeAll()
            }
            loop.execute { self.abandon(error) }
            throw error
        }
    }

    private func waitToRead() async throws(RPCError) {
        let isTaken = await withTaskCancellationHandler {
            var isTaken = false
            await Suspension<Void>.wait { suspension in
                switch startToWait(.task(suspension)) {
                case .waits: break
                case .isThere: suspension.resume()
                case .isTaken:
                    isTaken = true
                    suspension.resume()
                }
            }
            return isTaken
        } onCancel: {
            cancel()
        }
        if isTaken { throw readTwice }
    }

    private enum Waiting { case waits, isThere, isTaken }

    private func startToWait(_ waiter: Waiter) -> Waiting {
        let (result, isMidMessage) = shared.withLock { shared -> (Waiting, Bool) in
            if !shared.inbound.isEmpty || shared.end != nil { return (.isThere, false) }
            if shared.reader.isWaiting { return (.isTaken, false) }
            shared.reader = waiter
            return (.waits, shared.isMidMessage)
        }
        // Of a message larger than the window a part is here, and the rest comes only if it is credited.
        if isMidMessage { onLoop { $0.creditForWaitingReader() } }
        return result
    }

    private var readTwice: RPCError {
        RPCError(code: .failedPrecondition, message: "two readers wait for the responses of \(method) at once")
    }

    // MARK: Credit

    private func credit(_ bytes: Int) { onLoop { $0.creditOnLoop(bytes) } }

    @inline(__always)
    private func onLoop(_ body: @escaping @Sendable (StreamingCall) -> Void) {
        if loop.isCurrent { body(self) } else { loop.execute { body(self) } }
    }

    private func creditOnLoop(_ bytes: Int) {
        guard let stream = core.value.stream, let session = core.value.session else { return }
        session.messagesTaken(stream, bytes: bytes)
    }

    /// On the loop: credits the message under way, if its reader waits.
    func creditForWaitingReader() {
        guard let stream = core.value.stream, let session = core.value.session else { return }
        let (isWaiting, uncredited) = shared.withLock { shared in
            var uncredited = 0
            let isWaiting = shared.reader.isWaiting && shared.inbound.isEmpty && shared.isMidMessage
            if isWaiting { swap(&uncredited, &shared.uncredited) }
            return (isWaiting, uncredited)
        }
        guard isWaiting else { return }
        session.messagesTaken(stream, bytes: uncredited)
        session.creditMessageUnderWay(stream)
    }
}
