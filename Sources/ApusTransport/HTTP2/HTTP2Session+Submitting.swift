internal import ApusBase
internal import CNghttp2

// MARK: - What the owner asks for

extension HTTP2Session {
    /// Sends the head of a response; its body comes from ``planData(_:bytesMax:)``.
    final func submitResponse(_ streamID: Int32, _ stream: StreamContext, head: borrowing HeaderFields) {
        // SAFETY: see `session`; the context is the owner's and lives until `streamClosed`.
        guard let session = unsafe session else { return }
        var body = unsafe nghttp2_data_provider(
            source: nghttp2_data_source(ptr: stream.pointer),
            read_callback: HTTP2Callbacks.readData
        )
        unsafe head.withNameValues { fields, count in
            _ = unsafe nghttp2_submit_response(session, streamID, fields, count, &body)
        }
    }

    /// Sends the head of every ordinary response: status 200 and the content type of gRPC.
    final func submitUsualResponse(_ streamID: Int32, _ stream: StreamContext) {
        // SAFETY: see `submitResponse`; the fields are constants that are never freed.
        guard let session = unsafe session else { return }
        var body = unsafe nghttp2_data_provider(
            source: nghttp2_data_source(ptr: stream.pointer),
            read_callback: HTTP2Callbacks.readData
        )
        _ = unsafe nghttp2_submit_response(session, streamID, ConstantFields.responseHead.start, 2, &body)
    }

    /// Sends a response that is a head and nothing else.
    final func submitResponseWithoutBody(_ streamID: Int32, head: borrowing HeaderFields) {
        // SAFETY: see `session`.
        guard let session = unsafe session else { return }
        unsafe head.withNameValues { fields, count in
            _ = unsafe nghttp2_submit_response(session, streamID, fields, count, nil)
        }
    }

    /// Sends trailers, which end the stream; called from ``trailersWanted(_:)``.
    final func submitTrailers(_ streamID: Int32, _ fields: borrowing HeaderFields) {
        // SAFETY: see `session`.
        guard let session = unsafe session else { return }
        unsafe fields.withNameValues { fields, count in
            _ = unsafe nghttp2_submit_trailer(session, streamID, fields, count)
        }
    }

    /// Sends the trailers of a call that succeeded: `grpc-status: 0`.
    final func submitUsualTrailers(_ streamID: Int32) {
        // SAFETY: see `session`; the field is a constant that is never freed.
        guard let session = unsafe session else { return }
        _ = unsafe nghttp2_submit_trailer(session, streamID, ConstantFields.trailers.start, 1)
    }

    /// Opens a stream: the fields that all requests of a method share, those of this one, and a body from
    /// ``planData(_:bytesMax:)``.
    ///
    /// - Returns: the stream's id; `nil` when the connection has used up its ids, or memory is out.
    final func submitRequest(
        _ stream: StreamContext,
        template: RequestTemplate,
        fields: borrowing HeaderFields
    ) -> Int32? {
        // SAFETY: see `session`; the context is the owner's and lives until `streamClosed`; the template's fields live
        // as long as the stream, or the channel, which outlives its sessions; the others are copied.
        guard let session = unsafe session else { return nil }
        var body = unsafe nghttp2_data_provider(
            source: nghttp2_data_source(ptr: stream.pointer),
            read_callback: HTTP2Callbacks.readData
        )
        let streamID: Int32
        if fields.isEmpty {
            streamID = unsafe nghttp2_submit_request(
                session,
                nil,
                template.start,
                template.count,
                &body,
                stream.pointer
            )
        } else {
            streamID = unsafe fields.withNameValues(after: template) { fields, count in
                unsafe nghttp2_submit_request(session, nil, fields, count, &body, stream.pointer)
            }
        }
        return streamID > 0 ? streamID : nil
    }

    /// Whether new requests can be sent: the connection is not about to end.
    final var mayRequest: Bool {
        // SAFETY: see `session`.
        guard let session = unsafe session else { return false }
        return unsafe nghttp2_session_check_request_allowed(session) != 0
    }

    /// Begins with another stream id than 1: how a test comes to the end of them.
    final func skipStreamIDs(to id: Int32) {
        // SAFETY: see `session`.
        guard let session = unsafe session else { return }
        _ = unsafe nghttp2_session_set_next_stream_id(session, id)
    }

    /// How many streams the peer lets us have open at once (SETTINGS_MAX_CONCURRENT_STREAMS).
    final var peerMaxConcurrentStreams: Int {
        // SAFETY: see `session`.
        guard let session = unsafe session else { return 0 }
        return unsafe Int(nghttp2_session_get_remote_settings(session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS))
    }

    /// There is data again for a stream whose plan said "later".
    final func resumeData(_ streamID: Int32) {
        // SAFETY: see `session`.
        guard let session = unsafe session else { return }
        _ = unsafe nghttp2_session_resume_data(session, streamID)
    }

