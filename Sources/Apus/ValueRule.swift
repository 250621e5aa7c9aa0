/// A value of a configuration, and what it may be.
struct ValueRule {
    let name: String
    let value: Int
    let range: ClosedRange<Int>

    init(_ name: String, _ value: Int, _ range: ClosedRange<Int>) {
        self.name = name
        self.value = value
        self.range = range
    }

    /// What is wrong with the first value that breaks its rule, or `nil`.
    static func firstProblem(_ rules: [ValueRule]) -> String? {
        guard let broken = rules.first(where: { !$0.range.contains($0.value) }) else { return nil }
        let range = broken.range
        return "\(broken.name) is \(broken.value); it has to be \(range.lowerBound) to \(range.upperBound)"
    }
}
