package import ApusBase
internal import ApusEventLoop

// Response messages, for the application on any thread.

extension StreamingCall {
    private enum Next {
        /// A message; so many bytes are to be credited.
        case message([UInt8], credit: Int)
        case end(CallEnd)
        case nothingYet
    }

    /// The next response message, when it is there already: the usual case in a busy stream, without an asynchronous
    /// frame.
    @inline(__always)
    package func messageNow() -> [UInt8]? {
        guard case .message(let message, let credit) = takeNext() else { return nil }
        if credit > 0 { self.credit(credit) }
        return message
    }

    /// The next response message; `nil` after the last one of a call that ended with OK.
    ///
    /// - Throws: the call's error; what came before it is given out first. `CANCELLED` when the task was cancelled,
    ///   and with it the call.
    package func nextMessage() async throws(RPCError) -> [UInt8]? {
        while true {
            switch takeNext() {
            case .message(let message, let credit):
                if credit > 0 { self.credit(credit) }
                return message
            case .end(let end):
                if let error = end.error { throw error }
                return nil
            case .nothingYet: try await waitToRead()
            }
        }
    }

    package func nextMessageBlocking() throws(RPCError) -> [UInt8]? {
        while true {
            switch takeNext() {
            case .message(let message, let credit):
                if credit > 0 { self.credit(credit) }
                return message
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
    private func takeNext() -> Next {
        let portion = creditPortion
        return shared.withLock { shared in
            if let message = shared.inbound.popFirst() {
                shared.uncredited += message.count + MessageDeframer.prefixBytes
                var credit = 0
                if shared.uncredited >= portion, shared.end == nil { swap(&credit, &shared.uncredited) }
                return .message(message, credit: credit)
            }
            return shared.end.map { .end($0) } ?? .nothingYet
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
