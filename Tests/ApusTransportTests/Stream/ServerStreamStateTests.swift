import Testing

@testable import ApusTransport

@Suite struct ServerStreamStateTests {
    /// Each state that can be told from outside, and how to get there.
    enum Place: CaseIterable {
        case idleOpen, idleEnded, streamingOpen, streamingEnded, finishingOpen, finishingEnded, endedOpen, endedEnded

        var state: ServerStreamState {
            var state = ServerStreamState()
            if peerEnded, self != .finishingOpen { state.receiveEnd() }
            switch self {
            case .idleOpen, .idleEnded: break
            case .streamingOpen, .streamingEnded: _ = state.sendHead()
            case .finishingOpen, .finishingEnded: _ = state.sendStatus()
            case .endedOpen, .endedEnded:
                _ = state.sendStatus()
                _ = state.trailersSent()
            }
            return state
        }

        var peerEnded: Bool {
            switch self {
            case .idleEnded, .streamingEnded, .finishingEnded, .endedEnded: true
            default: false
            }
        }

        var isIdle: Bool { self == .idleOpen || self == .idleEnded }
        var isStreaming: Bool { self == .streamingOpen || self == .streamingEnded }
        var isFinishing: Bool { self == .finishingOpen || self == .finishingEnded }
        var isDecided: Bool { !isIdle && !isStreaming }
        /// Data matters as long as neither side has decided that it does not.
        var acceptsData: Bool { self == .idleOpen || self == .streamingOpen }
    }

    private func expect(_ state: ServerStreamState, _ place: Place, _ hint: String) {
        #expect(state.acceptsData == place.acceptsData, "\(hint): acceptsData")
        #expect(state.peerEnded == place.peerEnded, "\(hint): peerEnded")
        #expect(state.isFinishing == place.isFinishing, "\(hint): isFinishing")
        #expect(state.isDecided == place.isDecided, "\(hint): isDecided")
    }

    @Test(arguments: Place.allCases)
    func `each state answers the questions that are asked of it`(place: Place) {
        expect(place.state, place, "\(place)")
    }

    @Test(arguments: Place.allCases)
    func `the end of the request is noted in every state, and twice is as once`(place: Place) {
        let ended: [Place: Place] = [
            .idleOpen: .idleEnded, .streamingOpen: .streamingEnded, .finishingOpen: .finishingEnded,
            .endedOpen: .endedEnded,
        ]
        var state = place.state
        state.receiveEnd()
        expect(state, ended[place] ?? place, "\(place)")
        state.receiveEnd()
        expect(state, ended[place] ?? place, "\(place), twice")
    }

    @Test(arguments: Place.allCases)
    func `a message takes the head with it, or follows, or is too late`(place: Place) {
        var state = place.state
        let expected: ServerStreamState.OnMessage =
            place.isIdle ? .sendHeadThenMessage : place.isStreaming ? .sendMessage : .tooLate
        #expect(state.sendMessage() == expected)
        #expect(state.sendMessage() == (place.isDecided ? .tooLate : .sendMessage))
        #expect(state.acceptsData == place.acceptsData)
    }

    @Test(arguments: Place.allCases)
    func `the head is sent once, and never after the end`(place: Place) {
        var state = place.state
        #expect(state.sendHead() == place.isIdle)
        #expect(state.sendHead() == false)
        #expect(state.isDecided == place.isDecided)
    }

    @Test(arguments: Place.allCases)
    func `the status is Trailers-Only, or follows what is queued, or is too late`(place: Place) {
        var state = place.state
        let expected: ServerStreamState.OnStatus =
            place.isIdle ? .sendTrailersOnly : place.isStreaming ? .sendTrailers : .tooLate
        #expect(state.sendStatus() == expected)
        #expect(state.isDecided)
        #expect(!state.acceptsData)
        #expect(state.peerEnded == place.peerEnded)
        #expect(state.sendStatus() == .tooLate)
        #expect(state.sendMessage() == .tooLate)
        #expect(state.sendHead() == false)
    }

    @Test(arguments: Place.allCases)
    func `once the trailers are sent the peer is stopped, unless it has ended`(place: Place) {
        var state = place.state
        #expect(state.trailersSent() == (place.peerEnded ? .nothing : .resetWithNoError))
        #expect(state.isDecided)
        #expect(!state.isFinishing)
        #expect(state.sendStatus() == .tooLate)
        #expect(state.sendMessage() == .tooLate)
    }
}
