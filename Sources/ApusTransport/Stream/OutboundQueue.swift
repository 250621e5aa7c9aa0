/// The messages that a stream has yet to send, framed as they are copied out.
struct OutboundQueue {
    private var messages = MessageQueue()
    private var head: [UInt8]?
    /// Its first byte on the wire: 1 when it is compressed. 0 when there is no head.
    private var headFlag: UInt8 = 0
    /// How much of the head, its prefix included, is sent.
    private var headOffset = 0

    /// Bytes yet to be sent, prefixes included.
    private(set) var bytes = 0

    @inline(__always)
    mutating func append(_ message: consuming [UInt8]) {
        bytes += MessageDeframer.prefixBytes + message.count
        if head == nil {
            head = message
        } else {
            messages.append(message)
        }
    }

    mutating func append(_ message: consuming [UInt8], isCompressed: Bool) {
        if head == nil {
            append(message)
            headFlag = isCompressed ? 1 : 0
        } else {
            bytes += MessageDeframer.prefixBytes + message.count
            messages.append(message, isCompressed: isCompressed)
        }
    }

    mutating func removeAll() { self = OutboundQueue() }

    /// Moves the first `target.count` bytes out; there are that many.
    ///
    /// - Returns: how many messages have left with them, in whole or with their last part.
    mutating func move(to target: UnsafeMutableRawBufferPointer) -> Int {
        // SAFETY: each copy is bounded by what is left of `target`, and by what is left of the message it is from.
        guard let start = target.baseAddress else { return 0 }
        let count = target.count
        var written = 0
        var messagesMoved = 0
        while written < count, let message = head {
            let prefixBytes = MessageDeframer.prefixBytes
            if headOffset == 0, count - written >= prefixBytes {
                unsafe (start + written).storeBytes(of: headFlag, as: UInt8.self)
                unsafe (start + written + 1).storeBytes(
                    of: UInt32(truncatingIfNeeded: message.count).bigEndian,
                    as: UInt32.self
                )
                written += prefixBytes
                headOffset = prefixBytes
            }
            while headOffset < prefixBytes, written < count {
                unsafe (start + written).storeBytes(of: prefixByte(headOffset, of: message.count), as: UInt8.self)
                written += 1
                headOffset += 1
            }
            guard headOffset >= prefixBytes else { break }
            let taken = min(message.count - (headOffset - prefixBytes), count - written)
            unsafe message.withUnsafeBytes { source in
                guard taken > 0, let first = source.baseAddress else { return }
                unsafe (start + written).copyMemory(from: first + (headOffset - prefixBytes), byteCount: taken)
            }
            written += taken
            headOffset += taken
            if headOffset == prefixBytes + message.count {
                messagesMoved += 1
                headFlag = messages.isFirstCompressed ? 1 : 0
                head = messages.popFirst()
                headOffset = 0
            }
        }
        bytes -= written
        return messagesMoved
    }

    /// Byte `index` of the prefix of a message.
    private func prefixByte(_ index: Int, of messageBytes: Int) -> UInt8 {
        index == 0 ? headFlag : UInt8(truncatingIfNeeded: messageBytes >> (8 * (4 - index)))
    }
}
