package import ApusBase
internal import ApusEventLoop

/// A call as the channel knows it, apart from the attempts at it: what every shape of call has.
///
///     new ──begin──▶ pending ──a stream is opened──▶ open ──status | reset | cancel | deadline──▶ ended
///                       ▲────────refused, or never sent────────┘                                   ▲
///                       └──────────────cancel | deadline | no connection───────────────────────────┘
///
/// An attempt is a ``ClientStream``; a call that the server has certainly not seen gets another one (transparent retry,
/// gRFC A6). What the application holds is built on the two subclasses, ``UnaryCall`` and ``StreamingCall``.
///
/// Sendable, because `core` is touched on the channel's loop alone, and `setup` is not written once the call has
/// begun.
package class ClientCall: TimerHandler, @unchecked Sendable {
    enum Phase { case new, pending, open, ended }

    /// Written before the call begins, and then read, from any thread. Apart from ``Core``, so that no reader is in the
    /// way of the loop.
    struct Setup {
        var method: MethodDescriptor
        var options: CallOptions
        var deadline: MonotonicInstant
        /// That of the request's messages.
        var requestEncoding = MessageEncodings.identity
    }

    /// What the loop keeps of the call.
    struct Core {
        var phase = Phase.new
        var session: ClientSession?
        var stream: ClientStreamHandle?
        var timer = EventLoop.TimerID.none
        /// A server refused the call once: the one transparent retry that follows is used up.
        var wasRefused = false
        /// Why the call ends as soon as it begins.
        var abandonedEarly: RPCError?
        /// The neighbours in the channel's list of calls that wait for a stream; no longer than they are in it.
        var nextPending: ClientCall?
        var previousPending: ClientCall?
    }

    let channel: ClientChannel
    let setup: Confined<Setup>
    let core = Confined(Core())

    init(_ channel: ClientChannel, _ method: MethodDescriptor, _ options: CallOptions) {
        self.channel = channel
        setup = Confined(Setup(method: method, options: options, deadline: channel.deadline(of: options)))
    }

    deinit {
        setup.destroy()
        core.destroy()
    }

    final var loop: EventLoop { channel.loop }

    package final var method: MethodDescriptor { setup.value.method }

    final var maxResponseBytes: Int { setup.value.options.maxResponseBytes ?? channel.limits.maxResponseBytes }

    final var maxRequestBytes: Int { setup.value.options.maxRequestBytes ?? channel.limits.maxRequestBytes }

    // MARK: Events of an attempt, on the loop; for a subclass

    /// A stream was opened for the call: what it has to say goes to the stream's queue.
    func attached(_ stream: ClientStreamHandle) {}
    /// The response's head came.
    func headReceived(_ metadata: Metadata) {}
    /// A response message came.
    func messageReceived(_ message: consuming [UInt8]) {}
    /// A response message came, compressed.
    func messageReceived(_ message: consuming [UInt8], encoding: MessageEncodings.Index) {}
    /// What was read at once has been delivered; of the next message a part may be here.
    func partReceived(isMidMessage: Bool) {}
    /// Bytes of the call's queue were framed.
    func bytesSent(_ count: Int) {}
    /// The call has its end; nothing comes after it.
    func ended(_ end: CallEnd) {}
    /// Other threads have something for the call.
    func newsFromElsewhere() {}
    /// Whether another attempt could say all that this one did.
    var mayBeRetried: Bool { true }

    // MARK: The life of a call, on the loop

    /// Begins the call: it finds its place on a connection, or waits for one.
    final func begin() {
        guard core.value.phase == .new else { return }
        channel.callBegan()
        channel.noteCallStarted()
        core.value.phase = .pending
        if let error = core.value.abandonedEarly.take() { return finish(CallEnd(error: error, isUnwanted: true)) }
        if setup.value.deadline != .distantFuture {
            guard setup.value.deadline > loop.now else { return finish(.failed(deadlineExceeded(nil))) }
            core.value.timer = loop.schedule(at: setup.value.deadline, handler: self)
        }
        channel.place(self)
    }

    /// An attempt begins.
    @inline(__always)
    final func opened(_ stream: ClientStreamHandle, on session: ClientSession) {
        core.value.phase = .open
        core.value.stream = stream
        core.value.session = session
        attached(stream)
    }

    /// The server has certainly not processed the call: it may be tried again as if nothing had been.
    ///
    /// A call that never reached the wire tries until its deadline; one that a server refused does so once.
    final func tryAgain(neverSent: Bool, _ error: RPCError) {
        guard core.value.phase == .open else { return }
        guard mayBeRetried, neverSent || !core.value.wasRefused else { return finish(.failed(error)) }
        if !neverSent { core.value.wasRefused = true }
        core.value.phase = .pending
        core.value.stream = nil
        core.value.session = nil
        channel.place(self, isRetry: true)
    }

    /// Ends the call from this side: cancelled, out of time, or the channel was closed.
    final func abandon(_ error: RPCError) {
        guard core.value.phase != .ended else { return }
        guard core.value.phase != .new else {
            // The caller is about to begin it, and waits for its end from then on.
            core.value.abandonedEarly = error
            return
        }
        if let stream = core.value.stream, let session = core.value.session { session.abandon(stream) }
        finish(CallEnd(error: error, isUnwanted: true))
    }

    /// The call has its end. Its stream, if it had one, has let go of it.
    final func finish(_ end: CallEnd) {
        let phase = core.value.phase
        guard phase != .ended else { return }
        // Whatever came, or failed: the caller gave it until then (rule of gRPC's deadlines). A call that has not begun
        // may find that its loop has ended.
        if phase != .new, setup.value.deadline <= loop.now, !end.isUnwanted {
            conclude(.failed(deadlineExceeded(nil)), phase)
        } else {
            conclude(end, phase)
        }
    }

    @inline(__always)
    private final func conclude(_ end: CallEnd, _ phase: Phase) {
        core.value.phase = .ended
        if phase == .pending { channel.removePending(self) }
        if core.value.timer != .none {
            loop.cancel(core.value.timer)
            core.value.timer = .none
        }
        core.value.stream = nil
        core.value.session = nil
        ended(end)
        guard phase != .new else { return }
        channel.noteCallEnded(isSuccess: end.error == nil)
        channel.callEnded()
    }

    package final func timerFired(tag: UInt64) {
        core.value.timer = .none
        abandon(deadlineExceeded(core.value.phase == .pending ? channel.whatPendingCallsWaitFor : nil))
    }

    final func deadlineExceeded(_ detail: String?) -> RPCError {
        let message = "the deadline passed" + (detail.map { " while the call waited for \($0)" } ?? "")
        return RPCError(code: .deadlineExceeded, message: message)
    }

    // MARK: From any thread

    /// Cancels the call: it ends with `CANCELLED`, and its stream is reset. Harmless when it has ended.
    package final func cancel() {
        givenUp()
        // Through the queue even on the loop: whoever cancels may be in the middle of something there.
        loop.execute {
            self.abandon(Self.cancelled)
            self.core.announceHandOver()
        }
    }

    /// The application has given the call up, which the loop learns later.
    func givenUp() {}

    static let cancelled = RPCError(code: .cancelled, message: "the call was cancelled")
}

/// How a call ended.
struct CallEnd: Sendable {
    /// `nil` for OK.
    var error: RPCError?
    /// The trailing metadata of a call that succeeded; an error has its own.
    var trailers = Metadata()

    static func failed(_ error: RPCError) -> CallEnd { CallEnd(error: error) }

    /// The application gave the call up, or its time is over: nobody wants the messages that are still here.
    var isUnwanted = false
}
