internal import TestSupport

extension FuzzTarget {
    /// A whole server connection: whatever a client sends, what comes back is HTTP/2, credit is given for what was
    /// sent and no more, each sound request is answered as its handler means it, and nothing is left of it all.
    static let serverConnection = FuzzTarget(
        name: "server-frames",
        seeds: { serverSeeds },
        run: { bytes in try Stage.shared.perform { ServerPlay(bytes, $0) } }
    )

    /// Bytes to a server session: the answers do not depend on how they come.
    static let serverBytes = FuzzTarget(
        name: "server-bytes",
        seeds: { serverBytesSeeds },
        run: { bytes in try Stage.shared.perform { SegmentPlay(bytes, $0) } }
    )

    /// A whole channel: whatever a server sends, what it is sent is HTTP/2, each call has one end, the one that a sound
    /// answer says, and nothing is left of it all.
    static let clientConnection = FuzzTarget(
        name: "client-frames",
        seeds: { clientSeeds },
        run: { bytes in try Stage.shared.perform { ClientPlay(bytes, $0) } }
    )

    /// Bytes to a channel with calls under way: how those end does not depend on how the bytes come.
    static let clientBytes = FuzzTarget(
        name: "client-bytes",
        seeds: { clientBytesSeeds },
        run: { bytes in try Stage.shared.perform { ClientBytesPlay(bytes, $0) } }
    )
}

private let serverSeeds: [[UInt8]] = [
    // A unary call, then one whose head repeats.
    [0, 0x40, 0, 0, 3, 0, 13, 1, 17, 2, 13, 1, 0, 0, 1, 0, 5, 1, 2, 3, 4, 5, 0],
    [0, 0, 0, 2, 2, 0, 13, 2, 17, 1, 0, 0, 0, 3, 1, 2, 3, 0, 0x40, 0, 2, 2, 0, 13, 2, 17, 1, 0, 0, 1, 0, 3, 1, 2, 3],
    // Streams in pieces.
    [0, 0, 0, 5, 0, 0, 0, 0, 0, 0x50, 0, 0, 4, 9, 9, 9, 9, 0, 0, 0x50, 0, 0, 2, 1, 1, 0, 201],
    [9, 0, 0, 9, 0, 0, 0, 0, 0, 0x40, 0x70, 200, 0x50, 0, 0, 2, 7, 7, 210, 0x40, 0x77],
    // Resets, deadlines, shutdown.
    [4, 0, 0, 7, 0, 0, 0, 0, 0, 0x62, 0, 8, 0, 0, 8, 0, 0, 0, 0, 1, 0, 2, 1, 2, 0, 0x77, 0x75, 0x70, 255, 255],
    [2, 0, 0, 6, 0, 0, 0, 0, 1, 0, 3, 5, 65, 66, 0, 0x66, 0, 0, 0x66, 1, 4, 0, 1, 0, 0, 3],
]

/// Streams of frames as a client sends them.
private let serverBytesSeeds: [[UInt8]] = {
    let head = Frame.headers(1, .request("/t/Unary", ["x": "1", "x-bin": "QUI"]))
    let message = framed(Array("hello".utf8))
    let transcripts: [[Frame]] = [
        [head, .data(1, message, endStream: true)],
        [.headers(1, .request("/t/Sync"), endStream: true)],
        [
            .headers(1, .request("/t/Update")), .data(1, Array(message.prefix(3))), .headers(3, .request("/t/Collect")),
            .data(1, Array(message.dropFirst(3))), .data(3, message + message, endStream: true),
            .data(1, [], endStream: true),
        ],
        [head, .data(1, message), .reset(1, code: 8), .ping("x"), .windowUpdate(0, by: 9), .settings([4: 10])],
        [
            head, .data(1, framed([1], flag: 1), endStream: true),
            .headers(3, .request("/t/Fail", ["grpc-timeout": "1m"])),
        ],
        [
            .headers(1, .request("/t/Expand")), .data(1, message, endStream: true),
            .headers(1, ["x": "1"], endStream: true),
        ],
    ]
    var encoder = IndexingEncoder()
    let indexed = [UInt32(1), 3, 5].flatMap { stream -> [Frame] in
        let head = encoder.frame(stream, .request("/t/Show", ["x": "1"]))
        return [head, .data(stream, message, endStream: true)]
    }
    return (transcripts + [indexed]).map { [3] + $0.bytes }
}()

private let clientSeeds: [[UInt8]] = [
    // Calls, and sound answers.
    [0, 0x40, 0, 0x40, 0, 0x52, 0, 0, 0, 0x52, 5, 2, 65, 66, 1, 10, 13, 0x52, 0, 0, 2, 10, 13, 12, 17],
    [0, 0x40, 1, 0x4C, 0, 2, 3, 1, 2, 3, 0x5E, 0, 1, 0, 2, 0, 0, 200, 0, 0x64, 0, 0, 3, 7, 7, 7, 0, 0x4C, 0, 1, 0],
    // Refusals, resets, GOAWAY, a lost connection, deadlines.
    [0, 0x40, 0, 0x40, 0, 0x6A, 0, 7, 0x6A, 1, 8, 0x40, 1, 0x6E, 4, 1, 0, 0, 0x77, 0x40, 32, 0x52, 0, 0, 0, 0],
    [0x30, 0x40, 8, 5, 0x40, 16, 2, 10, 13, 12, 17, 0x74, 1, 0, 0x52, 3, 0, 0, 0x77],
    [7, 0x40, 1, 0x4C, 0, 3, 9, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0x76, 0x5E, 0, 0, 1, 0, 0, 0x64, 0, 225, 1, 250, 0, 0],
]

/// Streams of frames as a server sends them, to calls on the streams 1 to 9, of which the last three are unary.
private let clientBytesSeeds: [[UInt8]] = {
    let head = Fields.responseHead
    let message = framed(Array("hello".utf8))
    let trailers = Fields.trailers(0) + ["x": "1", "x-bin": "QUI"]
    func answer(_ stream: UInt32) -> [Frame] {
        [.headers(stream, head), .data(stream, message), .headers(stream, trailers, endStream: true)]
    }
    let transcripts: [[Frame]] = [
        answer(1) + answer(3) + answer(5) + answer(7) + answer(9),
        [.headers(1, head + .trailers(5, "caf%C3%A9"), endStream: true), .reset(3, code: 8), .reset(5, code: 7)],
        [.headers(7, head), .data(7, Array(message.prefix(4))), .data(7, Array(message.dropFirst(4)) + message)],
        [.headers(1, [":status": "503"], endStream: true), .headers(3, [":status": "100"]), .headers(3, head)],
        [.headers(1, head), .data(1, message, endStream: true), .headers(3, head), .data(3, framed([1], flag: 2))],
        answer(1) + [Frame(type: Frame.goAway, payload: bigEndian(3) + bigEndian(0)), .ping("x"), .settings([3: 1])],
    ]
    var encoder = IndexingEncoder()
    let indexed = [UInt32(1), 3, 7].flatMap { stream -> [Frame] in
        let first = encoder.frame(stream, head)
        return [first, .data(stream, message), encoder.frame(stream, trailers, endStream: true)]
    }
    return (transcripts + [indexed]).map { [3] + $0.bytes }
}()
