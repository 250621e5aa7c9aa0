import Apus
import ApusProtobuf
import EchoV1
import Glibc

/// An answer that is not the echo of its request, or a stream that does not end where it should.
struct WrongAnswer: Error, CustomStringConvertible {
    let description: String
}

/// How the program sees messages.
protocol Dialect: Sendable {
    associatedtype RequestCodec: MessageCodec
    associatedtype ResponseCodec: MessageCodec

    var requestCodec: RequestCodec { get }
    var responseCodec: ResponseCodec { get }
    /// The message that every client and server sends.
    func message() -> RequestCodec.Message
    /// The request of `Repeat`.
    func message(asking count: Int) -> RequestCodec.Message
    func check(_ response: ResponseCodec.Message) throws(WrongAnswer)
}

private let messageText = "this is echo number 0000000000"

/// Messages as bytes: what the stack itself costs.
struct RawDialect: Dialect {
    let requestCodec = BytesCodec()
    let responseCodec = BytesCodec()
    private let bytes = Self.encode(messageText)

    private static func encode(_ text: String) -> [UInt8] { [0x0A, UInt8(text.utf8.count)] + text.utf8 }

    func message() -> [UInt8] { bytes }
    func message(asking count: Int) -> [UInt8] { Self.encode(String(count)) }

    func check(_ response: [UInt8]) throws(WrongAnswer) {
        // As the floor compares: `==` of arrays goes byte by byte, which costs more than a tenth of a streamed message.
        let same = response.withUnsafeBytes { received in
            bytes.withUnsafeBytes { sent in
                guard let left = received.baseAddress, let right = sent.baseAddress else { return false }
                return received.count == sent.count && memcmp(left, right, sent.count) == 0
            }
        }
        guard same else { throw WrongAnswer(description: "not the echo of the request: \(response)") }
    }
}

/// Messages made, encoded and decoded, as an application does.
struct ProtoDialect: Dialect {
    let requestCodec = ProtobufCodec<Echo_V1_EchoRequest>()
    let responseCodec = ProtobufCodec<Echo_V1_EchoResponse>()

    func message() -> Echo_V1_EchoRequest { .with { $0.text = messageText } }
    func message(asking count: Int) -> Echo_V1_EchoRequest { .with { $0.text = String(count) } }

    func check(_ response: Echo_V1_EchoResponse) throws(WrongAnswer) {
        guard response.text == messageText else {
            throw WrongAnswer(description: "not the echo of the request: \(response.text)")
        }
    }
}
