import Testing

/// Each rule against sources that break it, and against the nearest that do not: a rule that cannot fail is a defect.
@Suite("Each rule finds what it is there for")
struct RuleTests {
    /// The lines on which a rule finds fault with one file.
    private func lines(_ rule: Rule, _ text: String, at path: String = "Sources/Apus/A.swift") -> [Int] {
        rule.check(Tree(files: [SourceFile(path: path, text: text)]) { $0 == "docs/plan.md" }).map(\.line)
    }

    @Test(
        "an import that points up, or at what the module has no business with",
        arguments: [
            ("ApusBase", "import ApusTransport"), ("ApusBase", "import Foundation"), ("Apus", "import Foundation"),
            ("ApusTransport", "import FoundationEssentials"), ("ApusTransport", "import struct Foundation.Date"),
            ("Apus", "internal import Glibc"), ("ApusBase", "import Logging"),
            ("Apus", "internal import CLinux"),
            ("ApusTransport", "@preconcurrency import ServiceLifecycle"), ("Apus", "import SwiftProtobuf"),
            ("ConcurrentMap", "import ApusBase"), ("apus-echo", "import ApusTransport"), ("Apus", "import DequeModule"),
            ("ApusProtobuf", "public import ApusTransport"), ("ApusBase", "import NIOCore"),
        ]
    )
    func importUp(module: String, line: String) {
        #expect(lines(.importsPointDown, "// first\n\(line)\n", at: "Sources/\(module)/A.swift") == [2])
    }

    @Test(
        "an import that points down",
        arguments: [
            ("ApusBase", "import Synchronization"), ("ApusEventLoop", "public import Logging"),
            ("ApusTransport", "package import ApusEventLoop"), ("Apus", "public import ServiceLifecycle"),
            ("ApusProtobuf", "import Foundation"), ("EchoV1", "import SwiftProtobuf"),
            ("apus-echo", "import ArgumentParser"),
            ("ApusBase", "// import Foundation"), ("ApusBase", "let a = \"import Foundation\""),
        ]
    )
    func importDown(module: String, line: String) {
        #expect(lines(.importsPointDown, line, at: "Sources/\(module)/A.swift") == [])
    }

    @Test("a module that the table does not know; tests import what they like")
    func unknownModule() {
        #expect(lines(.importsPointDown, "let a = 1", at: "Sources/ApusExtra/A.swift") == [1])
        #expect(lines(.importsPointDown, "import Foundation", at: "Tests/ApusBaseTests/A.swift") == [])
    }

