internal import Apus

private let bytes = BytesCodec()

extension RunningCall {
    func unary() async throws(RPCError) {
        record.wrote()
        let response = await channel.unaryWithMetadata(
            command.method,
            command.request(0),
            requestCodec: bytes,
            responseCodec: bytes,
            options: command.options
        )
        record.took(initial: response.initialMetadata)
        record.took(trailers: response.trailers)
        record.took(wasCompressed: response.wasCompressed)
        _ = record.took(try response.message)
    }

    func serverStreaming() async throws(RPCError) {
        record.wrote()
        let responses = channel.serverStreaming(
            command.method,
            command.request(0),
            requestCodec: bytes,
            responseCodec: bytes,
            options: command.options
        )
        if command.drop == true { return await release.wait() }
        cancellable { responses.cancel() }
        try await read(responses)
    }

    func clientStreaming() async throws(RPCError) {
        let call = channel.clientStreaming(
            command.method,
            requestCodec: bytes,
            responseCodec: bytes,
            options: command.options
        )
        if command.drop == true { return await release.wait() }
        cancellable { call.cancel() }
        if command.watchHead == true { sayHead(try await call.initialMetadata) }
        await write(call.requests)
        do throws(RPCError) {
            _ = record.took(try await call.response())
        } catch {
            record.took(initial: try? await call.initialMetadata)
            throw error
        }
        record.took(initial: try await call.initialMetadata)
        record.took(trailers: try await call.trailers)
    }

    func bidirectionalStreaming() async throws(RPCError) {
        let call = channel.bidirectionalStreaming(
            command.method,
            requestCodec: bytes,
            responseCodec: bytes,
            options: command.options
        )
        if command.drop == true { return await release.wait() }
        cancellable { call.cancel() }
        async let written: Void = write(call.requests)
        do throws(RPCError) {
            try await read(call.responses)
        } catch {
            finish.open()
            await written
            throw error
        }
        finish.open()
        await written
    }

    private func read(_ responses: ResponseStream<[UInt8]>) async throws(RPCError) {
        if command.watchHead == true { sayHead(try await responses.initialMetadata) }
        do throws(RPCError) {
            if command.watchCompression == true {
                for try await response in responses.received {
                    record.took(wasCompressed: response.wasCompressed)
                    if await !took(response.message) { return }
                }
            } else {
                for try await message in responses where await !took(message) { return }
            }
        } catch {
            record.took(initial: try? await responses.initialMetadata)
            throw error
        }
        record.took(initial: try await responses.initialMetadata)
        record.took(trailers: try await responses.trailers)
    }

    /// `false` when the loop that reads is to be left.
    private func took(_ message: [UInt8]) async -> Bool {
        let count = record.took(message)
        if count == command.breakAfter { return false }
        if count == command.pauseAfter {
            sayPaused(count)
            await resume.wait()
        }
        return true
    }

    /// Writes until all is written or the call is over.
    private func write(_ requests: RequestWriter<[UInt8]>) async {
        do throws(RPCError) {
            for number in 0..<command.requestCount {
                let request = command.request(number)
                if command.isPlain(number) {
                    try await requests.write(request, compressed: false)
                } else {
                    try await requests.write(request)
                }
                record.wrote()
            }
            await finish.wait()
            // A request that is given up is not to look like a whole one.
            if !Task.isCancelled, command.breakAfter == nil { requests.finish() }
        } catch {
            record.failedToWrite(error)
            // One that was refused here leaves the call as it was.
            requests.finish()
        }
    }

    func sayHead(_ initial: Metadata) {
        Output.say("head", ["id": .string(command.id ?? ""), "initial": .metadata(initial)])
    }

    func sayPaused(_ count: Int) {
        Output.say("paused", ["id": .string(command.id ?? ""), "read": .int(count)])
    }
}