    /// Ends a stream at once, ahead of what it has queued. Harmless when it is gone.
    final func reset(_ streamID: Int32, _ code: HTTP2ErrorCode) {
        // SAFETY: see `session`.
        guard let session = unsafe session else { return }
        _ = unsafe nghttp2_submit_rst_stream(session, UInt8(NGHTTP2_FLAG_NONE.rawValue), streamID, code.rawValue)
    }

    /// Gives a stream the same share as every other, whatever its peer asked for (RFC 9218): urgency 3, incremental.
    ///
    /// Without it nghttp2 sends one stream of a connection to its end before the next.
    final func shareFairly(_ streamID: Int32) {
        // SAFETY: see `session`; the structure is read during the call.
        guard let session = unsafe session else { return }
        var priority = nghttp2_extpri(urgency: 3, inc: 1)
        _ = unsafe nghttp2_session_change_extpri_stream_priority(session, streamID, &priority, 1)
    }

    /// The application took `bytes` of a stream: the peer may send as many more.
    final func creditStream(_ streamID: Int32, bytes: Int) {
        // SAFETY: see `session`.
        guard let session = unsafe session, bytes > 0 else { return }
        _ = unsafe nghttp2_session_consume_stream(session, streamID, bytes)
    }

    /// Tells the peer that the connection is about to close, while streams that it begins meanwhile are still served
    /// (RFC 9113 §6.8): GOAWAY with the highest id.
    final func announceShutdown() {
        // SAFETY: see `session`.
        guard let session = unsafe session else { return }
        _ = unsafe nghttp2_submit_shutdown_notice(session)
    }

    /// Refuses streams after the last one seen: the second GOAWAY. The session is finished when the streams are.
    final func refuseNewStreams(_ code: HTTP2ErrorCode = .noError, debugData: String = "") {
        // SAFETY: see `session`; nghttp2 copies the debug data.
        guard let session = unsafe session else { return }
        let last = unsafe nghttp2_session_get_last_proc_stream_id(session)
        let data = Array(debugData.utf8)
        _ = unsafe data.withUnsafeBufferPointer { data in
            unsafe nghttp2_submit_goaway(
                session,
                UInt8(NGHTTP2_FLAG_NONE.rawValue),
                last,
                code.rawValue,
                data.baseAddress,
                data.count
            )
        }
    }

    /// Ends the connection: GOAWAY goes out, and nothing after it is read or sent.
    final func terminate(_ code: HTTP2ErrorCode) {
        // SAFETY: see `session`.
        guard let session = unsafe session else { return }
        _ = unsafe nghttp2_session_terminate_session(session, code.rawValue)
    }

    /// The last stream that the peer began.
    final var lastStreamID: Int32 {
        // SAFETY: see `session`.
        guard let session = unsafe session else { return 0 }
        return unsafe nghttp2_session_get_last_proc_stream_id(session)
    }

    /// How many bytes the peer lets us send on the connection; `nil` when the session is closed.
    final var sendWindowBytes: Int? {
        // SAFETY: see `session`.
        guard let session = unsafe session else { return nil }
        return unsafe Int(nghttp2_session_get_remote_window_size(session))
    }

    /// How many bytes we let the peer send on the connection; `nil` when the session is closed.
    final var receiveWindowBytes: Int? {
        // SAFETY: see `session`.
        guard let session = unsafe session else { return nil }
        return unsafe Int(nghttp2_session_get_local_window_size(session))
    }

    final func submitPing() {
        // SAFETY: see `session`.
        guard let session = unsafe session else { return }
        _ = unsafe nghttp2_submit_ping(session, UInt8(NGHTTP2_FLAG_NONE.rawValue), nil)
    }

    /// The largest header list that the peer takes (RFC 9113 §6.5.2), or `nil` when it did not say.
    final var peerMaxHeaderListBytes: Int? {
        // SAFETY: see `session`.
        guard let session = unsafe session else { return nil }
        let value = unsafe nghttp2_session_get_remote_settings(session, NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE)
        return value == UInt32.max ? nil : Int(value)
    }

    final func submitInitialSettings() {
        // SAFETY: see `session`; the entries are read during the call.
        guard let session = unsafe session else { return }
        func entry(_ id: nghttp2_settings_id, _ value: UInt32) -> nghttp2_settings_entry {
            nghttp2_settings_entry(settings_id: Int32(id.rawValue), value: value)
        }
        // What a client says of streams would be for those that a server pushes, and there are none.
        let maxStreams =
            role == .server ? [entry(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, settings.streamsUntilFault)] : []
        let entries =
            maxStreams + [
                entry(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, UInt32(clamping: settings.streamWindowBytes)),
                entry(NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, UInt32(clamping: settings.maxHeaderListBytes)),
                entry(NGHTTP2_SETTINGS_ENABLE_PUSH, 0),
                entry(NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1),
            ]
        let none = UInt8(NGHTTP2_FLAG_NONE.rawValue)
        _ = unsafe entries.withUnsafeBufferPointer { entries in
            unsafe nghttp2_submit_settings(session, none, entries.baseAddress, entries.count)
        }
        _ = unsafe nghttp2_session_set_local_window_size(session, none, 0, settings.connectionWindowBytes)
    }
}
