internal import Apus
internal import ArgumentParser

/// The times and rates of the server's configuration that tests set; what is not given stays at its default.
struct TimeOptions: ParsableArguments {
    @Option var headerMilliseconds: Int?
    @Option var stallMilliseconds: Int?
    @Option var keepaliveMilliseconds: Int?
    @Option var keepaliveTimeoutMilliseconds: Int?
    @Option var maxAgeMilliseconds: Int?
    @Option var maxAgeGraceMilliseconds: Int?
    @Option var maxIdleMilliseconds: Int?
    @Option var minPingMilliseconds: Int?
    @Flag var permitPingsWithoutCalls = false

    func apply(to configuration: inout ServerConfiguration) {
        func duration(_ milliseconds: Int?) -> Duration? { milliseconds.map { .milliseconds($0) } }
        if let time = duration(headerMilliseconds) { configuration.headerTimeout = time }
        if let time = duration(stallMilliseconds) { configuration.writeStallTimeout = time }
        if let time = duration(keepaliveMilliseconds) { configuration.keepaliveTime = time }
        if let time = duration(keepaliveTimeoutMilliseconds) { configuration.keepaliveTimeout = time }
        if let time = duration(maxAgeMilliseconds) { configuration.maxConnectionAge = time }
        if let time = duration(maxAgeGraceMilliseconds) { configuration.maxConnectionAgeGrace = time }
        if let time = duration(maxIdleMilliseconds) { configuration.maxConnectionIdle = time }
        if let time = duration(minPingMilliseconds) { configuration.minPingInterval = time }
        configuration.permitsPingsWithoutCalls = permitPingsWithoutCalls
    }
}
