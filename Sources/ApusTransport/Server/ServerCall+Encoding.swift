internal import ApusBase
package import ApusCompression
internal import Synchronization

// Messages that are compressed, for handlers on any thread.

/// What is decided of the encoding of a call's responses: one of the values below, or from ``first`` on an encoding,
/// with ``settled`` once a message or the head counts on it.
enum ResponseEncoding {
    /// None is chosen, and may be.
    static let open: UInt8 = 0
    /// The head has left without one.
    static let none: UInt8 = 1
    static let first: UInt8 = 2
    static let settled: UInt8 = 0x80

    /// The encoding that a value stands for.
    static func index(_ value: UInt8) -> MessageEncodings.Index {
        let chosen = value & ~settled
        return chosen < first ? MessageEncodings.identity : chosen - first + 1
    }

    static func value(_ index: MessageEncodings.Index) -> UInt8 {
        index == MessageEncodings.identity ? open : first + index - 1
    }
}

extension ServerCall {
    // MARK: Choosing

    /// Whether responses are to be compressed.
    @inline(__always)
    var compresses: Bool { responseEncoding.load(ordering: .relaxed) >= ResponseEncoding.first }

    /// Before the handler starts: what the server's configuration, and the client, have it be.
    func chooseEncoding(_ index: MessageEncodings.Index) {
        responseEncoding.store(ResponseEncoding.value(index), ordering: .relaxed)
        // The head names what is accepted, or used: it is not the usual one.
        hasResponseMetadata.store(true, ordering: .releasing)
    }

    /// Chooses the encoding of the responses, from the first one on.
    ///
    /// - Returns: whether it is that: there is a codec, the client accepts it, and nothing was sent yet.
    package func setResponseCompression(_ algorithm: CompressionAlgorithm) -> Bool {
        let wanted = shard.encodings.index(of: algorithm)
        let isAccepted = wanted.map { encodings.accepts($0) } ?? false
        let value = ResponseEncoding.value(isAccepted ? wanted ?? MessageEncodings.identity : MessageEncodings.identity)
        while true {
            let current = responseEncoding.load(ordering: .relaxed)
            if current == ResponseEncoding.none || current & ResponseEncoding.settled != 0 {
                return wanted == ResponseEncoding.index(current)
            }
            let (isExchanged, _) = responseEncoding.compareExchange(
                expected: current,
                desired: value,
                ordering: .relaxed
            )
            if isExchanged { break }
        }
        hasResponseMetadata.store(true, ordering: .releasing)
        return isAccepted
    }

    /// The encoding of the responses, which is not changed any more.
    func settleEncoding() -> MessageEncodings.Index {
        while true {
            let current = responseEncoding.load(ordering: .relaxed)
            let settled = current < ResponseEncoding.first ? ResponseEncoding.none : current | ResponseEncoding.settled
            if current == settled { return ResponseEncoding.index(current) }
            let (isExchanged, _) = responseEncoding.compareExchange(
                expected: current,
                desired: settled,
                ordering: .relaxed
            )
            if isExchanged { return ResponseEncoding.index(settled) }
        }
    }

    // MARK: What came

    /// The encoding that the client declared for its messages.
    package var requestCompression: CompressionAlgorithm { shard.encodings.algorithm(encodings.request) }

    /// What the client accepts of what the server has.
    package var acceptedCompressions: [CompressionAlgorithm] { shard.encodings.algorithms(in: encodings.accepted) }

    /// Whether the one request of a method that takes one came compressed.
    package var requestWasCompressed: Bool { requestIsCompressed }

    /// Inflates the one request of a method that takes one.
    ///
    /// - Returns: what is wrong with it.
    func inflateRequest() async -> RPCError? {
        let limit = method.maxRequestBytes
        let result = await shard.encodings.inflateAnywhere(takeRequest(), encodings.request, bytesMax: limit)
        switch result {
        case .success(let request):
            setRequest(request)
            if loop.isCurrent { return session?.hold(inflated: request.count, self) }
            // Not waited for: the count is on its way before the handler's end is.
            loop.execute { _ = self.session?.hold(inflated: request.count, self) }
            return nil
        case .failure(let error): return requestError(error)
        }
    }

    /// Inflates a message of many. What is wrong with it ends the call, whatever the handler makes of it.
    func inflate(_ message: [UInt8]) async throws(RPCError) -> [UInt8] {
        let limit = method.maxRequestBytes
        switch await shard.encodings.inflateAnywhere(message, encodings.request, bytesMax: limit) {
        case .success(let message): return message
        case .failure(let error):
            let error = requestError(error)
            if loop.isCurrent { fail(error) } else { loop.execute { self.fail(error) } }
            throw error
        }
    }

    private func requestError(_ error: DecompressionError) -> RPCError {
        RPCError(error, "request", method.descriptor, requestCompression.name, limit: method.maxRequestBytes)
    }

    /// On the loop.
    private func fail(_ error: RPCError) {
        guard let stream, let session else { return }
        session.fail(stream, error)
    }

    // MARK: What goes out

    /// A reply as it goes out, compressed on this thread.
    func encode(_ message: [UInt8]) -> EncodedReply {
        let index = settleEncoding()
        guard index != MessageEncodings.identity, let compressed = shard.encodings.compress(message, index) else {
            return EncodedReply(message: message, isCompressed: false)
        }
        return EncodedReply(message: compressed, isCompressed: true)
    }

    /// A message as it goes out, compressed where it holds up no loop.
    func encodeAnywhere(_ message: [UInt8]) async -> EncodedReply {
        let index = settleEncoding()
        guard index != MessageEncodings.identity,
            let compressed = await shard.encodings.compressAnywhere(message, index)
        else { return EncodedReply(message: message, isCompressed: false) }
        return EncodedReply(message: compressed, isCompressed: true)
    }

    /// The handler of a call with one response returned.
    func deliver(encoding reply: [UInt8]) async {
        // What is too large is refused as it is.
        if reply.count > method.maxResponseBytes {
            deliver(.reply(reply))
        } else {
            deliver(.encodedReply(await encodeAnywhere(reply)))
        }
    }
}
