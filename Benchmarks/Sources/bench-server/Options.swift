import Apus

/// The command line.
struct Options {
    static let usage =
        "bench-server --handler \(HandlerKind.allCases.map(\.rawValue).joined(separator: "|"))"
        + " --listen HOST:PORT|unix:PATH [--threads N] [--tls-cert FILE --tls-key FILE]"

    private(set) var handler = HandlerKind.rawSync
    private(set) var address = ListenAddress.tcp(host: "127.0.0.1", port: 0)
    private(set) var threads = 1
    private var certificate: String?
    private var key: String?

    struct Invalid: Error, CustomStringConvertible {
        let description: String
    }

    init(_ arguments: some Sequence<String>) throws {
        var rest = arguments.makeIterator()
        while let name = rest.next() {
            guard let value = rest.next() else { throw Invalid(description: "\(name) has no value") }
            switch name {
            case "--handler":
                guard let kind = HandlerKind(rawValue: value) else { throw Invalid(description: "no handler \(value)") }
                handler = kind
            case "--listen":
                address = try ListenAddress(value)
            case "--threads":
                guard let count = Int(value), count > 0 else { throw Invalid(description: "\(value) threads") }
                threads = count
            case "--tls-cert":
                certificate = value
            case "--tls-key":
                key = value
            default:
                throw Invalid(description: "unknown option \(name)")
            }
        }
    }

    var security: ServerSecurity {
        get throws {
            switch (certificate, key) {
            case (nil, nil): .plaintext
            case (let certificate?, let key?):
                .tls(ServerTLS(credentials: [.pem(chainFile: certificate, keyFile: key)]))
            default: throw Invalid(description: "--tls-cert and --tls-key go together")
            }
        }
    }

    var service: any RPCService {
        switch handler {
        case .rawSync: RawEcho(synchronous: true)
        case .rawAsync: RawEcho(synchronous: false)
        case .protoSync: ProtoEcho(synchronous: true)
        case .protoAsync: ProtoEcho(synchronous: false)
        case .handSync: HandEcho(synchronous: true)
        case .handAsync: HandEcho(synchronous: false)
        }
    }
}
