internal import ArgumentParser

/// `500ms`, `1s`, `2.5s`, `1m`.
package struct TimeoutArgument: ExpressibleByArgument {
    package let duration: Duration

    package var defaultValueDescription: String { "\(duration)" }

    package init(duration: Duration) { self.duration = duration }

    package init?(argument: String) {
        let digits = argument.prefix { $0.isNumber || $0 == "." }
        guard let value = Double(digits), value.isFinite, value >= 0, value < 1e9 else { return nil }
        switch argument.dropFirst(digits.count) {
        case "ms": duration = .seconds(value / 1000)
        case "s": duration = .seconds(value)
        case "m": duration = .seconds(value * 60)
        case "h": duration = .seconds(value * 3600)
        default: return nil
        }
    }
}
