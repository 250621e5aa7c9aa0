internal import Apus

/// The metadata that a server of the tests sends back ("Echo Metadata"), with the values of the case `custom_metadata`.
enum EchoedMetadata {
    static let initialKey = "x-grpc-test-echo-initial"
    static let initialValue = "test_initial_metadata_value"
    static let trailingKey = "x-grpc-test-echo-trailing-bin"
    static let trailingValue: [UInt8] = [0xAB, 0xAB, 0xAB]

    /// Both, as a client sends them.
    static var request: Metadata {
        var metadata: Metadata = [initialKey: initialValue]
        metadata.add(bytes: trailingValue, for: trailingKey)
        return metadata
    }
}
