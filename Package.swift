// swift-tools-version:6.2
import PackageDescription

/// Every target is compiled the same way: Swift 6, strict memory safety, warnings are errors. No `unsafeFlags`: a
/// package that has them cannot be depended on by version.
let settings: [SwiftSetting] = [
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("ExistentialAny"),
]

/// What protoc generates imports publicly what it does not show, which is a warning with `InternalImportsByDefault`.
let generatedSettings: [SwiftSetting] = [
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .enableUpcomingFeature("ExistentialAny"),
]

/// For what has to work in a package that keeps Swift 6's default.
let settingsWithoutNonsending: [SwiftSetting] = [
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("ExistentialAny"),
]

let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let lifecycle: Target.Dependency = .product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let protobufPlugin: Target.Dependency = .product(name: "SwiftProtobufPluginLibrary", package: "swift-protobuf")
let protobuf: Target.Dependency = .product(name: "SwiftProtobuf", package: "swift-protobuf")
let argumentParser: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")

let package = Package(
    name: "Apus",
    products: [
        .library(name: "Apus", targets: ["Apus"]),
        .library(name: "ApusProtobuf", targets: ["ApusProtobuf"]),
        .library(name: "ApusServices", targets: ["ApusServices"]),
        .library(name: "ConcurrentMap", targets: ["ConcurrentMap"]),
        .library(name: "EchoV1", targets: ["EchoV1"]),
        .executable(name: "apus-echo", targets: ["apus-echo"]),
        .executable(name: "protoc-gen-apus", targets: ["protoc-gen-apus"]),
        .plugin(name: "GenerateStubs", targets: ["GenerateStubs"]),
        .executable(name: "apus-interop", targets: ["apus-interop"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-log", from: "1.14.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.10.0"),
        .package(url: "https://github.com/apple/swift-protobuf", from: "1.36.0"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
    ],
    targets: [
        // The C libraries, and the few macros that Swift cannot see.
        .target(name: "CLinux"),
        .systemLibrary(name: "CNghttp2", pkgConfig: "libnghttp2", providers: [.apt(["libnghttp2-dev"])]),
        .systemLibrary(name: "COpenSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),

        // The layers, from the bottom up; Tests/TidyTests holds the imports to this order.
        .target(name: "ApusBase", dependencies: ["CLinux"], swiftSettings: settings),
        .target(name: "ApusEventLoop", dependencies: ["ApusBase", "CLinux", logging], swiftSettings: settings),
        .target(name: "ApusTLS", dependencies: ["ApusBase", "COpenSSL"], swiftSettings: settings),
        .target(name: "ApusCompression", dependencies: ["ApusBase", "CZlib"], swiftSettings: settings),
        .target(
            name: "ApusTransport",
            dependencies: ["ApusBase", "ApusCompression", "ApusEventLoop", "ApusTLS", "CNghttp2", "CLinux", logging],
            swiftSettings: settings
        ),
        .target(
            name: "Apus",
            dependencies: ["ApusTransport", "ApusBase", "ApusCompression", "ApusTLS", logging, lifecycle],
            swiftSettings: settings
        ),
        .target(name: "ApusProtobuf", dependencies: ["Apus", protobuf], swiftSettings: settings),
        // A map whose reads take no lock: a product by itself, which needs nothing of the rest.
        .target(name: "CConcurrentMap"),
        .target(name: "ConcurrentMap", dependencies: ["CConcurrentMap"], swiftSettings: settings),
        // The services that every gRPC server has: health, reflection; and rich errors.
        .target(
            name: "ApusServiceProtos",
            dependencies: ["Apus", "ApusProtobuf", protobuf],
            swiftSettings: generatedSettings
        ),
        .target(
            name: "ApusServices",
            dependencies: ["Apus", "ApusBase", "ApusServiceProtos", protobuf],
            swiftSettings: settings
        ),
        .target(
            name: "EchoV1",
            dependencies: ["Apus", "ApusProtobuf", protobuf],
            swiftSettings: generatedSettings
        ),
        .target(
            name: "GRPCTesting",
            dependencies: ["Apus", "ApusProtobuf", protobuf],
            swiftSettings: generatedSettings
        ),

        // The stubs: what protoc's plugin makes of a service, and the plugin itself.
        .target(
            name: "ApusCodeGen",
            dependencies: [protobuf, protobufPlugin],
            swiftSettings: settings
        ),
        .executableTarget(
            name: "protoc-gen-apus",
            dependencies: ["ApusCodeGen", protobuf, protobufPlugin],
            swiftSettings: settings
        ),
        // `swift package generate-stubs`. It builds the two plugins of protoc when it first runs: as dependencies they
        // would be built, a minute long, in every `swift build`.
        .plugin(
            name: "GenerateStubs",
            capability: .command(
                intent: .custom(verb: "generate-stubs", description: "Makes messages and gRPC stubs out of protos."),
                permissions: [.writeToPackageDirectory(reason: "It writes the Swift code that it makes.")]
            )
        ),

        .target(
            name: "ApusCommandLine",
            dependencies: ["Apus", logging, lifecycle, argumentParser],
            swiftSettings: settings
        ),
        .executableTarget(
            name: "apus-echo",
            dependencies: [
                "Apus", "ApusCommandLine", "ApusProtobuf", "ApusServices", "EchoV1", logging, argumentParser,
            ],
            swiftSettings: settings
        ),
        .executableTarget(
            name: "apus-interop",
            dependencies: ["Apus", "ApusCommandLine", "GRPCTesting", logging, argumentParser],
            swiftSettings: settings
        ),

        // The server that Tests/Foreign calls, with a target whose handlers are compiled as by a user who has not
        // turned on `NonisolatedNonsendingByDefault`.
        .target(
            name: "ScenariosWithoutNonsending",
            dependencies: ["Apus"],
            path: "Tests/ScenarioServer/WithoutNonsending",
            swiftSettings: settingsWithoutNonsending
        ),
        .executableTarget(
            name: "apus-scenarios",
            dependencies: [
                "Apus", "ApusBase", "ApusServices", "EchoV1", "ScenariosWithoutNonsending",
                logging, lifecycle, protobuf, argumentParser,
            ],
            path: "Tests/ScenarioServer/Server",
            swiftSettings: settings
        ),

        // The client that Tests/Foreign sets against peers.
        .executableTarget(
            name: "apus-client-scenarios",
            dependencies: [
                "Apus", "ApusBase", "EchoV1", logging,
                argumentParser,
            ],
            path: "Tests/ScenarioClient",
            swiftSettings: settings
        ),

        // A peer made by hand for the tests: frames, header fields, a client. Nothing of the product is in it.
        .target(name: "TestSupport", dependencies: ["CNghttp2"], path: "Tests/TestSupport", swiftSettings: settings),

        // What the generator makes of protos that are hard on it; that it compiles is half of the test.
        .target(
            name: "StubCorpus",
            dependencies: ["Apus", "ApusProtobuf", protobuf],
            path: "Tests/StubCorpus/Generated",
            swiftSettings: generatedSettings
        ),

        .testTarget(name: "ApusBaseTests", dependencies: ["ApusBase", "TestSupport"], swiftSettings: settings),
        .testTarget(name: "ApusEventLoopTests", dependencies: ["ApusEventLoop", logging], swiftSettings: settings),
        .testTarget(
            name: "ApusTLSTests",
            dependencies: ["ApusTLS", "COpenSSL", "TestSupport"],
            swiftSettings: settings
        ),
        .testTarget(
            name: "ApusCompressionTests",
            dependencies: ["ApusCompression", "TestSupport"],
            swiftSettings: settings
        ),
        .testTarget(
            name: "ApusTransportTests",
            dependencies: ["ApusTransport", "ApusTLS", "TestSupport", logging],
            swiftSettings: settings
        ),
        .testTarget(
            name: "ApusTests",
            dependencies: [
                "Apus", "ApusProtobuf", "EchoV1", "StubCorpus", "TestSupport", logging, lifecycle, protobuf,
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "ApusServicesTests",
            dependencies: ["Apus", "ApusServices", "StubCorpus", logging, protobuf],
            swiftSettings: settings
        ),
        .testTarget(name: "ConcurrentMapTests", dependencies: ["ConcurrentMap"], swiftSettings: settings),
        .testTarget(name: "TidyTests", swiftSettings: settings),
    ],
    swiftLanguageModes: [.v6]
)