    @Test("C imported so that dependants could see it")
    func importOfC() {
        #expect(
            lines(.importsOfCAreInternal, "import CLinux\npublic import Glibc\n@preconcurrency import Glibc") == [
                1, 2, 3,
            ]
        )
        #expect(lines(.importsOfCAreInternal, "internal import CLinux\nimport Logging") == [])
    }

    @Test("nghttp2 outside its folder")
    func nghttp2() {
        let text = "internal import CNghttp2"
        #expect(lines(.nghttp2StaysInItsFolder, text, at: "Sources/ApusTransport/Server/A.swift") == [1])
        #expect(lines(.nghttp2StaysInItsFolder, text, at: "Sources/ApusTransport/HTTP2/A.swift") == [])
    }

    @Test("GRPCCore where a user of Apus would get it")
    func grpcCore() {
        let text = "internal import GRPCCore"
        #expect(lines(.grpcCoreStaysInItsPlaces, text, at: "Sources/Apus/A.swift") == [1])
        #expect(lines(.grpcCoreStaysInItsPlaces, text, at: "Tests/ApusTests/A.swift") == [1])
        #expect(lines(.grpcCoreStaysInItsPlaces, text, at: "Tests/GRPCCoreFit/Sources/GRPCCoreFit/A.swift") == [])
    }

    @Test("a line of 121 characters, counted as a reader counts")
    func lineWidth() {
        let text = String(repeating: "a", count: 121) + "\n" + String(repeating: "é", count: 120)
        #expect(lines(.linesAreShort, text) == [1])
        #expect(lines(.linesAreShort, text, at: "Sources/CLinux/clinux.c") == [1])
    }

    private func function(_ head: String, lines: Int) -> String {
        "struct A {\n" + head + " {\n" + String(repeating: "b()\n", count: lines - 2) + "}\n}\n"
    }

    @Test(
        "a function of 71 lines",
        arguments: [
            "func a(b: Int = { 1 }()) throws -> [Int]", "init?(b: Int)", "deinit", "var a: Int",
            "subscript(b: Int) -> Int",
        ]
    )
    func functionLength(head: String) {
        #expect(lines(.functionsAreShort(known: [:]), function(head, lines: 71)) == [2])
        #expect(lines(.functionsAreShort(known: [:]), function(head, lines: 70)) == [])
    }

    @Test("a protocol's requirement has no length of its own")
    func requirements() {
        let text = "protocol P {\nfunc a()\n" + String(repeating: "func b()\n", count: 80) + "var c: Int { get }\n}"
        #expect(lines(.functionsAreShort(known: [:]), text) == [])
    }

    @Test("a listed long function may stay, may not grow, and leaves the list when it shrinks")
    func ratchet() {
        let rule = Rule.functionsAreShort(known: ["Sources/Apus/A.swift:a": 80])
        #expect(lines(rule, function("func a()", lines: 80)) == [])
        #expect(lines(rule, function("func a()", lines: 81)) == [2])
        #expect(lines(rule, function("func a()", lines: 79)) == [1])
        #expect(lines(rule, function("func a()", lines: 10)) == [1])
    }

    @Test(
        "a name that names no concept",
        arguments: [
            "Sources/Apus/Utils.swift", "Sources/Apus/StreamHelpers.swift", "Sources/Apus/Helpers/A.swift",
            "Sources/Apus/ConnectionManager.swift", "Sources/Apus/Call+Misc.swift", "scripts/test-utils",
        ]
    )
    func emptyName(path: String) {
        #expect(lines(.namesSayTheConcept, "", at: path) == [1])
    }

    @Test(
        "a name that only contains such a word",
        arguments: ["Sources/Apus/Miscount.swift", "Sources/Apus/Utilization.swift"]
    )
    func fullName(path: String) {
        #expect(lines(.namesSayTheConcept, "", at: path) == [])
    }

    @Test(
        "what would end the process",
        arguments: [
            "try! a()", "a as! B", "fatalError()", "a!", "a!.b", "f(a!)", "a()!.b", "a[0]!", "var a: Int!",
            "var a: [Int]!",
            "let a = b!, c = d", "a?.b!", "\"\\(a!)\"", "{ 1 }()!", "var a: Array<Int>!", "`a`!",
        ]
    )
    func crash(text: String) {
        #expect(lines(.noCrashingOperators(justified: []), text) == [1])
        #expect(lines(.noCrashingOperators(justified: []), text, at: "Tests/ApusTests/A.swift") == [])
    }

    @Test(
        "what only looks like it",
        arguments: [
            "!a", "a != b", "(!a)", "[!a, !b]", "a && !b", "try? a()", "a as? B", "// a!", "\"a!\"", "precondition(!a)",
            "a !== b", "return !a", "x.fatalError()", "#\"a! \\(b!)\"#", "a ? !b : !c", "#if !os(Linux)\n#endif",
        ]
    )
    func noCrash(text: String) {
        #expect(lines(.noCrashingOperators(justified: []), text) == [])
    }

    @Test("a justified line is let through; a justification without a line is not")
    func justifiedCrash() {
        let rule = Rule.noCrashingOperators(justified: [
            Justified(path: "Sources/Apus/A.swift", line: "table[0]!", reason: "the table is a constant")
        ])
        #expect(lines(rule, "let a = table[0]!") == [])
        #expect(lines(rule, "let a = table[0]!\nlet b = table[1]!") == [2])
        #expect(lines(rule, "let a = 1") == [1])
    }

    @Test(
        "unsafe without a safety comment that covers it",
        arguments: [
            "let a = unsafe b()", "func a() {\n  unsafe b()\n}", "// SAFETY: \nlet a = unsafe b()",
            "// b lives.\nlet a = unsafe b()", "// SAFETY: b lives.\n\nlet a = unsafe b()",
            "struct A {\n  // SAFETY: b lives.\n  func a() { unsafe b() }\n  func c() { unsafe d() }\n}",
            "func a() {\n  unsafe b()\n  // SAFETY: b lives.\n}",
            "func a() {\n  if c {\n    // SAFETY: b lives.\n  }\n  unsafe b()\n}", "let a = \"SAFETY: b\"; unsafe b()",
            "struct A {\n  // SAFETY: b lives.\n  let a = 1\n}\nextension A {\n  func c() { unsafe d() }\n}",
            "struct A {\n  // SAFETY: b lives.\n  struct B {\n    let c = 1\n  }\n  func d() { unsafe e() }\n}",
            "func a() {\n  // SAFETY: b lives.\n  unsafe b()\n}\nfunc c() {\n  unsafe d()\n}",
        ]
    )
    func unexplained(text: String) {
        #expect(lines(.unsafeIsExplained, text).count == 1)
    }

    @Test(
        "unsafe with a safety comment above it, in the same declaration or around it",
        arguments: [
            "// SAFETY: `b` lives.\nlet a = unsafe b()", "let a = unsafe b()  // SAFETY: b lives.",
            "func a() {\n  // SAFETY: b lives.\n  let c = 1\n  if c { d { unsafe b(unsafe e) } }\n}",
            "/// Does.\n/// SAFETY: b lives.\n@inline(always)\nfunc a() {\n  unsafe b()\n}",
            "// SAFETY: b lives.\nstruct A {\n  let c = 1\n  func a() { unsafe b() }\n}",
            "struct A {\n  let c = 1\n  // SAFETY: b lives.\n  var a: Int { unsafe b() }\n}",
            "struct A {\n  // SAFETY: b lives.\n  let c = 1\n  func a() {\n    unsafe b()\n  }\n}",
            "struct A {\n  // SAFETY: b lives.\n  let a = b(\n    unsafe c)\n}", "@unsafe func a() {}", "a(unsafe: 1)",
            "a.unsafe", "struct A {\n  // SAFETY: b lives.\n  unowned(unsafe) let b: B\n}", "// unsafe", "\"unsafe\"",
        ]
    )
    func explained(text: String) {
        #expect(lines(.unsafeIsExplained, text) == [])
    }

    @Test(
        "unchecked concurrency without a comment directly above",
        arguments: [
            "final class A: @unchecked Sendable {}", "// Why.\n\nextension A: @unchecked Sendable {}",
            "nonisolated(unsafe) var a = 1", "// Why.\nlet b = 1\nnonisolated(unsafe) var a = 1",
            "final class A: @unchecked Sendable {}  // Why.",
        ]
    )
    func unchecked(text: String) {
        #expect(lines(.uncheckedIsExplained, text).count == 1)
    }

    @Test(
        "unchecked concurrency that says why",
        arguments: [
            "// Why.\nfinal class A: @unchecked Sendable {}",
            "/// Why.\n@safe\nfinal class A:\n  B, @unchecked Sendable {}",
            "// Why.\nnonisolated(unsafe) private var a = 1", "@Sendable func a() {}", "nonisolated func a() {}",
        ]
    )
    func checked(text: String) {
        #expect(lines(.uncheckedIsExplained, text) == [])
    }

    @Test("a lock that the thread sanitizer does not see")
    func unseenLocks() {
        #expect(lines(.locksAreSeen, "let a = Lock(1)  // not a Mutex\nlet b = Mutex(1)\nvar c: Mutex<Int>") == [2, 3])
        #expect(lines(.locksAreSeen, "let b = Mutex(1)", at: "Sources/ApusBase/Lock.swift") == [])
    }

    @Test("open work that nobody owns")
    func openWork() {
        #expect(
            lines(.openWorkHasAnOwner, "// TODO: a\nlet a = 1  // FIXME b\n/*\n TODO(docs/none.md): c\n*/") == [
                1, 2, 4,
            ]
        )
        #expect(lines(.openWorkHasAnOwner, "// TODO(docs/plan.md): a\n// TODOS\nlet a = \"TODO\"") == [])
        #expect(lines(.openWorkHasAnOwner, "int a; /* TODO */", at: "Sources/CLinux/clinux.c") == [1])
    }
}
