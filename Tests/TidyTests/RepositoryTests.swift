import Testing

@Suite("The repository keeps its own rules")
struct RepositoryTests {
    /// The folder three above this file.
    private static let root = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3)
        .joined(separator: "/")

    @Test("each rule holds for the whole tree", arguments: Rule.all)
    func ruleHolds(rule: Rule) throws {
        let violations = rule.check(try Tree(root: Self.root))
        let list = violations.map(\.description).sorted().joined(separator: "\n")
        #expect(violations.isEmpty, "\(rule.description):\n\(list)")
    }

    @Test("the tree is read: sources and tests are there, generated code is not")
    func treeIsRead() throws {
        let paths = try Tree(root: Self.root).files.map(\.path)
        #expect(paths.contains("Package.swift"))
        #expect(paths.contains("Sources/ApusBase/SystemError.swift"))
        #expect(paths.contains("Sources/CLinux/clinux.c"))
        #expect(paths.contains("Tests/TidyTests/RepositoryTests.swift"))
        #expect(paths.contains("scripts/test"))
        #expect(!paths.contains { $0.hasSuffix(".pb.swift") })
        #expect(paths.contains("Tests/GRPCCoreFit/Package.swift"))
        #expect(!paths.contains { $0.hasPrefix("Tests/GRPCCoreFit/Transport/") }, "a link")
    }

    @Test("every file is lexed to its end: braces balance")
    func bracesBalance() throws {
        for file in try Tree(root: Self.root).swiftFiles {
            let unclosed = file.scopes.filter { $0.close == .max }
            let opened = file.tokens.count { $0.text == "{" }
            let closed = file.tokens.count { $0.text == "}" }
            #expect(unclosed.isEmpty && opened == closed, "\(file.path): \(opened) opened, \(closed) closed")
        }
    }
}
