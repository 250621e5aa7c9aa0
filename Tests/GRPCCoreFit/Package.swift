// swift-tools-version:6.2
import PackageDescription

// Proof that another gRPC library runs on Apus's transport; a package of its own, so that grpc-swift-2 never reaches a
// user of Apus. `Transport` is a link to Sources/: what the transport offers has `package` access, which ends at the
// border of a package, so this one builds the transport's modules itself. docs/decisions/0008-grpccore-fits.md says how
// an adapter for users gets at it.

let settings: [SwiftSetting] = [
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("ExistentialAny"),
]

let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let grpcCore: Target.Dependency = .product(name: "GRPCCore", package: "grpc-swift-2")

let package = Package(
    name: "GRPCCoreFit",
    dependencies: [
        .package(url: "https://github.com/grpc/grpc-swift-2", from: "2.4.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.14.0"),
    ],
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
        .target(
            name: "GRPCCoreFit",
            dependencies: ["ApusBase", "ApusEventLoop", "ApusTransport", grpcCore, logging],
            swiftSettings: settings
        ),
        .testTarget(
            name: "GRPCCoreFitTests",
            dependencies: ["ApusBase", "ApusTransport", "GRPCCoreFit", grpcCore, logging],
            swiftSettings: settings
        ),
    ],
    swiftLanguageModes: [.v6]
)
