internal import ApusTLS

extension TLSContextSource {
    /// Loads the first context; what is wrong with the configuration is the user's to hear.
    convenience init(
        loading what: String,
        _ load: @escaping @Sendable () throws(TLSError) -> TLSContext
    ) throws(RPCError) {
        do throws(TLSError) {
            try self.init(load)
        } catch {
            throw Self.invalid(what, error)
        }
    }

    func reload(describedAs what: String) throws(RPCError) {
        do throws(TLSError) {
            try reload()
        } catch {
            throw Self.invalid(what, error)
        }
    }

    func replace(
        describedAs what: String,
        _ load: @escaping @Sendable () throws(TLSError) -> TLSContext
    ) throws(RPCError) {
        do throws(TLSError) {
            try replaceLoader(load)
        } catch {
            throw Self.invalid(what, error)
        }
    }

    private static func invalid(_ what: String, _ error: TLSError) -> RPCError {
        RPCError(code: .invalidArgument, message: "\(what) cannot be loaded: \(error)", cause: error)
    }
}
