internal import Glibc

/// A system call that failed: what was tried, on what, and what the kernel said.
public struct SystemError: Error, Hashable, Sendable {
    /// The value of `errno`.
    public let errnoValue: Int32
    /// The call and its object, for example `bind 127.0.0.1:50051`.
    public let operation: String

    public init(errno: Int32, operation: String) {
        self.errnoValue = errno
        self.operation = operation
    }
}

extension SystemError: CustomStringConvertible {
    /// For example `bind 127.0.0.1:50051: Address already in use (errno 98)`.
    public var description: String {
        // SAFETY: the buffer outlives both calls; the XSI strerror_r that Swift sees fills it and terminates it with
        // NUL.
        let text = unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
            guard let start = buffer.baseAddress, unsafe strerror_r(errnoValue, start, 256) == 0 else {
                return "unknown error"
            }
            return unsafe String(cString: start)
        }
        return "\(operation): \(text) (errno \(errnoValue))"
    }
}
