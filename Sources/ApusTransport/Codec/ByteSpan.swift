internal import Glibc

extension Span<UInt8> {
    @inline(__always)
    func elementsEqual(_ other: Span<UInt8>) -> Bool {
        guard count == other.count else { return false }
        // SAFETY: both spans are valid for the calls, and the counts are equal.
        return unsafe withUnsafeBytes { left in
            unsafe other.withUnsafeBytes { right in
                guard let left = left.baseAddress, let right = right.baseAddress else { return true }
                return unsafe memcmp(left, right, count) == 0
            }
        }
    }

    @inline(__always)
    func elementsEqual(_ other: [UInt8]) -> Bool {
        guard count == other.count else { return false }
        // SAFETY: both are valid for the calls, and the counts are equal.
        return unsafe withUnsafeBytes { left in
            unsafe other.withUnsafeBytes { right in
                guard let left = left.baseAddress, let right = right.baseAddress else { return true }
                return unsafe memcmp(left, right, count) == 0
            }
        }
    }

    /// A part without the white space at its edges (RFC 9110 §5.5).
    func trimmed(_ part: Range<Int>) -> Range<Int> {
        var start = part.lowerBound
        var end = part.upperBound
        while start < end, self[start].isSpace { start += 1 }
        while end > start, self[end - 1].isSpace { end -= 1 }
        return start..<end
    }

    /// Whether it begins or ends with white space.
    @inline(__always)
    var hasSpaceAtEdge: Bool { count > 0 && (self[0].isSpace || self[count - 1].isSpace) }

    /// Whether `count` bytes from `offset` equal those of `other` from `start`; the caller has checked that they are
    /// there.
    @inline(__always)
    func elementsEqual(_ other: UnsafeRawBufferPointer, from start: Int, offset: Int, count: Int) -> Bool {
        // SAFETY: both are valid for the call, and the caller checked the ranges.
        unsafe withUnsafeBytes { bytes in
            guard let left = bytes.baseAddress, let right = other.baseAddress else { return count == 0 }
            return unsafe memcmp(left + offset, right + start, count) == 0
        }
    }

    @inline(__always)
    func elementsEqual(_ text: StaticString) -> Bool {
        guard count == text.utf8CodeUnitCount else { return false }
        // SAFETY: a StaticString is never freed, and the counts are equal.
        return unsafe withUnsafeBytes { bytes in
            guard let start = bytes.baseAddress else { return true }
            return unsafe memcmp(start, text.utf8Start, count) == 0
        }
    }

    @inline(__always)
    func hasSuffix(_ text: StaticString) -> Bool {
        let start = count - text.utf8CodeUnitCount
        guard start >= 0 else { return false }
        // SAFETY: a StaticString is never freed, and the span is at least as long.
        return unsafe withUnsafeBytes { bytes in
            guard let first = bytes.baseAddress else { return true }
            return unsafe memcmp(first + start, text.utf8Start, text.utf8CodeUnitCount) == 0
        }
    }

    @inline(__always)
    func hasPrefix(_ text: StaticString) -> Bool {
        guard count >= text.utf8CodeUnitCount else { return false }
        // SAFETY: a StaticString is never freed, and the span is at least as long.
        return unsafe withUnsafeBytes { bytes in
            guard let start = bytes.baseAddress else { return true }
            return unsafe memcmp(start, text.utf8Start, text.utf8CodeUnitCount) == 0
        }
    }
}

extension UInt8 {
    fileprivate var isSpace: Bool { self == 0x20 || self == 0x09 }
}

extension Array where Element == UInt8 {
    /// Whether both are one buffer, which says that they are equal; that they are two says nothing.
    @inline(__always)
    func isSameBuffer(as other: [UInt8]) -> Bool {
        // SAFETY: two addresses are compared; neither is followed.
        unsafe withUnsafeBytes { mine in unsafe other.withUnsafeBytes { unsafe mine.baseAddress == $0.baseAddress } }
    }

    init(copying bytes: Span<UInt8>) {
        self.init()
        append(copying: bytes)
    }

    /// Appends a copy of the span.
    @inline(__always)
    mutating func append(copying bytes: Span<UInt8>) {
        // SAFETY: the span is valid for the call.
        unsafe bytes.withUnsafeBytes { unsafe append(contentsOf: $0) }
    }

    /// Appends a copy of a part of the span, which the caller has checked to lie in it.
    @inline(__always)
    mutating func append(copying bytes: Span<UInt8>, from start: Int, count: Int) {
        // SAFETY: the span is valid for the call; slicing checks the bounds.
        unsafe bytes.withUnsafeBytes { bytes in
            unsafe append(contentsOf: UnsafeRawBufferPointer(rebasing: bytes[start..<(start + count)]))
        }
    }
}
