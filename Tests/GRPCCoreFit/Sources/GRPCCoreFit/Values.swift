package import ApusBase
package import GRPCCore

// The values that both libraries have, turned into each other.

extension ApusBase.Metadata {
    /// Text under a `-bin` key counts as base64, as it does in GRPCCore.
    package init(_ metadata: GRPCCore.Metadata) {
        self.init()
        for (key, value) in metadata {
            switch value {
            case .binary(let bytes): add(bytes: bytes, for: key)
            case .string(let text) where key.lowercased().hasSuffix("-bin"):
                let decoded = GRPCCore.Metadata([(key, .string(text))])[binaryValues: key]
                for bytes in decoded { add(bytes: bytes, for: key) }
            case .string(let text): add(text, for: key)
            }
        }
    }
}

extension GRPCCore.Metadata {
    package init(_ metadata: ApusBase.Metadata) {
        self.init()
        for (key, value) in metadata {
            switch value {
            case .text(let text): addString(text, forKey: key)
            case .bytes(let bytes): addBinary(bytes, forKey: key)
            }
        }
    }
}

extension ApusBase.MethodDescriptor {
    package init(_ descriptor: GRPCCore.MethodDescriptor) {
        self.init(service: descriptor.service.fullyQualifiedService, method: descriptor.method)
    }
}

extension GRPCCore.MethodDescriptor {
    package init(_ descriptor: ApusBase.MethodDescriptor) {
        self.init(fullyQualifiedService: descriptor.service, method: descriptor.method)
    }
}

extension ApusBase.RPCError {
    package init(_ error: GRPCCore.RPCError) {
        self.init(
            code: StatusCode(rawValue: error.code.rawValue) ?? .unknown,
            message: error.message,
            metadata: ApusBase.Metadata(error.metadata),
            cause: error.cause
        )
    }

    /// What a status says went wrong; `nil` when it is OK.
    package init?(_ status: Status, _ metadata: GRPCCore.Metadata) {
        guard let error = GRPCCore.RPCError(status: status, metadata: metadata) else { return nil }
        self.init(error)
    }
}

extension GRPCCore.RPCError {
    package init(_ error: ApusBase.RPCError) {
        let code = Status.Code(rawValue: error.code.rawValue).flatMap { Code($0) } ?? .unknown
        self.init(
            code: code,
            message: error.message,
            metadata: GRPCCore.Metadata(error.metadata),
            cause: error.cause
        )
    }
}

extension SocketAddress {
    /// As GRPCCore's contexts name a peer: `ipv4:127.0.0.1:50051`, `ipv6:[::1]:50051`, `unix:/run/echo.sock`.
    package var peerText: String {
        switch self {
        case .ipv4: "ipv4:\(self)"
        case .ipv6: "ipv6:\(self)"
        case .unix, .unixAbstract, .unnamed: "\(self)"
        }
    }
}
