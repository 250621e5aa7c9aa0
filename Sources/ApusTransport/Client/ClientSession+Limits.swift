internal import ApusBase
internal import ApusEventLoop

// What a session holds itself to while its peer takes nothing, and its peer to always. A server that does not read must
// not have calls pile up here: they wait in the channel's list, where a call that ends leaves nothing.

extension ClientSession {
    /// Requests that wait in nghttp2 at the most, which looks through all of them for each that is given up.
    static let unsentRequestsMax = 1000

    /// The socket takes no more for now.
    func stall() { hot.value.isStalled = true }

    /// The socket has taken all that was left over.
    func goOn() {
        hot.value.isStalled = false
        channel.streamEnded(on: self)
    }

    /// Opens streams for calls that wait, now that others have left; `false` when there is nothing more to send for it.
    func openMore() -> Bool {
        guard channel.hasPendingCalls else { return false }
        let before = hot.value.unsentRequests
        channel.streamEnded(on: self)
        return hot.value.unsentRequests > before
    }

    /// All that was read at once has been gone through: the last that the server said of its limit counts.
    @inline(__always)
    func received() {
        guard hot.value.limitIsNew else { return }
        hot.value.limitIsNew = false
        channel.streamEnded(on: self)
    }

    /// Whether calls wait because of the server's limit of streams.
    var isAtStreamLimit: Bool { hot.value.open.count >= hot.value.allowance.current }
}
