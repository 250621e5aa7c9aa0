internal import ApusBase
internal import ApusEventLoop
internal import Logging

// Where calls go, on the loop: to a stream of the connection, or to the list of those that wait for one.

extension ClientChannel {
    func callBegan() {
        state.value.liveCalls += 1
        if !state.value.isResident, connectivity != .closed {
            state.value.isResident = true
            loop.addResident(self)
        }
    }

    func callEnded() {
        state.value.liveCalls -= 1
        state.value.lastCallEnded = loop.now
        guard state.value.isReleased, state.value.liveCalls == 0 else { return }
        // Not here: nghttp2 may be in the middle of the frame that ended the call.
        loop.execute { if self.state.value.liveCalls == 0 { self.closeOnLoop(Self.isUnused) } }
    }

    /// Finds a stream for a call, or has it wait for one.
    @inline(__always)
    func place(_ call: ClientCall, isRetry: Bool = false) {
        if let connection = state.value.connection, connection.session.mayOpen {
            open(call, on: connection.session)
        } else {
            placeLater(call, isRetry: isRetry)
        }
    }

    private func open(_ call: ClientCall, on session: ClientSession) {
        switch session.open(call) {
        case .opened: break
        // The session drains, so that it is not asked again.
        case .exhausted: place(call)
        case .failed(let error): call.finish(.failed(error))
        }
    }

    private func placeLater(_ call: ClientCall, isRetry: Bool) {
        if !isRetry { noteCallWaits() }
        switch connectivity {
        case .closed: call.finish(.failed(state.value.lastFailure ?? loopStopped))
        case .transientFailure where !call.setup.value.options.waitForReady:
            call.finish(.failed(state.value.lastFailure ?? loopStopped))
        case .transientFailure, .connecting: addPending(call, first: isRetry)
        case .ready:
            addPending(call, first: isRetry)
            noteStreamLimit()
        case .idle:
            addPending(call, first: isRetry)
            startConnecting()
        }
    }

    /// Calls that wait for the server's leave are a common cause of slowness that nobody sees (gRPC A105).
    func noteStreamLimit() {
        guard let session = state.value.connection?.session, session.isAtStreamLimit else { return }
        if let notedAt = state.value.streamLimitNotedAt, loop.now < notedAt.advanced(by: Self.noteInterval) { return }
        state.value.streamLimitNotedAt = loop.now
        logger.notice(
            "calls wait: the server allows no more at once (MAX_CONCURRENT_STREAMS)",
            metadata: ["peer": "\(session.address)", "limit": "\(session.hot.value.allowance.limit)"]
        )
    }

    var hasPendingCalls: Bool { state.value.firstPending != nil }

    /// A stream of a session ended, its limit was raised, or it can send again: calls that wait may begin.
    @inline(__always)
    func streamEnded(on session: ClientSession) {
        while state.value.firstPending != nil, session.mayOpen, state.value.connection?.session === session,
            let call = popPending()
        {
            open(call, on: session)
        }
    }

    /// For the message of a call whose deadline passes meanwhile.
    var whatPendingCallsWaitFor: String {
        if let connector = state.value.connector { return connector.description }
        if let session = state.value.connection?.session {
            guard session.isAtStreamLimit else { return "\(session.address) to take what it was sent before" }
            return "one of the \(session.hot.value.allowance.current) streams that \(session.address) allows at once"
        }
        let last = state.value.lastFailure.map { ", after: \($0.message)" } ?? ""
        return "the next attempt to connect to \(target.text)\(last)"
    }
}

// MARK: - The calls that wait, a list through the calls

extension ClientChannel {
    /// A call that was tried before goes ahead of those that were not.
    private func addPending(_ call: ClientCall, first: Bool) {
        if first, let next = state.value.firstPending {
            call.core.value.nextPending = next
            next.core.value.previousPending = call
            state.value.firstPending = call
            return
        }
        if let last = state.value.lastPending {
            call.core.value.previousPending = last
            last.core.value.nextPending = call
        } else {
            state.value.firstPending = call
        }
        state.value.lastPending = call
    }

    private func popPending() -> ClientCall? {
        guard let call = state.value.firstPending else { return nil }
        removePending(call)
        return call
    }

    /// Takes a call out of the list; harmless when it is not in it.
    func removePending(_ call: ClientCall) {
        let previous = call.core.value.previousPending.take()
        guard previous != nil || state.value.firstPending === call else { return }
        let next = call.core.value.nextPending.take()
        if let previous { previous.core.value.nextPending = next } else { state.value.firstPending = next }
        if let next { next.core.value.previousPending = previous } else { state.value.lastPending = previous }
    }
}
