internal import ApusBase

/// What a server does with calls of methods that are not in its table: one handler takes them all, for whoever keeps a
/// table of his own. Which method was called is in the context.
package struct Fallback: Sendable {
    package let handler: @Sendable (CallContext) async throws -> Void
    package let executor: HandlerExecutor
    package let maxRequestBytes: Int
    package let maxResponseBytes: Int

    package init(
        executor: HandlerExecutor,
        maxRequestBytes: Int,
        maxResponseBytes: Int,
        handler: @escaping @Sendable (CallContext) async throws -> Void
    ) {
        self.handler = handler
        self.executor = executor
        self.maxRequestBytes = maxRequestBytes
        self.maxResponseBytes = maxResponseBytes
    }

    /// The method for a path, made for it alone: the names come from the peer, so nobody may collect them.
    func method(for path: Span<UInt8>) -> ServedMethod? {
        guard let descriptor = MethodDescriptor(path: path) else { return nil }
        return ServedMethod(
            descriptor: descriptor,
            handler: .bidirectionalStreaming(handler),
            executor: executor,
            maxRequestBytes: maxRequestBytes,
            maxResponseBytes: maxResponseBytes
        )
    }
}

extension MethodDescriptor {
    /// What `/service/method` names: two names that are not empty, in UTF-8, and no slash in either.
    init?(path: Span<UInt8>) {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(path.count)
        for index in 0..<path.count { bytes.append(path[index]) }
        let parts = bytes.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        guard parts.count == 3, parts[0].isEmpty, !parts[1].isEmpty, !parts[2].isEmpty,
            let service = String(validating: parts[1], as: UTF8.self),
            let method = String(validating: parts[2], as: UTF8.self)
        else { return nil }
        self.init(service: service, method: method)
    }
}
