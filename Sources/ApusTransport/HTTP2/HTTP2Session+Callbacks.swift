internal import ApusBase
internal import CNghttp2

/// The C functions that nghttp2 calls, and the objects it is opened with.
///
/// SAFETY, for all of them: nghttp2 calls back only inside calls that an `HTTP2Session` makes, with the pointer to that
/// session as user data, so the session is alive; frames and byte ranges are valid for the length of the callback.
@safe
enum HTTP2Callbacks {
    private static let frameTypeData: UInt8 = 0
    private static let frameTypeHeaders: UInt8 = 1
    private static let frameTypeReset: UInt8 = 3
    private static let frameTypeSettings: UInt8 = 4
    private static let frameTypePing: UInt8 = 6
    private static let frameTypeGoAway: UInt8 = 7
    private static let frameTypeWindowUpdate: UInt8 = 8
    private static let flagEndStream: UInt8 = 1
    private static let flagPadded: UInt8 = 8
    private static let flagAck: UInt8 = 1
    private static let goAwayTextBytesMax = 256

    /// From this size on a DATA frame's payload is copied once, into the output, and not by way of nghttp2's own
    /// buffer.
    private static let directCopyBytesMin = 1024

    /// The frame as one of the kinds of the union that it is; each begins with the header. Field by field through the
    /// union the whole of it would be copied.
    @inline(__always)
    private static func view<Kind>(_ frame: UnsafePointer<nghttp2_frame>, as kind: Kind.Type) -> UnsafePointer<Kind> {
        // SAFETY: the caller has looked at the type in the header, which every kind begins with.
        unsafe UnsafeRawPointer(frame).assumingMemoryBound(to: Kind.self)
    }

    @inline(__always)
    private static func withSession<Result>(
        _ userData: UnsafeMutableRawPointer?,
        _ body: (HTTP2Session) -> Result
    ) -> Result? {
        // SAFETY: see the type's comment.
        guard let userData = unsafe userData else { return nil }
        return unsafe Unmanaged<HTTP2Session>.fromOpaque(userData)._withUnsafeGuaranteedRef(body)
    }

    private static let onBeginHeaders: nghttp2_on_begin_headers_callback = { _, frame, userData in
        // SAFETY: see the type's comment.
        guard let frame = unsafe frame else { return 0 }
        let streamID = unsafe view(frame, as: nghttp2_frame_hd.self).pointee.stream_id
        let isRequest = unsafe view(frame, as: nghttp2_headers.self).pointee.cat == NGHTTP2_HCAT_REQUEST
        unsafe withSession(userData) { session in
            switch session.role {
            case .server: session.requestFieldsBegan(streamID, isHead: isRequest)
            case .client: session.responseFieldsBegan(streamID)
            }
        }
        return 0
    }

    private static let onHeader: nghttp2_on_header_callback2 = { _, _, name, value, _, userData in
        // SAFETY: see the type's comment.
        guard let name = unsafe name, let value = unsafe value, let userData = unsafe userData else { return 0 }
        return unsafe Unmanaged<HTTP2Session>.fromOpaque(userData)._withUnsafeGuaranteedRef { session in
            unsafe session.received(CountedBytes(name), CountedBytes(value))
        }
    }

    /// Has nghttp2 go on behind the block of header fields that it is in.
    static let abandonedBlock = NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue

    private static let onInvalidHeader: nghttp2_on_invalid_header_callback = { _, frame, _, _, _, _, _, userData in
        // SAFETY: see the type's comment.
        guard let frame = unsafe frame else { return 0 }
        let streamID = unsafe frame.pointee.hd.stream_id
        unsafe withSession(userData) { session in
            if let stream = session.context(of: streamID) { session.invalidFieldReceived(stream) }
        }
        return abandonedBlock
    }

