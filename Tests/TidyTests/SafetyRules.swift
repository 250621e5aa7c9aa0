/// Lines of `Sources/` that may end the process, each with the reason why nothing a peer or a user does reaches them.
let justifiedCrashes: [Justified] = []

extension Rule {
    static func noCrashingOperators(justified: [Justified]) -> Rule {
        Rule("no `try!`, `as!`, `fatalError` or force unwrap in Sources/") { tree in
            var unused = justified
            let violations = tree.sources.flatMap { file in
                file.crashes.filter { line, _ in
                    let text = file.lines[line - 1]
                    let isListed: (Justified) -> Bool = { $0.path == file.path && text.contains($0.line) }
                    unused.removeAll(where: isListed)
                    return !justified.contains(where: isListed)
                }.map { Violation(path: file.path, line: $0.line, problem: $0.problem) }
            }
            let stale = unused.map {
                Violation(path: $0.path, line: 1, problem: "nothing to justify in “\($0.line)”; take it off the list")
            }
            return violations + stale
        }
    }

    static let unsafeIsExplained = Rule("each `unsafe` has a `SAFETY:` comment above it") { tree in
        tree.swiftFiles.flatMap { file in
            file.tokens.indices.filter { file.isUnsafeUse($0) && !file.hasSafetyComment(above: $0) }.map {
                Violation(
                    path: file.path,
                    line: file.tokens[$0].line,
                    problem: "`unsafe` without a `// SAFETY:` comment"
                )
            }
        }
    }

    static let uncheckedIsExplained = Rule("`@unchecked Sendable` and `nonisolated(unsafe)` say why") { tree in
        tree.swiftFiles.flatMap { file in
            file.tokens.indices.filter { file.isUnchecked($0) && !file.hasComment(directlyAbove: $0) }.map {
                let problem = "`\(file.tokens[$0].text)` without a comment above that says why"
                return Violation(path: file.path, line: file.tokens[$0].line, problem: problem)
            }
        }
    }

    /// The thread sanitizer takes what two threads do under a `Mutex` for a race, now and then.
    static let locksAreSeen = Rule("a lock is ApusBase's `Lock`, which the thread sanitizer sees") { tree in
        tree.sources.filter { $0.path != "Sources/ApusBase/Lock.swift" }.flatMap { file in
            file.tokens.filter { $0.text == "Mutex" }.map {
                Violation(path: file.path, line: $0.line, problem: "`Mutex` instead of `Lock`")
            }
        }
    }

    static let openWorkHasAnOwner = Rule("what is left to do names the document that owns it") { tree in
        tree.files.flatMap { file -> [Violation] in
            // Swift is searched in its comments; of other languages every line.
            let texts = file.isSwift ? file.comments.map { ($0.firstLine, Substring($0.text)) } : file.numberedLines
            return texts.flatMap { firstLine, text in
                text.split(separator: "\n", omittingEmptySubsequences: false).enumerated().filter { _, line in
                    line.openWork.contains { owner in !(owner.map { tree.hasFile(String($0)) } ?? false) }
                }.map { index, _ in
                    let problem = "open work without a document that owns it, as in `TODO(docs/plan.md)`"
                    return Violation(path: file.path, line: firstLine + index, problem: problem)
                }
            }
        }
    }
}

extension Substring {
    /// One element for each mark of open work in the line: the document in parentheses after it, nil if there is none.
    fileprivate var openWork: [Substring?] {
        matches(of: /\b(?:TODO|FIXME)\b(?:\(([^)]*)\))?/).map { $0.output.1 }
    }
}

extension SourceFile {
    fileprivate var numberedLines: [(Int, Substring)] { lines.enumerated().map { ($0 + 1, $1) } }

