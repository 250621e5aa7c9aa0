/// The ids of the streams that a client opens, as far as they tell which frames may still come.
///
/// Two things are remembered: the ids that were skipped, which a later stream has closed (RFC 9113 §5.1.1), and the
/// last ones that the client itself has ended, on which it may send no more (§5.1). A stream that *we* have reset is
/// neither: on such a one frames may be under way.
struct PeerStreamIDs {
    private var highest: Int32 = -1
    private var gaps: [Range<Int32>] = []
    /// The last first. Few, and no array, because each frame with data is held against them.
    private var ended: (Int32, Int32, Int32, Int32) = (-1, -1, -1, -1)
    /// Of a client that leaves more gaps than this the oldest are forgotten; an ordinary one leaves none.
    private static let gapsMax = 16

    /// Whether a stream is the one that comes next; then it is open from here on.
    @inline(__always)
    mutating func isNext(_ id: Int32) -> Bool {
        guard id == highest &+ 2 else { return false }
        highest = id
        return true
    }

    /// HEADERS on a stream that is not the next one. Whether its id was passed over, and so is used up.
    @inline(never)
    mutating func isSkipped(_ id: Int32) -> Bool {
        guard id > highest else { return gaps.contains { $0.contains(id) } }
        if gaps.count == Self.gapsMax { gaps.removeFirst() }
        gaps.append((highest &+ 1)..<id)
        highest = id
        return false
    }

    /// Whether a stream is one of the last four that the client has ended.
    @inline(__always)
    func hasEnded(_ id: Int32) -> Bool { id == ended.0 || id == ended.1 || id == ended.2 || id == ended.3 }

    /// The client has ended its side of a stream.
    @inline(__always)
    mutating func end(_ id: Int32) { ended = (id, ended.0, ended.1, ended.2) }
}
