package import Apus
internal import ArgumentParser

/// `gzip` or `deflate`.
package enum CompressionArgument: String, ExpressibleByArgument, CaseIterable {
    case gzip, deflate

    package var algorithm: CompressionAlgorithm {
        switch self {
        case .gzip: .gzip
        case .deflate: .deflate
        }
    }
}
