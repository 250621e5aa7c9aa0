internal import ApusTransport

// Between messages and bytes on a client: what a codec throws becomes the call's error.

extension MessageCodec {
    @inlinable
    func encoded(_ message: Message, _ method: MethodDescriptor, _ channel: ClientChannel) throws(RPCError) -> [UInt8] {
        do {
            return try encode(message)
        } catch {
            throw channel.codecError(method, decoding: false, error)
        }
    }

    @inlinable
    func decoded(_ bytes: [UInt8], _ method: MethodDescriptor, _ channel: ClientChannel) throws(RPCError) -> Message {
        do {
            return try decode(bytes)
        } catch {
            throw channel.codecError(method, decoding: true, error)
        }
    }
}

extension CallHandle {
    @inlinable
    func encoded<Message>(_ message: Message, _ encode: (Message) throws -> [UInt8]) throws(RPCError) -> [UInt8] {
        do {
            return try encode(message)
        } catch {
            throw codecError(decoding: false, error)
        }
    }

    /// A response that cannot be decoded cancels the call: what follows it would make no sense.
    @inlinable
    func decoded<Message>(_ bytes: [UInt8], _ decode: ([UInt8]) throws -> Message) throws(RPCError) -> Message {
        do {
            return try decode(bytes)
        } catch {
            throw codecError(decoding: true, error)
        }
    }
}

extension ClientChannel {
    @inlinable
    func begin(_ method: MethodDescriptor, _ options: CallOptions) -> CallHandle { startCall(method, options) }

    /// A request that cannot be encoded is a call that has failed.
    @inlinable
    func begin<Request: MessageCodec>(
        _ method: MethodDescriptor,
        _ request: Request.Message,
        _ codec: Request,
        _ options: CallOptions
    ) -> CallHandle {
        do throws(RPCError) {
            return startCall(method, try codec.encoded(request, method, self), options)
        } catch {
            return failedCall(method, options, error)
        }
    }
}
