internal import ApusBase
internal import ApusEventLoop

// What a channel counts for channelz, on its loop.

extension ClientChannel {
    /// What channelz shows of the channel and its subchannel. Attempts at calls are counted when they end, and here,
    /// because connections come and go.
    struct Tally {
        var callsStarted = 0
        var callsSucceeded = 0
        var callsFailed = 0
        /// When a call last began that had to wait for a stream; of others an attempt begins with them.
        var lastCallWaited: MonotonicInstant?
        var attemptsSucceeded = 0
        var attemptsFailed = 0
        var lastAttemptStarted: MonotonicInstant?
    }

    /// The one that calls go over, those whose last calls are ending, and one whose handshake is under way.
    var connections: [ClientConnection] {
        (state.value.connection.map { [$0] } ?? []) + state.value.others.values
    }

    // Counted as they happen; each is an addition to a field that no other thread sees.

    @inline(__always)
    func noteCallStarted() { state.value.tally.callsStarted &+= 1 }

    func noteCallWaits() { state.value.tally.lastCallWaited = loop.now }

    @inline(__always)
    func noteCallEnded(isSuccess: Bool) {
        if isSuccess { state.value.tally.callsSucceeded &+= 1 } else { state.value.tally.callsFailed &+= 1 }
    }

    /// A call whose status was OK, and which is about to end, is a failure to who made it.
    func callFailsAfterAll() {
        state.value.tally.callsSucceeded -= 1
        state.value.tally.callsFailed += 1
    }

    /// Streams were opened for calls.
    func attemptsBegan(_ now: MonotonicInstant) { state.value.tally.lastAttemptStarted = now }

    @inline(__always)
    func attemptEnded(isSuccess: Bool) {
        if isSuccess { state.value.tally.attemptsSucceeded &+= 1 } else { state.value.tally.attemptsFailed &+= 1 }
    }

    var callCounts: CallCounts {
        for connection in connections { connection.session.noteOpened(loop.now) }
        let tally = state.value.tally
        return CallCounts(
            started: tally.callsStarted,
            succeeded: tally.callsSucceeded,
            failed: tally.callsFailed,
            lastStarted: [tally.lastCallWaited, tally.lastAttemptStarted].compactMap { $0 }.max()
                .map(WallClock(loop.clock).time)
        )
    }

    var attemptCounts: CallCounts {
        for connection in connections { connection.session.noteOpened(loop.now) }
        let tally = state.value.tally
        return CallCounts(
            started: connections.reduce(tally.attemptsSucceeded + tally.attemptsFailed) { $0 + $1.session.openStreams },
            succeeded: tally.attemptsSucceeded,
            failed: tally.attemptsFailed,
            lastStarted: tally.lastAttemptStarted.map(WallClock(loop.clock).time)
        )
    }
}
