internal import Apus
internal import Foundation

private let bytes = BytesCodec()

extension RunningCall {
    func blockingUnary() throws(RPCError) {
        record.wrote()
        let response = channel.blockingUnaryWithMetadata(
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

    func blockingServerStreaming() throws(RPCError) {
        record.wrote()
        let responses = channel.blockingServerStreaming(
            command.method,
            command.request(0),
            requestCodec: bytes,
            responseCodec: bytes,
            options: command.options
        )
        if command.drop == true { return release.waitBlocking() }
        cancellable { responses.cancel() }
        try read(responses)
    }

    func blockingClientStreaming() throws(RPCError) {
        let call = channel.blockingClientStreaming(
            command.method,
            requestCodec: bytes,
            responseCodec: bytes,
            options: command.options
        )
        if command.drop == true { return release.waitBlocking() }
        cancellable { call.cancel() }
        if command.watchHead == true { sayHead(try call.initialMetadata()) }
        write(call.requests)
        do throws(RPCError) {
            _ = record.took(try call.response())
        } catch {
            record.took(initial: try? call.initialMetadata())
            throw error
        }
        record.took(initial: try call.initialMetadata())
        record.took(trailers: try call.trailers())
    }

    /// One thread reads, another writes.
    func blockingBidirectionalStreaming() throws(RPCError) {
        let call = channel.blockingBidirectionalStreaming(
            command.method,
            requestCodec: bytes,
            responseCodec: bytes,
            options: command.options
        )
        if command.drop == true { return release.waitBlocking() }
        cancellable { call.cancel() }
        let written = Gate()
        Thread {
            self.write(call.requests)
            written.open()
        }.start()
        do throws(RPCError) {
            try read(call.responses)
        } catch {
            finish.open()
            written.waitBlocking()
            throw error
        }
        finish.open()
        written.waitBlocking()
    }

    private func read(_ responses: BlockingResponseStream<[UInt8]>) throws(RPCError) {
        if command.watchHead == true { sayHead(try responses.initialMetadata()) }
        do throws(RPCError) {
            if command.watchCompression == true {
                while let response = try responses.nextReceived() {
                    record.took(wasCompressed: response.wasCompressed)
                    if !took(response.message) { return }
                }
            } else {
                while let message = try responses.next() { if !took(message) { return } }
            }
        } catch {
            record.took(initial: try? responses.initialMetadata())
            throw error
        }
        record.took(initial: try responses.initialMetadata())
        record.took(trailers: try responses.trailers())
    }

    /// `false` when the loop that reads is to be left.
    private func took(_ message: [UInt8]) -> Bool {
        let count = record.took(message)
        if count == command.breakAfter { return false }
        if count == command.pauseAfter {
            sayPaused(count)
            resume.waitBlocking()
        }
        return true
    }

    private func write(_ requests: BlockingRequestWriter<[UInt8]>) {
        do throws(RPCError) {
            for number in 0..<command.requestCount {
                try requests.write(command.request(number), compressed: !command.isPlain(number))
                record.wrote()
            }
            finish.waitBlocking()
            // A request that is given up is not to look like a whole one.
            if command.breakAfter == nil { requests.finish() }
        } catch {
            record.failedToWrite(error)
            // One that was refused here leaves the call as it was.
            requests.finish()
        }
    }
}
