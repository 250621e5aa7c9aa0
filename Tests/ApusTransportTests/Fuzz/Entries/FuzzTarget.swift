/// Something that takes any bytes, and a property that holds for each of them.
///
/// The fuzzer (`Fuzz/`) and the unit tests call the same targets: what the first finds, the second replays.
public struct FuzzTarget: Sendable, CustomStringConvertible {
    public let name: String
    /// Inputs to begin with: each leads somewhere else.
    public let seeds: @Sendable () -> [[UInt8]]
    /// Throws when the property does not hold for an input.
    public let run: @Sendable ([UInt8]) throws -> Void

    public var description: String { name }

    public static let all: [FuzzTarget] = [
        .timeout, .base64, .percent, .compression, .deframer, .requestFields, .responseFields,
        .serverConnection, .serverBytes, .clientConnection, .clientBytes,
    ]
}

/// What should hold and does not.
struct PropertyFailure: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}

/// Holds a property to be true.
func hold(_ isTrue: Bool, _ what: @autoclosure () -> String) throws {
    if !isTrue { throw PropertyFailure(what()) }
}

/// Holds two values to be equal.
func holdEqual<Value: Equatable>(_ left: Value, _ right: Value, _ what: @autoclosure () -> String) throws {
    if left != right { throw PropertyFailure("\(what()): \(left) and \(right)") }
}
