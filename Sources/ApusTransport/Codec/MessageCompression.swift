internal import ApusBase
internal import ApusCompression
internal import ApusEventLoop

// Where messages are compressed and inflated: by the thread that writes or reads them, except that an event loop leaves
// large ones to threads of their own (docs/decisions/0010-compression.md).

extension MessageEncodings {
    /// What a loop compresses itself, in bytes: 0.15 ms at the most.
    static let compressedOnLoopBytesMax = 8 * 1024
    /// What a loop inflates itself, in bytes: no more than this in, and no more than that out.
    static let inflatedOnLoopBytesMax = 16 * 1024
    static let inflatedOnLoopResultBytesMax = 128 * 1024

    /// To compress a byte takes as long as to inflate so many.
    private static let compressionFactor = 8

    /// Whether this thread, being a loop's, is not to compress so much, or has done enough in this turn. If not, the
    /// caller does it: it is counted.
    static func mustLeaveLoop(toCompress bytes: Int) -> Bool {
        guard let loop = EventLoop.current else { return false }
        if bytes > compressedOnLoopBytesMax || !loop.mayCode { return true }
        loop.coded(bytes: bytes * compressionFactor)
        return false
    }

    /// The message compressed, on this thread; `nil` when it is to be sent as it is.
    func compress(_ message: [UInt8], _ index: Index) -> [UInt8]? { codec(index).compressedIfSmaller(message) }

    /// The message compressed, where it holds up no loop; `nil` when it is to be sent as it is.
    func compressAnywhere(_ message: [UInt8], _ index: Index) async -> [UInt8]? {
        guard Self.mustLeaveLoop(toCompress: message.count) else { return compress(message, index) }
        return await Suspension<[UInt8]?>.wait { suspension in
            OffLoopThreads.submit { suspension.resume(returning: self.compress(message, index)) }
        }
    }

    /// The message inflated, on this thread.
    func inflate(_ message: [UInt8], _ index: Index, bytesMax: Int) -> Result<[UInt8], DecompressionError> {
        do throws(DecompressionError) {
            return .success(try codec(index).inflated(message, bytesMax: bytesMax))
        } catch {
            return .failure(error)
        }
    }

    /// The message inflated, where it holds up no loop.
    func inflateAnywhere(
        _ message: [UInt8],
        _ index: Index,
        bytesMax: Int
    ) async -> Result<[UInt8], DecompressionError> {
        guard let loop = EventLoop.current else { return inflate(message, index, bytesMax: bytesMax) }
        // Many that are small each are as much work as one that is large.
        if message.count <= Self.inflatedOnLoopBytesMax, loop.mayCode {
            let result = inflate(message, index, bytesMax: min(bytesMax, Self.inflatedOnLoopResultBytesMax))
            let bytes = (try? result.get().count) ?? Self.inflatedOnLoopResultBytesMax
            loop.coded(bytes: message.count + bytes)
            // Few bytes may be a large message all the same: how large, only inflating tells.
            guard case .failure(.overLimit) = result, bytesMax > Self.inflatedOnLoopResultBytesMax else {
                return result
            }
        }
        return await Suspension<Result<[UInt8], DecompressionError>>.wait { suspension in
            OffLoopThreads.submit {
                suspension.resume(returning: self.inflate(message, index, bytesMax: bytesMax))
            }
        }
    }
}

extension RPCError {
    /// Why a message that came could not be inflated: rules 13 and 14 of what is accepted.
    init(_ error: DecompressionError, _ what: String, _ method: MethodDescriptor, _ encoding: String, limit: Int) {
        switch error {
        case .overLimit:
            self.init(
                code: .resourceExhausted,
                message: "a \(what) of \(method), inflated, is over the limit of \(limit) bytes"
            )
        case .malformed(let problem):
            self.init(
                code: .internal,
                message: "a \(what) of \(method) could not be inflated (\(encoding)): \(problem)"
            )
        }
    }
}

/// A message that was received.
@usableFromInline
package struct ReceivedBytes: Sendable {
    @usableFromInline package var bytes: [UInt8]
    /// Whether it came compressed.
    @usableFromInline package var wasCompressed = false
}
