// swift-tools-version:6.2
import PackageDescription

// A package of its own, so that what the benchmarks depend on never reaches a user of Apus.
let package = Package(
    name: "ApusBenchmarks",
    dependencies: [
        .package(name: "Apus", path: ".."),
        .package(url: "https://github.com/apple/swift-log", from: "1.14.0"),
    ],
    targets: [
        .executableTarget(
            name: "bench-server",
            dependencies: [
                .product(name: "Apus", package: "Apus"),
                .product(name: "ApusProtobuf", package: "Apus"),
                .product(name: "EchoV1", package: "Apus"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: [
                .treatAllWarnings(as: .error),
                .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
                .enableUpcomingFeature("InternalImportsByDefault"),
                .enableUpcomingFeature("ExistentialAny"),
            ]
        ),
        .executableTarget(
            name: "bench-client",
            dependencies: [
                .product(name: "Apus", package: "Apus"),
                .product(name: "ApusProtobuf", package: "Apus"),
                .product(name: "EchoV1", package: "Apus"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: [
                .treatAllWarnings(as: .error),
                .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
                .enableUpcomingFeature("InternalImportsByDefault"),
                .enableUpcomingFeature("ExistentialAny"),
            ]
        ),
        // Keeps a thread on one core.
        .target(name: "CPinning"),
        .executableTarget(
            name: "bench-map",
            dependencies: ["CPinning", .product(name: "ConcurrentMap", package: "Apus")],
            swiftSettings: [
                .treatAllWarnings(as: .error),
                .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
                .enableUpcomingFeature("InternalImportsByDefault"),
                .enableUpcomingFeature("ExistentialAny"),
            ]
        ),
    ],
    swiftLanguageModes: [.v6]
)
