import ConcurrentMap
import Foundation
import Testing

// What README.md shows of the map, compiled and run.

private struct Position: Sendable, Equatable {
    var size = 0.0
    var price = 0.0
}

@Suite struct QuickStartTests {
    @Test func `what README shows works`() {
        let positions = ConcurrentMap<String, Position>()
        positions["SOL-PERP"] = Position(size: 2, price: 150)
        print(positions["SOL-PERP"]?.price ?? 0)  // copied out
        print(positions.withValue(forKey: "SOL-PERP") { $0.size } ?? 0)  // read in place, however long that takes
        positions.updateValue(forKey: "SOL-PERP") { $0.size += 1 }  // in one step, whoever else writes
        positions.compareExchange(forKey: "BTC-PERP", expected: nil, desired: Position())
        for (market, position) in positions { print(market, position.size) }  // while others write
        let atOneMoment: [String: Position] = positions.snapshot()
        #expect(atOneMoment == ["SOL-PERP": Position(size: 3, price: 150), "BTC-PERP": Position()])
    }

    @Test func `what README shows is the code that is compiled here`() throws {
        func lines(_ text: some StringProtocol) -> [String] {
            text.split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
        }
        let here = URL(filePath: #filePath)
        let root = here.deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let readme = try String(contentsOf: root.appending(path: "README.md"), encoding: .utf8)
        let blocks = readme.components(separatedBy: "```").filter { $0.contains("import ConcurrentMap") }
        #expect(blocks.count == 1)
        let shown = lines(blocks.joined().replacing("swift\nimport", with: "import"))
        let source = try String(contentsOf: here, encoding: .utf8)
        let compiled = Set(lines(source.replacing("private struct Position", with: "struct Position")))
        #expect(shown.filter { !compiled.contains($0) } == [])
        #expect(shown.count > 10)
    }
}
