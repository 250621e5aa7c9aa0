internal import Apus
internal import ApusBase
internal import Foundation

/// A value as JSON has them.
enum JSON: Encodable, Sendable {
    case null
    case bool(Bool)
    case int(Int)
    case double(Double)
    case string(String)
    case array([JSON])
    case object([String: JSON])

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .null: try container.encodeNil()
        case .bool(let value): try container.encode(value)
        case .int(let value): try container.encode(value)
        case .double(let value): try container.encode(value)
        case .string(let value): try container.encode(value)
        case .array(let values): try container.encode(values)
        case .object(let values): try container.encode(values)
        }
    }

    static func base64(_ bytes: [UInt8]) -> JSON { .string(Data(bytes).base64EncodedString()) }

    /// Pairs of a key and text, or a key and `{"base64": …}`, in their order.
    static func metadata(_ metadata: Metadata?) -> JSON {
        guard let metadata else { return .null }
        return .array(
            metadata.map { key, value in
                switch value {
                case .text(let text): .array([.string(key), .string(text)])
                case .bytes(let bytes): .array([.string(key), .object(["base64": base64(bytes)])])
                }
            }
        )
    }
}

/// Standard output: a JSON object for each line. From any thread.
enum Output {
    private static let lock = Lock(())

    static func say(_ event: String, _ fields: [String: JSON] = [:]) {
        var fields = fields
        fields["event"] = .string(event)
        guard var line = try? JSONEncoder().encode(JSON.object(fields)) else { return }
        line.append(UInt8(ascii: "\n"))
        lock.withLock { _ in try? FileHandle.standardOutput.write(contentsOf: line) }
    }
}
