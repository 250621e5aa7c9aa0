/// Turns messages of one type into bytes and back.
///
/// `ApusProtobuf` has the one for Protocol Buffers. A codec is called from whatever thread a handler runs on.
public protocol MessageCodec<Message>: Sendable {
    associatedtype Message: Sendable

    /// The bytes of a message; an error ends the call with `INTERNAL`.
    func encode(_ message: Message) throws -> [UInt8]

    /// The message in the bytes; an error ends the call with `INTERNAL`.
    func decode(_ bytes: [UInt8]) throws -> Message
}

/// Messages that are their own bytes: for proxies, for measurements, and for formats that the application decodes
/// itself.
public struct BytesCodec: MessageCodec {
    public init() {}

    @inlinable
    public func encode(_ message: [UInt8]) -> [UInt8] { message }

    @inlinable
    public func decode(_ bytes: [UInt8]) -> [UInt8] { bytes }
}

extension MessageCodec {
    /// Decodes a request; what fails is told to the client as `INTERNAL`.
    @inlinable
    func decodeRequest(_ bytes: [UInt8], _ context: CallContext) throws -> Message {
        do {
            return try decode(bytes)
        } catch {
            throw context.codecError("a request of \(context.method) could not be decoded", error)
        }
    }

    /// Encodes a response; what fails is told to the client as `INTERNAL`.
    @inlinable
    func encodeResponse(_ message: Message, _ context: CallContext) throws -> [UInt8] {
        do {
            return try encode(message)
        } catch {
            throw context.codecError("a response of \(context.method) could not be encoded", error)
        }
    }
}
