/// Functions that are longer than the rule allows, with their lengths: none may be added, and none may grow. One that
/// has become shorter is to be entered with its new length, or taken out.
let longFunctions: [String: Int] = [:]

private let lineWidthMax = 120
private let functionLinesMax = 70

extension Rule {
    static let linesAreShort = Rule("no line is wider than \(lineWidthMax) characters") { tree in
        tree.files.flatMap { file in
            file.lines.enumerated().filter { $0.element.count > lineWidthMax }.map { index, line in
                Violation(path: file.path, line: index + 1, problem: "\(line.count) characters wide")
            }
        }
    }

    /// `known` holds the exceptions: lengths by `path:name`.
    static func functionsAreShort(known: [String: Int]) -> Rule {
        Rule("no function is longer than \(functionLinesMax) lines") { tree in
            var lengths: [String: (length: Int, line: Int, path: String)] = [:]
            for file in tree.swiftFiles {
                for (name, line, length) in file.functions where length > functionLinesMax {
                    let key = "\(file.path):\(name)"
                    // Overloads share an entry, which stands for the longest.
                    if length > lengths[key]?.length ?? 0 { lengths[key] = (length, line, file.path) }
                }
            }
            let tooLong = lengths.filter { $0.value.length > known[$0.key] ?? functionLinesMax }.map { key, found in
                Violation(path: found.path, line: found.line, problem: "\(key) has \(found.length) lines")
            }
            let shrunk = known.filter { $0.value > lengths[$0.key]?.length ?? 0 }.map { key, length in
                Violation(path: key, line: 1, problem: "is shorter than the \(length) lines listed; update the list")
            }
            return tooLong + shrunk
        }
    }

    static let namesSayTheConcept = Rule("files and folders are named after their concept") { tree in
        tree.files.flatMap { file in
            file.path.split(separator: "/").filter { part in
                part.prefix { $0 != "." }.wordsOfName.contains { emptyNames.contains($0.lowercased()) }
            }.map { Violation(path: file.path, line: 1, problem: "\($0) names no concept") }
        }
    }
}

private let emptyNames: Set = [
    "util", "utils", "utility", "utilities", "helper", "helpers", "manager", "managers", "misc", "miscellaneous",
]

extension Substring {
    /// `HTTP2StreamManager+Misc` is made of `HTTP2`, `Stream`, `Manager` and `Misc`; `buffer-utils` of two words.
    fileprivate var wordsOfName: [String] {
        var words: [String] = [""]
        var previousWasLower = false
        for character in self {
            if !character.isLetter && !character.isNumber {
                words.append("")
            } else if character.isUppercase && previousWasLower {
                words.append(String(character))
            } else {
                words[words.count - 1].append(character)
            }
            previousWasLower = character.isLowercase || character.isNumber
        }
        return words
    }
}

extension SourceFile {
    /// Functions, initialisers, subscripts and computed properties that have a body, with their length in lines.
    fileprivate var functions: [(name: String, line: Int, length: Int)] {
        scopes.compactMap { scope in
            guard let declaration = scope.declaration, !scope.holdsMembers, scope.lastLine != .max else { return nil }
            // A variable among statements is no function of its own.
            let isVariable = declaration.keyword == "var" || declaration.keyword == "let"
            if isVariable, let parent = scope.parent, !scopes[parent].holdsMembers { return nil }
            return (declaration.name, declaration.line, scope.lastLine - declaration.line + 1)
        }
    }
}
