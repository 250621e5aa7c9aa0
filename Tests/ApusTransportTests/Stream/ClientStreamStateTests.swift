import Testing

@testable import ApusTransport

@Suite struct ClientStreamStateTests {
    enum Outbound: CaseIterable { case open, finishing, ended }
    enum Inbound: CaseIterable { case awaitingHead, body, ended }

    /// Each state there is: where the two directions stand.
    struct Place: CustomStringConvertible, Sendable {
        let outbound: Outbound
        let inbound: Inbound

        static let all = Outbound.allCases.flatMap { outbound in
            Inbound.allCases.map { Place(outbound: outbound, inbound: $0) }
        }

        var description: String { "\(outbound)/\(inbound)" }

        /// By the events that lead there.
        var state: ClientStreamState {
            var state = ClientStreamState()
            if outbound != .open { state.finish() }
            if outbound == .ended { state.endSent() }
            switch inbound {
            case .awaitingHead: break
            case .body: _ = state.receiveHead(isInformational: false, endStream: false)
            case .ended: _ = state.receiveEnd()
            }
            return state
        }
    }

    private func expect(_ state: ClientStreamState, _ outbound: Outbound, _ inbound: Inbound, _ hint: String) {
        #expect(state.awaitsHead == (inbound == .awaitingHead), "\(hint): awaitsHead")
        #expect(state.isDecided == (inbound == .ended), "\(hint): isDecided")
        #expect(state.acceptsData == (inbound == .body), "\(hint): acceptsData")
        #expect(state.isFinishing == (outbound == .finishing), "\(hint): isFinishing")
        #expect(state.hasEnded == (outbound == .ended), "\(hint): hasEnded")
    }

    @Test(arguments: Place.all)
    func `each state answers the questions that are asked of it`(place: Place) {
        expect(place.state, place.outbound, place.inbound, "\(place)")
    }

    @Test(arguments: Place.all)
    func `a head is taken once, and none after the end`(place: Place) {
        var state = place.state
        let isFirst = place.inbound == .awaitingHead
        #expect(state.receiveHead(isInformational: false, endStream: false) == (isFirst ? .head : .drop))
        expect(state, place.outbound, isFirst ? .body : place.inbound, "\(place)")
        #expect(state.receiveHead(isInformational: false, endStream: false) == .drop)
    }

    @Test(arguments: Place.all)
    func `a head with END_STREAM is Trailers-Only where the head is awaited`(place: Place) {
        var state = place.state
        let isFirst = place.inbound == .awaitingHead
        #expect(state.receiveHead(isInformational: false, endStream: true) == (isFirst ? .trailersOnly : .drop))
        expect(state, place.outbound, isFirst ? .ended : place.inbound, "\(place)")
    }

    @Test(arguments: Place.all)
    func `an informational head changes nothing`(place: Place) {
        var state = place.state
        let isFirst = place.inbound == .awaitingHead
        for _ in 0..<3 {
            #expect(state.receiveHead(isInformational: true, endStream: false) == (isFirst ? .skip : .drop))
        }
        expect(state, place.outbound, place.inbound, "\(place)")
    }

    @Test(arguments: Place.all)
    func `the stream's end counts once`(place: Place) {
        var state = place.state
        #expect(state.receiveEnd() == (place.inbound != .ended))
        expect(state, place.outbound, .ended, "\(place)")
        #expect(state.receiveEnd() == false)
    }

    @Test(arguments: Place.all)
    func `to abandon it ends what comes and lets nothing more be queued`(place: Place) {
        var state = place.state
        for _ in 0..<2 {
            state.abandon()
            expect(state, place.outbound == .open ? .finishing : place.outbound, .ended, "\(place)")
        }
    }

    @Test(arguments: Place.all)
    func `the last message is announced once, and not taken back by its repetition`(place: Place) {
        var state = place.state
        for _ in 0..<2 {
            state.finish()
            expect(state, place.outbound == .open ? .finishing : place.outbound, place.inbound, "\(place)")
        }
    }

    @Test(arguments: Place.all)
    func `END_STREAM ends what is sent, whatever comes`(place: Place) {
        var state = place.state
        state.endSent()
        expect(state, .ended, place.inbound, "\(place)")
        state.finish()
        state.abandon()
        expect(state, .ended, .ended, "\(place), abandoned")
    }
}
