import Apus
import ApusServices
import SwiftProtobuf
import Testing

@Suite struct StatusDetailsTests {
    private let info = Google_Rpc_ErrorInfo.with { $0.reason = "COLD" }

    @Test func `details travel in the trailer that gRPC has for them`() throws {
        let error = try RPCError(code: .aborted, message: "no", details: [info], metadata: ["k": "v"])
        #expect(error.code == .aborted)
        #expect(error.message == "no")
        #expect(error.metadata["k"] == "v")
        let status = try Google_Rpc_Status(
            serializedBytes: try #require(error.metadata.bytes(for: "grpc-status-details-bin").first)
        )
        #expect(status.code == 10)
        #expect(status.message == "no")
        #expect(status.details.map(\.typeURL) == ["type.googleapis.com/google.rpc.ErrorInfo"])
    }

    @Test func `a detail is found by its type, the first of several`() throws {
        let other = Google_Rpc_ErrorInfo.with { $0.reason = "HOT" }
        let retry = Google_Rpc_RetryInfo.with { $0.retryDelay.seconds = 3 }
        let error = try RPCError(code: .aborted, message: "no", details: [retry, info, other])
        #expect(error.detail(Google_Rpc_ErrorInfo.self)?.reason == "COLD")
        #expect(error.detail(Google_Rpc_RetryInfo.self)?.retryDelay.seconds == 3)
        #expect(error.detail(Google_Rpc_BadRequest.self) == nil)
    }

    @Test func `an error without details, or with bytes that are none, has none`() {
        #expect(RPCError(code: .aborted, message: "no").status == nil)
        var metadata = Metadata()
        metadata.add(bytes: [0xFF, 0xFF], for: "grpc-status-details-bin")
        let error = RPCError(code: .aborted, message: "no", metadata: metadata)
        #expect(error.status == nil)
        #expect(error.detail(Google_Rpc_ErrorInfo.self) == nil)
    }

    @Test func `a detail whose bytes are not of its type is passed over`() throws {
        let status = Google_Rpc_Status.with {
            $0.details = [
                .with {
                    $0.typeURL = "type.googleapis.com/google.rpc.ErrorInfo"
                    $0.value = .init([0xFF])
                }
            ]
        }
        var metadata = Metadata()
        metadata.add(bytes: try status.serializedBytes(), for: "grpc-status-details-bin")
        #expect(RPCError(code: .aborted, message: "", metadata: metadata).detail(Google_Rpc_ErrorInfo.self) == nil)
    }
}