    private static let onFrameReceived: nghttp2_on_frame_recv_callback = { _, frame, userData in
        // SAFETY: see the type's comment.
        guard let frame = unsafe frame else { return 0 }
        let header = unsafe view(frame, as: nghttp2_frame_hd.self).pointee
        return unsafe withSession(userData) { session -> CInt in
            switch header.type {
            case frameTypeData where header.flags & flagEndStream != 0:
                if let stream = session.context(of: header.stream_id) { session.endReceived(stream) }
            case frameTypeData:
                // Most frames of a body end here, without a call.
                if header.length == 0 || header.flags & flagPadded != 0 { return unsafe noteEmptiness(frame, session) }
            case frameTypeHeaders:
                guard let stream = session.context(of: header.stream_id) else { return 0 }
                let endStream = header.flags & flagEndStream != 0
                if session.role == .client {
                    session.responseFieldsEnded(stream, endStream: endStream)
                } else if unsafe view(frame, as: nghttp2_headers.self).pointee.cat == NGHTTP2_HCAT_REQUEST {
                    session.headEnded(stream, endStream: endStream)
                } else {
                    session.trailersReceived(stream)
                }
            default:
                return unsafe noteControlFrame(frame, session)
            }
            return 0
        } ?? 0
    }

    /// A DATA frame that may have nothing in it but padding. An error when the peer is to be cut off.
    @inline(never)
    private static func noteEmptiness(_ frame: UnsafePointer<nghttp2_frame>, _ session: HTTP2Session) -> CInt {
        // SAFETY: see the type's comment. `padlen` counts the byte that says how much padding there is.
        let data = unsafe view(frame, as: nghttp2_data.self).pointee
        if data.hd.length > data.padlen { return 0 }
        session.controlFrameReceived(.emptyData)
        return session.isCutOff ? NGHTTP2_ERR_CALLBACK_FAILURE.rawValue : 0
    }

    /// Any frame but DATA and HEADERS. An error when the peer is to be cut off.
    @inline(never)
    private static func noteControlFrame(_ frame: UnsafePointer<nghttp2_frame>, _ session: HTTP2Session) -> CInt {
        // SAFETY: see the type's comment.
        let header = unsafe view(frame, as: nghttp2_frame_hd.self).pointee
        let isAck = header.flags & flagAck != 0
        switch header.type {
        case frameTypeReset: session.resetReceived(session.context(of: header.stream_id))
        case frameTypeWindowUpdate: session.controlFrameReceived(.windowUpdate)
        case frameTypeSettings where !isAck:
            session.controlFrameReceived(.settings)
            session.settingsReceived()
        case frameTypePing where !isAck: session.controlFrameReceived(.ping)
        case frameTypePing:
            session.controlFrameReceived(.other)
            session.pingAcknowledged()
        case frameTypeGoAway:
            session.controlFrameReceived(.other)
            unsafe noteGoAwayReceived(view(frame, as: nghttp2_goaway.self).pointee, session)
        default: session.controlFrameReceived(.other)
        }
        return session.isCutOff ? NGHTTP2_ERR_CALLBACK_FAILURE.rawValue : 0
    }

    private static let onDataChunk: nghttp2_on_data_chunk_recv_callback = { _, _, streamID, data, count, userData in
        // SAFETY: see the type's comment.
        guard let data = unsafe data else { return 0 }
        unsafe withSession(userData) { session in
            session.received(unsafe Span(_unsafeStart: data, count: count), on: streamID)
        }
        return 0
    }

    private static let onStreamClose: nghttp2_on_stream_close_callback = { _, streamID, code, userData in
        // SAFETY: see the type's comment.
        unsafe withSession(userData) { $0.closed(streamID, code) }
        return 0
    }

    private static let onFrameSent: nghttp2_on_frame_send_callback = { _, frame, userData in
        // SAFETY: see the type's comment.
        guard let frame = unsafe frame else { return 0 }
        let header = unsafe view(frame, as: nghttp2_frame_hd.self).pointee
        if header.type == frameTypeHeaders {
            let endStream = header.flags & flagEndStream != 0
            unsafe withSession(userData) { session in
                guard endStream || session.role == .client, let stream = session.context(of: header.stream_id) else {
                    return
                }
                if endStream { session.endOfHeadersSent(stream) } else { session.requestSent(stream) }
            }
        } else if header.type != frameTypeData {
            unsafe noteControlFrameSent(frame, userData)
        }
        return 0
    }

