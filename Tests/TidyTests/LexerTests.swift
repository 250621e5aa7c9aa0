import Testing

@Suite("The lexer under the rules")
struct LexerTests {
    private func words(_ text: String) -> [String] { Lexer(text).tokens.map(\.text) }

    @Test("comments are no tokens, nested ones included")
    func comments() {
        let lexer = Lexer("a // b \" c\n/* d /* e */ f */ g\n")
        #expect(lexer.tokens.map(\.text) == ["a", "g"])
        #expect(lexer.comments.map(\.text) == ["// b \" c", "/* d /* e */ f */"])
        #expect(lexer.tokens.map(\.line) == [1, 2])
    }

    @Test(
        "what a string holds is not code",
        arguments: [
            #"x("a { b // c") y"#, #"x("a \" { b") y"#, ##"x(#"a " \( { b"#) y"##, "x(\"\"\"\n a \" { b\n \"\"\") y",
            ###"x(##"a "# { b"##) y"###, #"x("") y"#, "x(#/a { \" /#) y", "x(\"\\\\\") y",
        ]
    )
    func strings(text: String) {
        #expect(words(text) == ["x", "(", "\"\"", ")", "y"])
    }

    @Test("what an interpolation holds is code, to the parenthesis that closes it")
    func interpolations() {
        #expect(words(#""a \(f(x)) { \(y!)" z"#) == ["f", "(", "x", ")", "y", "!", "\"\"", "z"])
        #expect(words(##"#"a \(no) \#(yes)"# z"##) == ["yes", "\"\"", "z"])
        #expect(words(#""\("\(inner)")" z"#) == ["inner", "\"\"", "\"\"", "z"])
    }

    @Test("a string that is cut short ends with its line")
    func unterminated() {
        #expect(words("a \"b\nc") == ["a", "\"\"", "c"])
    }

    @Test("operators, member access and numbers are told apart")
    func operators() {
        #expect(
            words("a!.b != c...d 1.5 0..<n x?.y!") == [
                "a", "!", ".", "b", "!=", "c", "...", "d", "1.5", "0", "..<", "n", "x", "?", ".", "y", "!",
            ]
        )
    }

    @Test("a name in backticks is one word")
    func backticks() {
        #expect(words("func `a { b`() `unsafe`") == ["func", "`a { b`", "(", ")", "`unsafe`"])
    }

    @Test("scopes know whose braces they are")
    func scopes() {
        let text = """
            struct A<T> where T: B {
                var c: Int { 1 }
                init(d: Int = 2) throws { if d > 1 { e { f() } } }
                class func g() {}
            }
            """
        let declarations = SourceFile(path: "a.swift", text: text).scopes.map { $0.declaration?.keyword ?? "-" }
        #expect(declarations == ["struct", "var", "init", "-", "-", "func"])
        #expect(SourceFile(path: "a.swift", text: text).scopes.map(\.parent) == [nil, 0, 0, 2, 3, 0])
    }
}
