/// A rule of the house, checked over the whole tree.
struct Rule: Sendable, CustomStringConvertible {
    /// The rule as a sentence.
    let description: String
    let check: @Sendable (Tree) -> [Violation]

    init(_ description: String, check: @escaping @Sendable (Tree) -> [Violation]) {
        self.description = description
        self.check = check
    }

    static let all: [Rule] = [
        .importsPointDown, .importsOfCAreInternal, .nghttp2StaysInItsFolder, .grpcCoreStaysInItsPlaces,
        .linesAreShort, .functionsAreShort(known: longFunctions), .namesSayTheConcept,
        .noCrashingOperators(justified: justifiedCrashes), .unsafeIsExplained, .uncheckedIsExplained,
        .locksAreSeen, .openWorkHasAnOwner,
    ]
}

/// A place where a rule is broken.
struct Violation: Equatable, CustomStringConvertible {
    var path: String
    var line: Int
    var problem: String

    var description: String { "\(path):\(line): \(problem)" }
}

/// A line that breaks a rule on purpose.
struct Justified: Sendable {
    var path: String
    /// Text that the line contains.
    var line: String
    var reason: String
}