    @inline(never)
    private static func noteControlFrameSent(
        _ frame: UnsafePointer<nghttp2_frame>,
        _ userData: UnsafeMutableRawPointer?
    ) {
        // SAFETY: see the type's comment.
        switch unsafe view(frame, as: nghttp2_frame_hd.self).pointee.type {
        case frameTypeReset:
            let code = unsafe view(frame, as: nghttp2_rst_stream.self).pointee.error_code
            unsafe withSession(userData) { $0.resetSent(HTTP2ErrorCode(rawValue: code)) }
        case frameTypeGoAway:
            let frame = unsafe view(frame, as: nghttp2_goaway.self).pointee
            let text = unsafe debugData(of: frame)
            unsafe withSession(userData) { unsafe $0.goAwaySent(HTTP2ErrorCode(rawValue: frame.error_code), text) }
        default: break
        }
    }

    @inline(never)
    private static func noteGoAwayReceived(_ frame: nghttp2_goaway, _ session: HTTP2Session) {
        // SAFETY: see the type's comment.
        unsafe session.goAwayReceived(
            HTTP2ErrorCode(rawValue: frame.error_code),
            lastStreamID: frame.last_stream_id,
            debugData: debugData(of: frame)
        )
    }

    /// What a GOAWAY says in words; of a peer that says much, the beginning.
    private static func debugData(of frame: nghttp2_goaway) -> String {
        // SAFETY: see the type's comment.
        let count = unsafe min(frame.opaque_data_len, goAwayTextBytesMax)
        let bytes = unsafe UnsafeRawBufferPointer(start: frame.opaque_data, count: count)
        return unsafe String(peerText: bytes)
    }

    private static let onFrameNotSent: nghttp2_on_frame_not_send_callback = { _, frame, code, userData in
        // SAFETY: see the type's comment; nghttp2_strerror returns constants.
        // Header fields behind a reset, or the end of the session, are nobody's fault.
        let isOvertaken =
            code == NGHTTP2_ERR_STREAM_CLOSING.rawValue || code == NGHTTP2_ERR_STREAM_CLOSED.rawValue
            || code == NGHTTP2_ERR_SESSION_CLOSING.rawValue
        if isOvertaken { return 0 }
        guard let header = unsafe frame?.pointee.hd, header.type == frameTypeHeaders else { return 0 }
        unsafe withSession(userData) { session in
            if let stream = session.context(of: header.stream_id) {
                session.headersNotSent(stream, reason: unsafe String(cString: nghttp2_strerror(code)))
            }
        }
        return 0
    }

    static let readData: nghttp2_data_source_read_callback = { _, _, buffer, bytesMax, flags, source, userData in
        // SAFETY: see the type's comment; the source is the context that `submitResponse` gave, alive until the stream
        // closes; nghttp2 gives a buffer of `bytesMax`.
        guard let buffer = unsafe buffer, let flags = unsafe flags, let pointer = unsafe source?.pointee.ptr else {
            return Int(NGHTTP2_ERR_CALLBACK_FAILURE.rawValue)
        }
        let stream = unsafe StreamContext(pointer)
        return unsafe withSession(userData) { session in
            let plan = session.planData(stream, bytesMax: bytesMax)
            switch plan.ending {
            case .more:
                break
            case .later:
                if plan.bytes == 0 { return Int(NGHTTP2_ERR_DEFERRED.rawValue) }
            case .trailers:
                unsafe flags.pointee = NGHTTP2_DATA_FLAG_EOF.rawValue | NGHTTP2_DATA_FLAG_NO_END_STREAM.rawValue
                session.trailersWanted(stream)
            case .stream:
                unsafe flags.pointee = NGHTTP2_DATA_FLAG_EOF.rawValue
            }
            if plan.bytes >= directCopyBytesMin {
                unsafe flags.pointee |= NGHTTP2_DATA_FLAG_NO_COPY.rawValue
            } else if plan.bytes > 0 {
                unsafe session.copyData(stream, into: UnsafeMutableRawBufferPointer(start: buffer, count: plan.bytes))
            }
            return plan.bytes
        } ?? Int(NGHTTP2_ERR_CALLBACK_FAILURE.rawValue)
    }

