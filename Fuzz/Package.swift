// swift-tools-version:6.2
import PackageDescription

// The fuzzer; a package of its own, because everything in it is compiled with libFuzzer's instrumentation. `Transport`,
// `TestSupport` and `Entries` are links: the transport's modules and the entry points, which the unit tests have as
// well, to replay what was found. Build it with `scripts/fuzz`, which knows the options.

let settings: [SwiftSetting] = [
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("ExistentialAny"),
]

let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")

let package = Package(
    name: "Fuzz",
    dependencies: [.package(url: "https://github.com/apple/swift-log", from: "1.14.0")],
    targets: [
        .target(name: "CLinux", path: "Transport/CLinux"),
        .systemLibrary(name: "CNghttp2", path: "Transport/CNghttp2", pkgConfig: "libnghttp2"),
        .systemLibrary(name: "COpenSSL", path: "Transport/COpenSSL", pkgConfig: "openssl"),
        .systemLibrary(name: "CZlib", path: "Transport/CZlib", pkgConfig: "zlib"),
        .target(name: "ApusBase", dependencies: ["CLinux"], path: "Transport/ApusBase", swiftSettings: settings),
        .target(
            name: "ApusCompression",
            dependencies: ["ApusBase", "CZlib"],
            path: "Transport/ApusCompression",
            swiftSettings: settings
        ),
        .target(
            name: "ApusTLS",
            dependencies: ["ApusBase", "COpenSSL"],
            path: "Transport/ApusTLS",
            swiftSettings: settings
        ),
        .target(
            name: "ApusEventLoop",
            dependencies: ["ApusBase", "CLinux", logging],
            path: "Transport/ApusEventLoop",
            swiftSettings: settings
        ),
        .target(
            name: "ApusTransport",
            dependencies: ["ApusBase", "ApusCompression", "ApusEventLoop", "ApusTLS", "CNghttp2", "CLinux", logging],
            path: "Transport/ApusTransport",
            swiftSettings: settings
        ),
        .target(name: "TestSupport", dependencies: ["CNghttp2"], path: "TestSupport", swiftSettings: settings),
        .target(
            name: "FuzzEntries",
            dependencies: ["ApusBase", "ApusCompression", "ApusEventLoop", "ApusTransport", "TestSupport", logging],
            path: "Entries",
            swiftSettings: settings
        ),
        .executableTarget(
            name: "fuzz",
            dependencies: ["FuzzEntries"],
            path: "Driver",
            swiftSettings: settings + [.unsafeFlags(["-parse-as-library"])]
        ),
    ],
    swiftLanguageModes: [.v6]
)