    /// Where the file forces what may fail: line and construct.
    fileprivate var crashes: [(line: Int, problem: String)] {
        tokens.indices.compactMap { index in
            let token = tokens[index]
            let before = self.token(before: index)
            if token.text == "fatalError", before?.text != ".", before?.text != "func" {
                return (token.line, "`fatalError`")
            }
            // A `!` that touches what stands before it; one that begins an expression never does.
            guard token.kind == .operator, token.text.last == "!", token.text.allSatisfy({ "?>!".contains($0) }),
                let before, before.end == token.offset
            else { return nil }
            switch before.text {
            case "try", "as": return (token.line, "`\(before.text)!`")
            case ")", "]", "}": return (token.line, "force unwrap")
            default: return before.kind == .punctuation ? nil : (token.line, "force unwrap")
            }
        }
    }

    /// Whether a token is the keyword `unsafe` of an expression, or the one in `unowned(unsafe)`.
    fileprivate func isUnsafeUse(_ index: Int) -> Bool {
        guard tokens[index].text == "unsafe" else { return false }
        let before = token(before: index)?.text
        let after = token(after: index)
        // Not `@unsafe`, which passes the duty on, nor a name or label, nor `nonisolated(unsafe)`, which has its own
        // rule.
        let isName = before == "." || before == "@" || before == "func" || after?.text == ":"
        let isNonisolated = before == "(" && index > 1 && tokens[index - 2].text == "nonisolated"
        return !isName && !isNonisolated
    }

    fileprivate func isUnchecked(_ index: Int) -> Bool {
        switch tokens[index].text {
        case "unchecked": token(before: index)?.text == "@"
        case "nonisolated": token(after: index)?.text == "(" && token(after: index + 1)?.text == "unsafe"
        default: false
        }
    }

    /// Whether a comment stands directly above the line of a token, or above the declaration that it is part of.
    fileprivate func hasComment(directlyAbove index: Int) -> Bool {
        [tokens[index].line, lineOfDeclaration(around: index)].contains { line in
            comments(attachedToLine: line).contains { $0.lastLine < line }
        }
    }

    /// The line on which the declaration that a token is part of begins.
    private func lineOfDeclaration(around index: Int) -> Int {
        // What is a modifier stands before the keyword; looking backward would find the declaration above.
        let isModifier = ["nonisolated", "unowned"].contains {
            tokens[max(0, index - 2)...index].map(\.text).contains($0)
        }
        if isModifier { return tokens[index].line }
        return Scope.declaration(before: index, in: tokens)?.line ?? tokens[index].line
    }

    /// Looks for the comment from the token outward: above the declaration that the token is part of, then above each
    /// one around it, and inside their braces above the token.
    fileprivate func hasSafetyComment(above index: Int) -> Bool {
        let token = tokens[index]
        if comments(attachedToLine: token.line).contains(where: \.isSafety) { return true }
        var line = lineOfDeclaration(around: index)
        var enclosing = innermostScope(at: token.offset)
        while true {
            if comments(attachedToLine: line).contains(where: \.isSafety) { return true }
            guard let current = enclosing else { return false }
            let isCovered = comments.contains { comment in
                comment.isSafety && comment.offset < token.offset && innermostScope(at: comment.offset) == current
                    && !isAboutOneMember(comment, of: current)
            }
            if isCovered { return true }
            line = scopes[current].declaration?.line ?? line
            enclosing = scopes[current].parent
        }
    }

    /// Among statements a comment speaks for all that follows. Among members it speaks for the type when it stands with
    /// the stored properties, and for one member alone when it stands above a function or the like.
    private func isAboutOneMember(_ comment: Comment, of scope: Int) -> Bool {
        scopes[scope].holdsMembers
            && scopes.contains { member in
                guard member.parent == scope, let line = member.declaration?.line else { return false }
                return comments(attachedToLine: line).contains(comment)
            }
    }
}

extension Comment {
    /// Whether the comment says who keeps the memory alive, or whatever else makes the line safe.
    fileprivate var isSafety: Bool { text.contains(/SAFETY:\s*\S/) }
}