    private static let sendData: nghttp2_send_data_callback = { _, _, frameHeader, bytes, source, userData in
        // SAFETY: see `readData`; the frame header is nine bytes, and padding is never asked for.
        guard let frameHeader = unsafe frameHeader, let pointer = unsafe source?.pointee.ptr else {
            return NGHTTP2_ERR_CALLBACK_FAILURE.rawValue
        }
        let stream = unsafe StreamContext(pointer)
        let written = unsafe withSession(userData) { session in
            unsafe session.writeData(stream, frameHeader: frameHeader, bytes: bytes)
        }
        return written == true ? 0 : NGHTTP2_ERR_WOULDBLOCK.rawValue
    }

    private static let onError: nghttp2_error_callback2 = { _, _, message, count, userData in
        // SAFETY: see the type's comment.
        guard let message = unsafe message else { return 0 }
        // It quotes what the peer sent.
        let text = unsafe String(peerText: UnsafeRawBufferPointer(start: message, count: count))
        unsafe withSession(userData) { $0.diagnosed(text) }
        return 0
    }

    /// The callbacks for a session, which copies them.
    fileprivate static func makeCallbacks() -> OpaquePointer? {
        // SAFETY: `callbacks` is set by a successful call alone.
        var callbacks: OpaquePointer?
        guard unsafe nghttp2_session_callbacks_new(&callbacks) == 0, let callbacks = unsafe callbacks else {
            return nil
        }
        unsafe nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, onBeginHeaders)
        unsafe nghttp2_session_callbacks_set_on_header_callback2(callbacks, onHeader)
        unsafe nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks, onInvalidHeader)
        unsafe nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, onFrameReceived)
        unsafe nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, onDataChunk)
        unsafe nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, onStreamClose)
        unsafe nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, onFrameSent)
        unsafe nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, onFrameNotSent)
        unsafe nghttp2_session_callbacks_set_send_data_callback(callbacks, sendData)
        unsafe nghttp2_session_callbacks_set_error_callback2(callbacks, onError)
        return unsafe callbacks
    }
}

extension HTTP2Session {
    /// A session of nghttp2 with our callbacks and options, or `nil` when memory is out.
    static func open(role: Role, memory: HTTP2Memory, owner: UnsafeMutableRawPointer) -> OpaquePointer? {
        // SAFETY: nghttp2 copies callbacks, options and functions; `owner` is the session object, which holds `memory`,
        // see its comment.
        guard let callbacks = unsafe HTTP2Callbacks.makeCallbacks() else { return nil }
        defer { unsafe nghttp2_session_callbacks_del(callbacks) }
        var options: OpaquePointer?
        guard unsafe nghttp2_option_new(&options) == 0, let options = unsafe options else { return nil }
        defer { unsafe nghttp2_option_del(options) }
        // The windows are credited by the application's reading, not by arrival.
        unsafe nghttp2_option_set_no_auto_window_update(options, 1)
        // Values with white space at an edge would be dropped without a word (RFC 9113 §8.2.1 lets us take them).
        unsafe nghttp2_option_set_no_rfc9113_leading_and_trailing_ws_validation(options, 1)
        // What is kept of closed streams serves the priorities of RFC 7540, which are off.
        unsafe nghttp2_option_set_no_closed_streams(options, 1)
        // What nghttp2 would let us send is 64 KiB; the limit that counts is the peer's, and is held above.
        unsafe nghttp2_option_set_max_send_header_block_length(options, 16 * 1024 * 1024)
        // nghttp2's own limit ends honest clients that cancel much; ours counts running handlers, and cancellations
        // of calls that were not answered.
        unsafe nghttp2_option_set_stream_reset_rate_limit(options, 1_000_000, 1_000_000)
        // Its limit of answers that wait is one that a single read may pass: ours looks after each read.
        unsafe nghttp2_option_set_max_outbound_ack(options, 10_000)
        var session: OpaquePointer?
        var functions = unsafe memory.functions
        let result =
            switch role {
            case .server: unsafe nghttp2_session_server_new3(&session, callbacks, owner, options, &functions)
            case .client: unsafe nghttp2_session_client_new3(&session, callbacks, owner, options, &functions)
            }
        return result == 0 ? unsafe session : nil
    }
}
