internal import Synchronization

/// The numbers by which channelz knows servers, channels, subchannels and sockets: unique in the process, positive, and
/// never used again.
enum ChannelzID {
    private static let next = Atomic<Int64>(1)

    /// A new number, the first of as many in a row as are asked for. Any thread.
    static func make(count: Int64 = 1) -> Int64 { next.add(count, ordering: .relaxed).oldValue }
}

/// The lowest ids from one on, of those that are shown to it in any order: a page, found in one pass.
package struct LowestIDs {
    private let first: Int64
    private let countMax: Int
    /// In ascending order.
    package private(set) var ids: [Int64] = []

    package init(from first: Int64, countMax: Int) {
        self.first = first
        self.countMax = countMax
    }

    package mutating func consider(_ id: Int64) {
        guard id >= first, countMax > 0 else { return }
        if ids.count == countMax {
            guard let last = ids.last, id < last else { return }
            ids.removeLast()
        }
        var low = 0
        var high = ids.count
        while low < high {
            let middle = (low + high) / 2
            if ids[middle] < id { low = middle + 1 } else { high = middle }
        }
        ids.insert(id, at: low)
    }
}
