/// What the owner of a session keeps for a stream; the session hands it back with each of the stream's events.
@safe
struct StreamContext {
    // SAFETY: an address and nothing more; who turns it back into what it was made from keeps that alive.
    let pointer: UnsafeMutableRawPointer

    init(_ pointer: UnsafeMutableRawPointer) { unsafe self.pointer = pointer }
}

/// What a stream has to send next.
struct DataPlan {
    enum Ending {
        /// More may follow at once.
        case more
        /// Nothing is there now; ``HTTP2Session/resumeData(_:)`` says when there is.
        case later
        /// The last DATA frame, after which trailers go out.
        case trailers
        /// The last DATA frame ends the stream.
        case stream
    }

    var bytes: Int
    var ending: Ending
}
