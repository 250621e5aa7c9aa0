internal import ApusBase
internal import ApusEventLoop
internal import Logging

// The channel's connections, on the loop: how one comes about, is lost, and is made anew.

extension ClientChannel: LoopResident {
    func startConnecting() {
        if !state.value.isResident {
            state.value.isResident = true
            loop.addResident(self)
            // On a loop that ends the channel was closed at once.
            guard connectivity != .closed else { return }
        }
        set(.connecting)
        let connector = Connector(channel: self)
        state.value.connector = connector
        connector.start()
    }

    /// The connector has a socket that is connected.
    func socketConnected(_ descriptor: CInt, _ address: SocketAddress) {
        let connection: ClientConnection
        do throws(RPCError) {
            connection = try ClientConnection(descriptor: descriptor, address: address, channel: self)
        } catch {
            SystemCalls.close(descriptor)
            state.value.connector?.handshakeFailed(address, cause: "\(error)")
            return
        }
        state.value.others[ObjectIdentifier(connection)] = connection
        do throws(SystemError) {
            try connection.start()
        } catch {
            connection.close("\(error)")
        }
    }

    /// Whether a connection is in its TLS handshake.
    var isSecuring: Bool { state.value.others.values.contains { !$0.isSecured } }

    /// The connector has waited long enough for an address to speak HTTP/2.
    func giveUpHandshake(_ cause: String) {
        for connection in state.value.others.values where !connection.isEstablished { connection.close(cause) }
    }

    func connectionEstablished(_ connection: ClientConnection) {
        guard connectivity == .connecting else { return }
        state.value.others[ObjectIdentifier(connection)] = nil
        state.value.connector?.cancel()
        state.value.connector = nil
        if state.value.uselessConnections == 0 { state.value.backoff.reset() }
        state.value.connection = connection
        watchForIdleness()
        set(.ready)
        subchannelTrace.log("connected to \(connection.address)")
        logger.debug("connected", metadata: ["peer": "\(connection.address)"])
        streamEnded(on: connection.session)
        if state.value.firstPending != nil { noteStreamLimit() }
    }

    /// No more calls go over this connection; those that it has go on.
    func connectionDrains(_ connection: ClientConnection) {
        guard state.value.connection === connection else { return }
        let reason = connection.session.goAway.map { ", after GOAWAY \($0)" } ?? ""
        subchannelTrace.log("no more calls go over the connection to \(connection.address)\(reason)")
        connectionEnds(connection)
    }

    /// Whether one more connection may wait for its server to close it as well.
    var mayLinger: Bool { state.value.others.count < Self.lingeringMax }

    /// The connection is to be used no more. Before its calls hear of it, so that one that is tried again goes
    /// elsewhere.
    func connectionEnds(_ connection: ClientConnection) {
        guard state.value.connection === connection else { return }
        state.value.connection = nil
        state.value.others[ObjectIdentifier(connection)] = connection
        guard connectivity == .ready else { return }
        if connection.session.hasAnswered {
            state.value.uselessConnections = 0
            state.value.backoff.reset()
        } else if connection.session.hasOpened || hasPendingCalls {
            state.value.uselessConnections += 1
        }
        if state.value.uselessConnections > Self.uselessConnectionsMax {
            waitForBackoff("\(connection.address) ends each connection before it answers a call")
            // Not here: nghttp2 may be in the middle of a frame.
            loop.execute { if self.connectivity == .transientFailure { self.failPending(waitingToo: false) } }
            return
        }
        set(.idle)
        if state.value.firstPending != nil { startConnecting() }
    }

    func connectionClosed(_ connection: ClientConnection, cause: String) {
        state.value.others[ObjectIdentifier(connection)] = nil
        if connection.isEstablished {
            subchannelTrace.log("closed the connection to \(connection.address): \(cause)")
        }
        if !connection.isEstablished { state.value.connector?.handshakeFailed(connection.address, cause: cause) }
    }

    /// No address led to a server: calls fail, and the next attempt waits.
    func connectingFailed(_ cause: String) {
        state.value.connector = nil
        waitForBackoff(cause)
        // One that is still in its handshake has had its time.
        giveUpHandshake(cause)
        failPending(waitingToo: false)
    }

    private func waitForBackoff(_ cause: String) {
        let delay = state.value.backoff.next()
        let message = "could not connect to \(target.text): \(cause)"
        subchannelTrace.log(message, .warning)
        state.value.lastFailure = RPCError(code: .unavailable, message: message)
        logger.info(
            "could not connect",
            metadata: ["target": "\(target.text)", "cause": "\(cause)", "retry": "\(delay)"]
        )
        set(.transientFailure)
        state.value.backoffTimer = loop.schedule(after: delay) { [weak self] in self?.backoffEnded() }
    }

    private func backoffEnded() {
        state.value.backoffTimer = .none
        guard connectivity == .transientFailure else { return }
        set(.idle)
        if state.value.firstPending != nil { startConnecting() }
    }

    /// Ends the calls that wait for a connection and do not wait for better times.
    func failPending(waitingToo: Bool) {
        var next = state.value.firstPending
        while let call = next {
            next = call.core.value.nextPending
            if !waitingToo, call.setup.value.options.waitForReady { continue }
            call.finish(CallEnd(error: state.value.lastFailure ?? loopStopped, isUnwanted: waitingToo))
        }
    }

    package func loopEnds() { closeOnLoop(loopStopped) }

    func closeOnLoop(_ why: String) { closeOnLoop(RPCError(code: .cancelled, message: why)) }

    func closeOnLoop(_ error: RPCError) {
        guard connectivity != .closed else { return }
        set(.closed)
        state.value.connector?.cancel()
        state.value.connector = nil
        loop.cancel(state.value.backoffTimer)
        loop.cancel(state.value.idleTimer)
        state.value.lastFailure = error
        failPending(waitingToo: true)
        let connections = Array(state.value.others.values) + (state.value.connection.map { [$0] } ?? [])
        state.value.connection = nil
        state.value.others = [:]
        for connection in connections {
            connection.session.endCalls(error)
            connection.shutDown()
        }
        spareUnaryCalls.withLock { $0 = [] }
        state.value.owner = nil
        if state.value.isResident {
            state.value.isResident = false
            loop.removeResident(self)
        }
    }
}
