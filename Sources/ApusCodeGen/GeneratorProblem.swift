/// Why nothing was generated: one line, for protoc to print.
package struct GeneratorProblem: Error, CustomStringConvertible {
    package let description: String

    init(_ description: String) { self.description = description }
}
