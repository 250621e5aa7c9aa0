import TestSupport
import Testing

@testable import ApusBase

@Suite struct MetadataTests {
    // MARK: Order, case, bytes

    @Test func `values of a key come in the order in which they were added, among those of others`() {
        var metadata: Metadata = ["b": "1", "a": "2", "b": "3"]
        metadata.add("4", for: "a")
        #expect(metadata.values(for: "b") == ["1", "3"])
        #expect(metadata.values(for: "a") == ["2", "4"])
        #expect(metadata.map(\.key) == ["b", "a", "b", "a"])
        #expect(metadata.count == 4)
    }

    @Test func `keys are the same in every case, and shown in lower case`() {
        var metadata = Metadata()
        metadata.add("v", for: "X-Trace")
        #expect(metadata["x-TRACE"] == "v")
        #expect(metadata.map(\.key) == ["x-trace"])
        metadata.removeAll(for: "X-TRACE")
        #expect(metadata.isEmpty)
    }

    @Test func `a key that ends in -bin holds bytes, whatever they were added as`() {
        var metadata = Metadata()
        metadata.add(bytes: [0, 255, 10], for: "A-Bin")
        metadata.add("é", for: "a-bin")
        #expect(metadata.bytes(for: "a-bin") == [[0, 255, 10], [0xC3, 0xA9]])
        let values = metadata.map(\.value)
        #expect(values == [.bytes([0, 255, 10]), .bytes([0xC3, 0xA9])])
    }

    @Test func `a key that merely contains bin holds text`() {
        let metadata: Metadata = ["a-bin-b": "t", "bin": "u", "a_bin": "v"]
        #expect(metadata.map(\.value) == [.text("t"), .text("u"), .text("v")])
    }

    @Test func `bytes that are no text are repaired when read as text`() {
        var metadata = Metadata()
        metadata.add(bytes: [0x61, 0xFF, 0x62], for: "k")
        #expect(metadata["k"] == "a\u{FFFD}b")
        #expect(metadata.bytes(for: "k") == [[0x61, 0xFF, 0x62]])
    }

    @Test func `empty values are values`() {
        var metadata: Metadata = ["k": ""]
        metadata.add(bytes: [], for: "k-bin")
        #expect(metadata["k"] == "")
        #expect(metadata.values(for: "k") == [""])
        #expect(metadata.bytes(for: "k-bin") == [[]])
        #expect(metadata.count == 2)
    }

    // MARK: Removing and setting

    @Test func `removing a key leaves the others as they were`() {
        var metadata: Metadata = ["a": "1", "ab": "2", "a": "3", "b": "4"]
        metadata.removeAll(for: "a")
        #expect(metadata == ["ab": "2", "b": "4"])
        metadata.removeAll(for: "none")
        #expect(metadata == ["ab": "2", "b": "4"])
    }

    @Test func `setting a key replaces all of its values, and nil removes them`() {
        var metadata: Metadata = ["a": "1", "b": "2", "a": "3"]
        metadata["A"] = "4"
        #expect(metadata.values(for: "a") == ["4"])
        #expect(metadata["b"] == "2")
        metadata["a"] = nil
        #expect(metadata == ["b": "2"])
        #expect(metadata["a"] == nil)
    }

    @Test func `a copy is a value of its own`() {
        var first: Metadata = ["a": "1"]
        let second = first
        first.add("2", for: "a")
        #expect(second == ["a": "1"])
    }

    @Test func `adding metadata to itself doubles it`() {
        var metadata: Metadata = ["a": "1", "b": "2"]
        metadata.add(contentsOf: metadata)
        #expect(metadata == ["a": "1", "b": "2", "a": "1", "b": "2"])
    }

    // MARK: Equality

    @Test func `equal means the same entries in the same order`() {
        #expect(["a": "1", "b": "2"] as Metadata == ["A": "1", "B": "2"])
        #expect(["a": "1", "b": "2"] as Metadata != ["b": "2", "a": "1"])
        // The same bytes in a row, cut in other places.
        #expect(["ab": "c"] as Metadata != ["a": "bc"])
        #expect(["a": "b", "c": "d"] as Metadata != ["a": "bcd"])
        #expect(Set<Metadata>([["a": "1"], ["A": "1"], ["a": "2"]]).count == 2)
    }

    // MARK: Sizes

    @Test(arguments: [1, 255, 256, 65_534])
    func `a name of up to 65,534 bytes is kept whole`(bytes: Int) {
        let name = String(repeating: "n", count: bytes)
        let metadata: Metadata = [name: "v", "k": "w"]
        #expect(metadata[name] == "v")
        #expect(metadata["k"] == "w")
        #expect(metadata.firstProblem == nil)
    }

    @Test(arguments: [0, 255, 256, 65_535, 65_536, 1 << 20])
    func `a value of any size is kept whole`(bytes: Int) {
        let value = String(repeating: "v", count: bytes)
        let metadata: Metadata = ["a": value, "k": "w"]
        #expect(metadata["a"] == value)
        #expect(metadata["k"] == "w")
    }

    @Test func `a name longer than that is refused when it would be sent`() {
        let metadata: Metadata = [String(repeating: "n", count: 65_536): "v"]
        #expect(metadata.count == 1)
        #expect(metadata.firstProblem != nil)
    }

    // MARK: The flat form

    @Test func `what is taken over in flat form is what was built`() {
        var random = RandomSource(seed: 1)
        for _ in 0..<300 {
            var entries: [(key: String, value: [UInt8])] = []
            var metadata = Metadata()
            for _ in 0..<Int.random(in: 0...6, using: &random) {
                let key = "k\(Int.random(in: 0...3, using: &random))" + (Bool.random(using: &random) ? "-bin" : "")
                let value = random.bytes(upTo: 300)
                entries.append((key, value))
                metadata.add(bytes: value, for: key)
            }
            let copy = Metadata(packed: metadata.packed)
            #expect(copy == metadata)
            #expect(copy.fields.map { Array(copy.packed[$0.value]) } == entries.map(\.value))
            #expect(copy.fields.map { String(decoding: copy.packed[$0.name], as: UTF8.self) } == entries.map(\.key))
        }
    }

    @Test func `random changes do what they do to a list of pairs`() {
        var random = RandomSource(seed: 2)
        var model: [(String, String)] = []
        var metadata = Metadata()
        for step in 0..<3000 {
            let key = "k\(Int.random(in: 0...5, using: &random))"
            switch Int.random(in: 0...9, using: &random) {
            case 0...5:
                metadata.add("\(step)", for: key)
                model.append((key, "\(step)"))
            case 6...7:
                metadata.removeAll(for: key)
                model.removeAll { $0.0 == key }
            default:
                metadata[key] = "\(step)"
                model.removeAll { $0.0 == key }
                model.append((key, "\(step)"))
            }
            #expect(metadata.values(for: key) == model.filter { $0.0 == key }.map(\.1))
            #expect(metadata.count == model.count)
        }
        #expect(metadata.map(\.key) == model.map(\.0))
    }

    @Test func `the description shows text as text and bytes in hexadecimal`() {
        var metadata: Metadata = ["a": "b"]
        metadata.add(bytes: [0, 15, 255], for: "c-bin")
        #expect("\(metadata)" == "[a: b, c-bin: 0x000fff]")
        #expect("\(Metadata())" == "[]")
    }
}
