internal import Apus
internal import EchoV1
internal import Glibc

/// What a call brought, for a person to read: texts on standard output, all else on standard error.
struct Report: Sendable {
    let isVerbose: Bool

    func show(_ text: String) {
        print(text)
        fflush(nil)
    }

    func show(_ response: UnaryResponse<Echo_V1_EchoResponse>) throws {
        show(initial: response.initialMetadata)
        show(try response.message.text)
        show(trailers: response.trailers)
    }

    func show(initial metadata: Metadata) { show("initial metadata", metadata) }

    func show(trailers metadata: Metadata) { show("trailers", metadata) }

    func failed(_ error: RPCError) {
        show(trailers: error.metadata)
        complain("\(error)")
    }

    private func show(_ what: String, _ metadata: Metadata) {
        if isVerbose { complain("\(what): \(metadata)") }
    }

    private func complain(_ line: String) {
        fflush(nil)
        let bytes = Array("\(line)\n".utf8)
        // SAFETY: the bytes are the array's, which is not changed during the call.
        _ = unsafe bytes.withUnsafeBytes { unsafe write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }
}
