/// Code as it grows, indented.
///
/// As the one of SwiftProtobufPluginLibrary is used, whose time grows with the square of what it has printed: a file of
/// some thousand methods took minutes.
struct StubPrinter {
    private var code: [UInt8] = []
    private var indentation = 0
    private var isAtLineStart = true

    var content: String { String(decoding: code, as: UTF8.self) }

    /// Adds texts as they are, but for the indentation of each line that is not empty.
    mutating func print(_ texts: String...) {
        for text in texts {
            for byte in text.utf8 {
                if isAtLineStart, byte != UInt8(ascii: "\n") {
                    code.append(contentsOf: repeatElement(UInt8(ascii: " "), count: indentation))
                }
                code.append(byte)
                isAtLineStart = byte == UInt8(ascii: "\n")
            }
        }
    }

    /// Indents what is printed meanwhile by four columns more.
    mutating func withIndentation(_ body: (inout StubPrinter) -> Void) {
        indentation += 4
        body(&self)
        indentation -= 4
    }
}
