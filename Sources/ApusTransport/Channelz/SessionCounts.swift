internal import ApusBase
internal import ApusEventLoop

// What sessions counted, as channelz shows it: what can be derived is not counted.

extension ServerSession {
    /// What channelz shows of the connection, apart from how many streams were opened. A stream that ended is counted
    /// once, in plain fields, and times are known by the batch: see ``ChangeTime``.
    struct Tally {
        /// Streams that ended with END_STREAM of ours.
        var streamsSucceeded = 0
        /// Streams that were refused before anything was kept of them.
        var streamsRefused = 0
        var messagesReceived = 0
        var messagesSent = 0
        var streamsOpenedTime = ChangeTime()
        var messagesReceivedTime = ChangeTime()
        var messagesSentTime = ChangeTime()
    }

    func counts(_ wall: WallClock) -> SocketCounts {
        let tally = hot.value.tally
        let opened = hot.value.open.opened
        var counts = SocketCounts()
        counts.streamsStarted = opened + tally.streamsRefused
        counts.streamsSucceeded = tally.streamsSucceeded
        counts.streamsFailed = opened - hot.value.open.count - tally.streamsSucceeded + tally.streamsRefused
        counts.messagesSent = tally.messagesSent
        counts.messagesReceived = tally.messagesReceived
        counts.lastStreamStartedByPeer = tally.streamsOpenedTime.last(opened).map(wall.time)
        counts.lastMessageSent = tally.messagesSentTime.last(tally.messagesSent).map(wall.time)
        counts.lastMessageReceived = tally.messagesReceivedTime.last(tally.messagesReceived).map(wall.time)
        return counts
    }
}

extension ClientSession {
    /// What channelz shows of the connection, apart from how many streams were opened; see ``ServerSession/Tally``.
    struct Tally {
        /// Streams that ended with END_STREAM of the server.
        var streamsSucceeded = 0
        var messagesReceived = 0
        var messagesSent = 0
        /// How many streams had been opened by the last look, which is at the end of the turn that opens some.
        var openedSeen = 0
        var lastOpened: MonotonicInstant?
        var messagesReceivedTime = ChangeTime()
        var messagesSentTime = ChangeTime()
    }

    /// Dates what was opened in this turn.
    @inline(__always)
    func noteOpened(_ now: MonotonicInstant) {
        guard hot.value.open.opened != hot.value.tally.openedSeen else { return }
        hot.value.tally.openedSeen = hot.value.open.opened
        hot.value.tally.lastOpened = now
        channel.attemptsBegan(now)
    }

    func counts(_ wall: WallClock) -> SocketCounts {
        noteOpened(loop.now)
        let tally = hot.value.tally
        let opened = hot.value.open.opened
        var counts = SocketCounts()
        counts.streamsStarted = opened
        counts.streamsSucceeded = tally.streamsSucceeded
        counts.streamsFailed = opened - hot.value.open.count - tally.streamsSucceeded
        counts.messagesSent = tally.messagesSent
        counts.messagesReceived = tally.messagesReceived
        counts.lastStreamStartedHere = tally.lastOpened.map(wall.time)
        counts.lastMessageSent = tally.messagesSentTime.last(tally.messagesSent).map(wall.time)
        counts.lastMessageReceived = tally.messagesReceivedTime.last(tally.messagesReceived).map(wall.time)
        return counts
    }
}
