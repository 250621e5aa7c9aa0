/// What is asked of the server; the same names as in Floor/floor-client.c.
enum Shape: String, CaseIterable {
    case unary
    case pingPong = "ping-pong"
    case stream
}

/// How a message is seen, and where the code that makes calls runs.
enum Variant: String, CaseIterable {
    case rawAsync = "raw-async"
    case rawElsewhere = "raw-elsewhere"
    case rawBlocking = "raw-blocking"
    case protoAsync = "proto-async"
    case protoElsewhere = "proto-elsewhere"
    case protoBlocking = "proto-blocking"
    /// By the generated client; the others call the channel themselves.
    case stubAsync = "stub-async"
}

/// Where the code that makes calls runs.
enum Place {
    /// In tasks that prefer the channel's loop.
    case loop
    /// In tasks on the concurrency pool.
    case pool
    /// On threads that block.
    case threads
}

extension Variant {
    var place: Place {
        switch self {
        case .rawAsync, .protoAsync, .stubAsync: .loop
        case .rawElsewhere, .protoElsewhere: .pool
        case .rawBlocking, .protoBlocking: .threads
        }
    }
}

/// The command line.
struct ClientOptions {
    static let usage =
        "bench-client --target TARGET --calls N [--variant \(list(of: Variant.self))]"
        + " [--shape \(list(of: Shape.self))] [--in-flight 1] [--warm-up 0] [--latencies yes|no]"

    private(set) var target = ""
    private(set) var variant = Variant.rawAsync
    private(set) var shape = Shape.unary
    private(set) var inFlight = 1
    private(set) var calls = 0
    private(set) var warmUp = 0
    private(set) var wantsLatencies = true

    struct Invalid: Error, CustomStringConvertible {
        let description: String
    }

    init(_ arguments: some Sequence<String>) throws {
        var rest = arguments.makeIterator()
        while let name = rest.next() {
            guard let value = rest.next() else { throw Invalid(description: "\(name) has no value") }
            switch name {
            case "--target": target = value
            case "--variant": variant = try Self.choice(value)
            case "--shape": shape = try Self.choice(value)
            case "--in-flight": inFlight = try Self.count(value, atLeast: 1)
            case "--calls": calls = try Self.count(value, atLeast: 1)
            case "--warm-up": warmUp = try Self.count(value, atLeast: 0)
            case "--latencies": wantsLatencies = value != "no"
            default: throw Invalid(description: "unknown option \(name)")
            }
        }
        guard !target.isEmpty, calls > 0 else { throw Invalid(description: "--target and --calls are needed") }
    }

    private static func choice<Choice: RawRepresentable>(_ text: String) throws -> Choice
    where Choice.RawValue == String {
        guard let choice = Choice(rawValue: text) else { throw Invalid(description: "there is no \(text)") }
        return choice
    }

    private static func count(_ text: String, atLeast least: Int) throws -> Int {
        guard let count = Int(text), count >= least else { throw Invalid(description: "\(text) is not a count") }
        return count
    }

    private static func list<Choice: CaseIterable & RawRepresentable>(of _: Choice.Type) -> String
    where Choice.RawValue == String {
        Choice.allCases.map(\.rawValue).joined(separator: "|")
    }
}
