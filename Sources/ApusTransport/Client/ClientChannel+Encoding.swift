internal import ApusBase
internal import ApusCompression
internal import ApusEventLoop

// Calls with messages that are compressed: what differs from the usual way of a call, kept off it.

extension ClientChannel {
    /// Whether requests are compressed.
    @inline(__always)
    func isEncoded(_ options: CallOptions) -> Bool {
        options.compression != nil || encodings.byDefault != MessageEncodings.identity
    }

    /// The encoding of a call's requests.
    private func requestEncoding(_ options: CallOptions) -> MessageEncodings.Index {
        guard let algorithm = options.compression else { return encodings.byDefault }
        return encodings.index(of: algorithm) ?? MessageEncodings.identity
    }

    /// Makes a unary call, whose messages may be compressed, and gives all that it brought.
    func encodedUnary(
        _ method: MethodDescriptor,
        _ request: [UInt8],
        _ options: CallOptions
    ) async -> UnaryOutcome {
        let call = UnaryCall(self, method, options)
        let encoding = requestEncoding(options)
        var compressed: [UInt8]?
        if encoding != MessageEncodings.identity {
            compressed = await encodings.compressAnywhere(request, encoding)
            call.setEncoding(encoding, isCompressed: compressed != nil)
        }
        await call.perform(compressed ?? request)
        do throws(RPCError) {
            return call.outcome(.success(try await call.takeInflatedResponse()))
        } catch {
            return call.outcome(.failure(error))
        }
    }

    /// The same on a thread that blocks, which does all the work itself.
    func encodedUnaryBlocking(
        _ method: MethodDescriptor,
        _ request: [UInt8],
        _ options: CallOptions
    ) -> UnaryOutcome {
        let call = UnaryCall(self, method, options)
        let encoding = requestEncoding(options)
        var compressed: [UInt8]?
        if encoding != MessageEncodings.identity {
            compressed = encodings.compress(request, encoding)
            call.setEncoding(encoding, isCompressed: compressed != nil)
        }
        call.performBlocking(compressed ?? request)
        do throws(RPCError) {
            return call.outcome(.success(try call.takeInflatedResponseBlocking()))
        } catch {
            return call.outcome(.failure(error))
        }
    }

    /// Begins a call of many messages, or of one request, which may be compressed.
    func beginEncoded(_ call: StreamingCall, _ request: [UInt8]?) {
        let encoding = requestEncoding(call.setup.value.options)
        call.setup.value.requestEncoding = encoding
        guard let request else { return start(call) }
        guard encoding != MessageEncodings.identity else {
            call.setOnlyRequest(request)
            return start(call)
        }
        guard MessageEncodings.mustLeaveLoop(toCompress: request.count) else {
            call.setOnlyRequest(request, compressed: encodings.compress(request, encoding))
            return start(call)
        }
        // The channel counts the call from now on: whoever lets go of the channel meanwhile lets its calls end.
        loop.execute { self.callBegan() }
        OffLoopThreads.submit {
            call.setOnlyRequest(request, compressed: self.encodings.compress(request, encoding))
            self.start(call)
            self.loop.execute { self.callEnded() }
        }
    }
}

extension ClientCall {
    /// A response that was inflated, or the error that ends the call for it.
    final func inflated(
        _ result: Result<[UInt8], DecompressionError>,
        _ encoding: MessageEncodings.Index
    ) throws(RPCError) -> [UInt8] {
        switch result {
        case .success(let message): return message
        case .failure(let error):
            let name = channel.encodings.algorithm(encoding).name
            throw RPCError(error, "response", method, name, limit: maxResponseBytes)
        }
    }
}
