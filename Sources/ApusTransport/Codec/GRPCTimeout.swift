/// The value of `grpc-timeout` (PROTOCOL-HTTP2.md, "Requests"): one to eight digits and a unit.
enum GRPCTimeout {
    private static let units: [(suffix: UInt8, nanoseconds: Int64)] = [
        (UInt8(ascii: "n"), 1), (UInt8(ascii: "u"), 1_000), (UInt8(ascii: "m"), 1_000_000),
        (UInt8(ascii: "S"), 1_000_000_000), (UInt8(ascii: "M"), 60_000_000_000), (UInt8(ascii: "H"), 3_600_000_000_000),
    ]

    private static let largestValue: Int64 = 99_999_999

    /// Nanoseconds, clamped to what 64 bits hold; `nil` when it is malformed.
    static func parse(_ text: Span<UInt8>) -> Int64? {
        guard text.count >= 2, text.count <= 9 else { return nil }
        var value: Int64 = 0
        for index in 0..<(text.count - 1) {
            let digit = text[index]
            guard digit >= UInt8(ascii: "0"), digit <= UInt8(ascii: "9") else { return nil }
            value = value * 10 + Int64(digit - UInt8(ascii: "0"))
        }
        let unit: Int64
        switch text[text.count - 1] {
        case UInt8(ascii: "n"): unit = 1
        case UInt8(ascii: "u"): unit = 1_000
        case UInt8(ascii: "m"): unit = 1_000_000
        case UInt8(ascii: "S"): unit = 1_000_000_000
        case UInt8(ascii: "M"): unit = 60_000_000_000
        case UInt8(ascii: "H"): unit = 3_600_000_000_000
        default: return nil
        }
        let (product, overflow) = value.multipliedReportingOverflow(by: unit)
        return overflow ? .max : product
    }

    /// Appends the value in the finest unit that fits in eight digits, rounded up so that the peer never gives up
    /// before we do.
    static func encode(nanoseconds: Int64, to bytes: inout [UInt8]) {
        let nanoseconds = max(nanoseconds, 0)
        var value = largestValue
        var suffix = UInt8(ascii: "H")
        for (unitSuffix, unit) in units {
            let inUnit = nanoseconds / unit + (nanoseconds % unit == 0 ? 0 : 1)
            guard inUnit <= largestValue else { continue }
            (value, suffix) = (inUnit, unitSuffix)
            break
        }
        var divisor: Int64 = 1
        while value / divisor >= 10 { divisor *= 10 }
        while divisor > 0 {
            bytes.append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: value / divisor % 10))
            divisor /= 10
        }
        bytes.append(suffix)
    }
}
