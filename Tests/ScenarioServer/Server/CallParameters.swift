internal import Apus

/// What a test asks of a handler, in the call's metadata: `x-key: NAME`, `x-ms: NUMBER` and the like.
struct CallParameters {
    private let metadata: Metadata

    init(_ context: CallContext) { metadata = context.metadata }

    /// The name under which the call is recorded, and of the gate at which it waits.
    var key: String { metadata["x-key"] ?? "" }

    func integer(_ name: String, default value: Int = 0) -> Int { metadata[name].flatMap(Int.init) ?? value }

    /// How long to do what the method does, from `x-ms`.
    var duration: Duration { .milliseconds(integer("x-ms")) }

    /// The entries whose keys begin with `x-`.
    var custom: Metadata {
        var custom = Metadata()
        for (key, value) in metadata where key.hasPrefix("x-") {
            switch value {
            case .text(let text): custom.add(text, for: key)
            case .bytes(let bytes): custom.add(bytes: bytes, for: key)
            }
        }
        return custom
    }
}
