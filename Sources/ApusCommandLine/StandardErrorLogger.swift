internal import ArgumentParser
package import Logging

extension Logger {
    /// A logger to standard error.
    ///
    /// - Parameter level: its level, as `--log-level` takes it.
    package static func standardError(label: String, level: String) throws -> Logger {
        guard let logLevel = Level(rawValue: level) else { throw ValidationError("\"\(level)\" is not a log level") }
        var logger = Logger(label: label) { StreamLogHandler.standardError(label: $0) }
        logger.logLevel = logLevel
        return logger
    }
}
