/// One file of the tree, with what the rules ask about it.
struct SourceFile {
    /// From the root of the repository, for example `Sources/ApusBase/Metadata.swift`.
    let path: String
    let lines: [Substring]
    /// In the order of the source; empty for a file that is not Swift.
    let tokens: [Token]
    let comments: [Comment]
    /// Every `{ … }`, in the order of their opening braces.
    let scopes: [Scope]

    private let linesWithCode: Set<Int>
    private let firstTokenOfLine: [Int: Token]

    init(path: String, text: String) {
        self.path = path
        lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        let lexer = Lexer(path.hasSuffix(".swift") ? text : "")
        tokens = lexer.tokens
        comments = lexer.comments
        scopes = Scope.all(in: lexer.tokens)
        firstTokenOfLine = Dictionary(lexer.tokens.map { ($0.line, $0) }, uniquingKeysWith: { first, _ in first })
        linesWithCode = Set(firstTokenOfLine.keys)
    }

    var isSwift: Bool { path.hasSuffix(".swift") }

    /// The folder below `Sources/` that the file is in, which is its module's name.
    var module: String? {
        let parts = path.split(separator: "/")
        return parts.count > 2 && parts[0] == "Sources" ? String(parts[1]) : nil
    }

    /// The token before, nil at the start.
    func token(before index: Int) -> Token? { index > 0 ? tokens[index - 1] : nil }

    /// The token after, nil at the end.
    func token(after index: Int) -> Token? { index + 1 < tokens.count ? tokens[index + 1] : nil }

    /// The innermost scope around a place, as an index into `scopes`; nil at the top of the file.
    func innermostScope(at offset: Int) -> Int? {
        scopes.lastIndex { $0.open < offset && offset < $0.close }
    }

    /// The comments that belong to the declaration on a line: on that line, or in the unbroken block of comment and
    /// attribute lines directly above it.
    func comments(attachedToLine line: Int) -> [Comment] {
        var first = line
        while first > 1 {
            let above = first - 1
            let isAttribute = firstTokenOfLine[above]?.text == "@"
            let isComment =
                !linesWithCode.contains(above) && comments.contains { ($0.firstLine...$0.lastLine) ~= above }
            guard isAttribute || isComment else { break }
            first = above
        }
        return comments.filter { $0.lastLine >= first && $0.firstLine <= line }
    }
}

/// A pair of braces and what it belongs to.
struct Scope: Equatable {
    /// Offsets of the braces in bytes; an unclosed scope reaches to the end of time.
    var open: Int
    var close = Int.max
    var lastLine = Int.max
    var parent: Int?
    /// The nearest declaration that the braces can belong to: its keyword (`func`, `struct`, …), name and line. Nil for
    /// a scope that no declaration precedes, such as the body of an `if` at the start of a function.
    var declaration: Declaration?

    struct Declaration: Equatable {
        var keyword: String
        var name: String
        var line: Int
    }

    /// Whether the braces hold members rather than statements.
    var holdsMembers: Bool { typeKeywords.contains(declaration?.keyword ?? "") }

    static func all(in tokens: [Token]) -> [Scope] {
        var scopes: [Scope] = []
        var openScopes: [Int] = []
        for (index, token) in tokens.enumerated() {
            if token.text == "{" {
                let declaration = declaration(before: index, in: tokens)
                scopes.append(Scope(open: token.offset, parent: openScopes.last, declaration: declaration))
                openScopes.append(scopes.count - 1)
            } else if token.text == "}", let innermost = openScopes.popLast() {
                scopes[innermost].close = token.offset
                scopes[innermost].lastLine = token.line
            }
        }
        return scopes
    }

    /// Looks backward from a token for the declaration it is part of: out of brackets, past balanced ones, and no
    /// further than the nearest brace.
    static func declaration(before index: Int, in tokens: [Token]) -> Declaration? {
        var depth = 0
        for candidate in stride(from: index - 1, through: 0, by: -1) {
            switch tokens[candidate].text {
            case ")", "]": depth += 1
            case "(", "[": depth = max(0, depth - 1)
            case "{", "}", ";": if depth == 0 { return nil }
            default:
                if depth == 0, let found = declaration(at: candidate, in: tokens) { return found }
            }
        }
        return nil
    }

    private static func declaration(at index: Int, in tokens: [Token]) -> Declaration? {
        let token = tokens[index]
        if index > 0, tokens[index - 1].text == "." { return nil }
        let next = index + 1 < tokens.count ? tokens[index + 1] : nil
        if namelessKeywords.contains(token.text) {
            return Declaration(keyword: token.text, name: token.text, line: token.line)
        }
        // `class` and `actor` are also other things than the start of a declaration, with no name after them.
        guard typeKeywords.contains(token.text) || memberKeywords.contains(token.text),
            let next, next.kind == .word || next.kind == .operator || next.text == "("
        else { return nil }
        return Declaration(keyword: token.text, name: next.text, line: token.line)
    }
}

private let typeKeywords: Set = ["struct", "class", "enum", "extension", "protocol", "actor"]
private let memberKeywords: Set = ["func", "var", "let"]
private let namelessKeywords: Set = ["init", "deinit", "subscript"]
