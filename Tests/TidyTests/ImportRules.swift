/// What each module may import of this package and of others. `Swift`'s own `Synchronization` is free to all.
private let importTable: [String: Set<String>] = [
    "ApusBase": ["CLinux", "Glibc"],
    "ApusEventLoop": ["ApusBase", "CLinux", "Glibc", "Logging"],
    "ApusTLS": ["ApusBase", "COpenSSL", "Logging"],
    "ApusCompression": ["ApusBase", "CZlib", "Glibc"],
    "ApusTransport": [
        "ApusBase", "ApusCompression", "ApusEventLoop", "ApusTLS", "CLinux", "CNghttp2", "Glibc", "Logging",
    ],
    "Apus": [
        "ApusBase", "ApusCompression", "ApusEventLoop", "ApusTLS", "ApusTransport", "Logging", "ServiceLifecycle",
    ],
    "ApusProtobuf": ["Apus", "Foundation", "SwiftProtobuf"],
    "ApusServiceProtos": ["Apus", "ApusProtobuf", "Foundation", "SwiftProtobuf"],
    "ApusServices": ["Apus", "ApusBase", "ApusServiceProtos", "Foundation", "SwiftProtobuf"],
    "ApusGRPCTransport": ["ApusBase", "ApusTransport", "Foundation", "GRPCCore", "Logging"],
    "ConcurrentMap": ["CConcurrentMap"],
    "ApusSubscriptions": ["Apus", "ConcurrentMap", "Foundation", "Logging"],
    "ApusCodeGen": ["Foundation", "SwiftProtobuf", "SwiftProtobufPluginLibrary"],
    "protoc-gen-apus": ["ApusCodeGen", "SwiftProtobuf", "SwiftProtobufPluginLibrary"],
    "EchoV1": ["Apus", "ApusProtobuf", "SwiftProtobuf"],
    "GRPCTesting": ["Apus", "ApusProtobuf", "SwiftProtobuf"],
    "ApusCommandLine": ["Apus", "ArgumentParser", "Dispatch", "Glibc", "Logging", "ServiceLifecycle"],
]

/// An executable sees what a user of the package sees, and may parse arguments and be run as a service.
private let importsOfExecutables: Set = [
    "Apus", "ApusCommandLine", "ApusProtobuf", "ApusServices", "ApusSubscriptions", "ArgumentParser", "ConcurrentMap",
    "Dispatch", "EchoV1", "Foundation", "GRPCTesting", "Glibc", "Logging", "ServiceLifecycle", "SwiftProtobuf",
]

private let importsOfAll: Set = ["Synchronization"]
/// Not `CConcurrentMap`: what the map's users inline calls it.
private let modulesOfC: Set = ["CLinux", "CNghttp2", "COpenSSL", "CZlib", "Glibc"]

extension Rule {
    static let importsPointDown = Rule("imports point down the table of modules") { tree in
        tree.sources.flatMap { file -> [Violation] in
            guard let module = file.module else { return [] }
            let isExecutable = module.hasPrefix("apus-")
            guard let allowed = isExecutable ? importsOfExecutables : importTable[module] else {
                return [Violation(path: file.path, line: 1, problem: "\(module) is not in the table of modules")]
            }
            return file.imports.filter { !allowed.union(importsOfAll).contains($0.module) }
                .map { Violation(path: file.path, line: $0.line, problem: "\(module) may not import \($0.module)") }
        }
    }

    static let importsOfCAreInternal = Rule("C is imported with `internal import`") { tree in
        tree.sources.flatMap { file in
            file.imports.filter { modulesOfC.contains($0.module) && $0.access != "internal" }
                .map { Violation(path: file.path, line: $0.line, problem: "\($0.module) needs an `internal import`") }
        }
    }

    static let nghttp2StaysInItsFolder = Rule("nghttp2 is seen in one folder") { tree in
        tree.sources.filter { !$0.path.hasPrefix("Sources/ApusTransport/HTTP2/") }.flatMap { file in
            file.imports.filter { $0.module == "CNghttp2" }
                .map { Violation(path: file.path, line: $0.line, problem: "CNghttp2 is for HTTP2/ alone") }
        }
    }
}

extension Rule {
    /// So that a user of Apus never gets another gRPC library with it.
    static let grpcCoreStaysInItsPlaces = Rule("GRPCCore is imported by its adapter, and by the proof that it fits") {
        tree in
        tree.swiftFiles.filter { file in
            !["Sources/ApusGRPCTransport/", "Tests/GRPCCoreFit/"].contains { file.path.hasPrefix($0) }
        }.flatMap { file in
            file.imports.filter { $0.module == "GRPCCore" }
                .map { Violation(path: file.path, line: $0.line, problem: "GRPCCore is not for this place") }
        }
    }
}

extension SourceFile {
    /// The imports of a file: `import M`, `internal import M`, `@testable import M`, `import struct M.S`.
    var imports: [(module: String, access: String?, line: Int)] {
        tokens.indices.compactMap { index in
            guard tokens[index].text == "import", let next = token(after: index), next.kind == .word else { return nil }
            let kinds: Set = ["struct", "class", "enum", "protocol", "typealias", "func", "let", "var"]
            let name = kinds.contains(next.text) ? token(after: index + 1)?.text ?? "" : next.text
            let before = token(before: index)
            let access = before?.line == tokens[index].line && before?.kind == .word ? before?.text : nil
            return (name == "FoundationEssentials" ? "Foundation" : name, access, tokens[index].line)
        }
    }
}
