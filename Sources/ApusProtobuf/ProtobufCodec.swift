public import Apus
public import SwiftProtobuf

/// Messages of Protocol Buffers in their binary form.
public struct ProtobufCodec<Message: SwiftProtobuf.Message>: MessageCodec {
    @inlinable
    public init() {}

    @inlinable
    public func encode(_ message: Message) throws -> [UInt8] { try message.serializedBytes() }

    @inlinable
    public func decode(_ bytes: [UInt8]) throws -> Message { try Message(serializedBytes: bytes) }
}
