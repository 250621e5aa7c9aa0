/// Cuts a stream's bytes, in whatever pieces they come, into length-prefixed messages (PROTOCOL-HTTP2.md,
/// "Length-Prefixed-Message"): a flag byte, a big-endian 32-bit length, and the message.
///
/// The length is held against the limit before anything is allocated for the message, and memory grows with the bytes
/// that came, not with the length that was promised.
struct MessageDeframer {
    static let prefixBytes = 5
    /// How much room a message that begins is given, for each byte of it that is here.
    private static let roomFactor = 4

    enum Event {
        /// A message is whole.
        case message([UInt8])
        /// A message is whole, and compressed.
        case compressed([UInt8])
        /// Every byte given is used up; the last message, if one is under way, waits for more.
        case needsMore
        case failed(Failure)
    }

    enum Failure: Error, Hashable {
        /// The flag byte is neither 0 nor 1.
        case invalidFlag(UInt8)
        /// The flag says compressed, and no encoding was declared.
        case compressedWithoutEncoding
        case tooLarge(bytes: Int, limit: Int)
    }

    private var prefix: UInt64 = 0
    private var prefixCount = 0
    private var partial: [UInt8] = []
    private var expectedBytes = 0

    /// Whether a message has begun and is not whole.
    var isMidMessage: Bool { prefixCount > 0 }

    /// Bytes held for the message under way.
    var bufferedBytes: Int { prefixCount + partial.count }

    mutating func reset() { self = MessageDeframer() }

    /// Reads on in `bytes` from `position`, which moves past what was used, up to the end of the next message.
    ///
    /// - Parameter isEncoded: whether an encoding was declared, so that messages may be compressed.
    @inline(__always)
    mutating func next(in bytes: Span<UInt8>, position: inout Int, bytesMax: Int, isEncoded: Bool) -> Event {
        // The usual case: a whole message in one piece.
        let available = bytes.count - position
        if prefixCount == 0, available >= Self.prefixBytes {
            let length =
                Int(bytes[position + 1]) << 24 | Int(bytes[position + 2]) << 16 | Int(bytes[position + 3]) << 8
                | Int(bytes[position + 4])
            if bytes[position] == 0, length <= bytesMax, length <= available - Self.prefixBytes {
                let start = position + Self.prefixBytes
                position = start + length
                return .message(Self.copy(bytes, from: start, count: length))
            }
        }
        return assemble(bytes, position: &position, bytesMax: bytesMax, isEncoded: isEncoded)
    }

    private mutating func assemble(
        _ bytes: Span<UInt8>,
        position: inout Int,
        bytesMax: Int,
        isEncoded: Bool
    ) -> Event {
        if prefixCount < Self.prefixBytes {
            while prefixCount < Self.prefixBytes, position < bytes.count {
                prefix = prefix << 8 | UInt64(bytes[position])
                prefixCount += 1
                position += 1
            }
            if prefixCount < Self.prefixBytes { return .needsMore }
            let flag = UInt8(truncatingIfNeeded: prefix >> 32)
            if flag > 1 { return .failed(.invalidFlag(flag)) }
            if flag == 1, !isEncoded { return .failed(.compressedWithoutEncoding) }
            expectedBytes = Int(prefix & 0xFFFF_FFFF)
            if expectedBytes > bytesMax { return .failed(.tooLarge(bytes: expectedBytes, limit: bytesMax)) }
            // Not for what is promised: a peer that sends prefixes alone must not have us keep room for messages.
            partial.reserveCapacity(min(expectedBytes, Self.roomFactor * (bytes.count - position)))
        }
        let wanted = expectedBytes - partial.count
        let taken = min(wanted, bytes.count - position)
        partial.append(copying: bytes, from: position, count: taken)
        position += taken
        guard taken == wanted else { return .needsMore }
        let message = partial
        let isCompressed = prefix >> 32 == 1
        reset()
        return isCompressed ? .compressed(message) : .message(message)
    }

    @inline(__always)
    private static func copy(_ bytes: Span<UInt8>, from start: Int, count: Int) -> [UInt8] {
        // SAFETY: the range was checked against the span's count, and the copy ends before the span does.
        unsafe bytes.withUnsafeBytes { bytes in
            unsafe [UInt8](UnsafeRawBufferPointer(rebasing: bytes[start..<(start + count)]))
        }
    }
}
