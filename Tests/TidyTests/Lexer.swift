/// A piece of Swift source: a word, an operator, a bracket; what a string literal or a comment holds is not among them.
struct Token: Equatable {
    enum Kind { case word, number, literal, `operator`, punctuation }

    var kind: Kind
    var text: String
    /// Counted from 1.
    var line: Int
    /// In bytes from the start of the file.
    var offset: Int
    var end: Int
}

/// A comment, of either form, with its slashes and stars.
struct Comment: Equatable {
    var text: String
    /// Counted from 1.
    var firstLine: Int
    var lastLine: Int
    var offset: Int
}

/// Splits Swift source into tokens and comments, far enough for the rules: nested comments, raw and multi-line strings,
/// code inside interpolations and extended regular expressions are understood; bare `/…/` ones are not.
struct Lexer {
    private let bytes: [UInt8]
    private var position = 0
    private var line = 1

    private(set) var tokens: [Token] = []
    private(set) var comments: [Comment] = []

    init(_ text: String) {
        bytes = Array(text.utf8)
        lexCode(insideInterpolation: false)
    }

    private func byte(_ ahead: Int = 0) -> UInt8? {
        position + ahead < bytes.count ? bytes[position + ahead] : nil
    }

    private func isNext(_ text: StaticString, at ahead: Int = 0) -> Bool {
        let wanted = Array("\(text)".utf8)
        let start = position + ahead
        return start + wanted.count <= bytes.count && bytes[start..<start + wanted.count].elementsEqual(wanted)
    }

    private mutating func advance(_ count: Int = 1) {
        for _ in 0..<count where position < bytes.count {
            if bytes[position] == UInt8(ascii: "\n") { line += 1 }
            position += 1
        }
    }

    private mutating func emit(_ kind: Token.Kind, from start: Int) {
        let text = String(decoding: bytes[start..<position], as: UTF8.self)
        tokens.append(Token(kind: kind, text: text, line: line, offset: start, end: position))
    }

    /// Reads to the end of the file, or to the parenthesis that closes the interpolation it is in.
    private mutating func lexCode(insideInterpolation: Bool) {
        var depth = 0
        while let next = byte() {
            if next == UInt8(ascii: " ") || next == UInt8(ascii: "\n") || next == UInt8(ascii: "\t") {
                advance()
            } else if isNext("//") || isNext("/*") {
                lexComment()
            } else if let hashes = hashesBeforeLiteral() {
                lexLiteral(hashes: hashes)
            } else if next.isWordHead || next == UInt8(ascii: "`") {
                lexWord()
            } else if next.isDigit {
                lexNumber()
            } else if next.isOperator || isNext("..") {
                lexOperator()
            } else {
                if next == UInt8(ascii: "(") { depth += 1 }
                if next == UInt8(ascii: ")") {
                    depth -= 1
                    if insideInterpolation, depth < 0 { return }
                }
                let start = position
                advance()
                emit(.punctuation, from: start)
            }
        }
    }

    private mutating func lexComment() {
        let start = position
        let firstLine = line
        if isNext("//") {
            while let next = byte(), next != UInt8(ascii: "\n") { advance() }
        } else {
            var depth = 0
            repeat {
                if isNext("/*") {
                    depth += 1
                    advance(2)
                } else if isNext("*/") {
                    depth -= 1
                    advance(2)
                } else {
                    advance()
                }
            } while depth > 0 && position < bytes.count
        }
        let text = String(decoding: bytes[start..<position], as: UTF8.self)
        comments.append(Comment(text: text, firstLine: firstLine, lastLine: line, offset: start))
    }

    /// How many `#` stand before the string or regular expression that starts here; nil when none starts here.
    private func hashesBeforeLiteral() -> Int? {
        var hashes = 0
        while byte(hashes) == UInt8(ascii: "#") { hashes += 1 }
        if byte(hashes) == UInt8(ascii: "\"") { return hashes }
        return hashes > 0 && byte(hashes) == UInt8(ascii: "/") ? hashes : nil
    }

    private mutating func lexLiteral(hashes: Int) {
        let start = position
        advance(hashes)
        let isString = byte() == UInt8(ascii: "\"")
        let isMultiline = !isString || isNext("\"\"\"")
        let delimiter: [UInt8] = Array((!isString ? "/" : isMultiline ? "\"\"\"" : "\"").utf8)
        let closing = delimiter + Array(repeating: UInt8(ascii: "#"), count: hashes)
        advance(delimiter.count)
        while let next = byte() {
            if next == UInt8(ascii: "\n"), !isMultiline {
                break
            } else if bytes[position...].starts(with: closing) {
                advance(closing.count)
                break
            } else if next == UInt8(ascii: "\\") {
                lexEscape(hashes: isString ? hashes : 0, mayInterpolate: isString)
            } else {
                advance()
            }
        }
        tokens.append(Token(kind: .literal, text: "\"\"", line: line, offset: start, end: position))
    }

    /// An escape, or in a raw string a backslash that is none; an interpolation's code is lexed like any other.
    private mutating func lexEscape(hashes: Int, mayInterpolate: Bool) {
        advance()
        for ahead in 0..<hashes where byte(ahead) != UInt8(ascii: "#") { return }
        advance(hashes)
        if mayInterpolate, byte() == UInt8(ascii: "(") {
            advance()
            lexCode(insideInterpolation: true)
        }
        advance()
    }

    private mutating func lexWord() {
        let start = position
        if byte() == UInt8(ascii: "`") {
            advance()
            while let next = byte(), next != UInt8(ascii: "`"), next != UInt8(ascii: "\n") { advance() }
            advance()
        } else {
            while let next = byte(), next.isWordHead || next.isDigit { advance() }
        }
        emit(.word, from: start)
    }

    private mutating func lexNumber() {
        let start = position
        while let next = byte() {
            let isFraction = next == UInt8(ascii: ".") && byte(1)?.isDigit == true
            guard next.isWordHead || next.isDigit || isFraction else { break }
            advance()
        }
        emit(.number, from: start)
    }

    private mutating func lexOperator() {
        let start = position
        let mayHoldDots = byte() == UInt8(ascii: ".")
        while let next = byte(), next.isOperator || (mayHoldDots && next == UInt8(ascii: ".")) {
            if position > start, isNext("//") || isNext("/*") { break }
            advance()
        }
        emit(.operator, from: start)
    }
}

extension UInt8 {
    fileprivate var isDigit: Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(self) }

    fileprivate var isWordHead: Bool {
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(self) || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(self)
            || self == UInt8(ascii: "_") || self == UInt8(ascii: "$") || self >= 0x80
    }

    fileprivate var isOperator: Bool { operatorBytes.contains(self) }
}

private let operatorBytes = Set("/=-+!*%<>&|^~?".utf8)
