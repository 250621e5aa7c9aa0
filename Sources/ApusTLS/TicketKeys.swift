internal import ApusBase
internal import COpenSSL

/// The keys that a server's tickets are encrypted with, made in memory and renewed.
///
/// With the key of a ticket of TLS 1.2 all that was recorded of its session can be read (RFC 5077 §5.5); TLS 1.3 adds
/// an ephemeral key each time. OpenSSL has one key for as long as its context lives, which may be a year. Here a key
/// encrypts for as long as a session lasts, decrypts for as long again, and is forgotten.
///
/// Used by all loops.
final class TicketKeys: Sendable {
    static let secondsMax = Int64(SessionLifetime.secondsMax)

    /// The one that encrypts, and the one before.
    private struct Keys {
        var current: TicketKey
        var previous: TicketKey?
    }

    private let keys: Lock<Keys>

    init() throws(TLSError) {
        guard let key = TicketKey() else { throw TLSError(.protocolFailure, "OpenSSL gives no random bytes") }
        keys = Lock(Keys(current: key))
    }

    /// The key for a new ticket.
    func current() -> TicketKey {
        keys.withLock { keys in
            if copenssl_now() - keys.current.madeAt >= Self.secondsMax { Self.renew(&keys) }
            return keys.current
        }
    }

    /// The key with a name, if it is still good, and whether new tickets have another.
    func find(_ name: UnsafeRawBufferPointer) -> (key: TicketKey, isOld: Bool)? {
        // SAFETY: the bytes are the caller's for the length of the call.
        keys.withLock { keys in
            if unsafe keys.current.isNamed(name) { return (keys.current, false) }
            guard let previous = keys.previous, unsafe previous.isNamed(name),
                copenssl_now() - keys.current.madeAt < Self.secondsMax
            else { return nil }
            return (previous, true)
        }
    }

    /// Another key from here on.
    func renew() { keys.withLock { Self.renew(&$0) } }

    private static func renew(_ keys: inout Keys) {
        // Without random bytes the old one is better than none.
        guard let key = TicketKey() else { return }
        keys = Keys(current: key, previous: keys.current)
    }
}

/// A key of tickets: its name, which stands in front of them, and secrets for cipher and authentication.
///
/// SAFETY: the memory is this object's own, written in `init` alone, and wiped and freed in deinit.
// For that reason.
@safe
final class TicketKey: @unchecked Sendable {
    static let nameBytes = 16
    static let initialVectorBytes = 16
    private static let secretBytes = 64

    private let bytes: UnsafeMutableRawBufferPointer
    /// Seconds since 1970.
    let madeAt = copenssl_now()

    /// `nil` without random bytes.
    init?() {
        unsafe bytes = .allocate(byteCount: Self.nameBytes + Self.secretBytes, alignment: 16)
        let isFilled = unsafe RAND_priv_bytes(bytes.baseAddress, CInt(bytes.count)) == 1
        if !isFilled { return nil }
    }

    deinit {
        unsafe OPENSSL_cleanse(bytes.baseAddress, bytes.count)
        unsafe bytes.deallocate()
    }

    var name: UnsafeRawBufferPointer { unsafe UnsafeRawBufferPointer(rebasing: bytes[..<Self.nameBytes]) }

    func isNamed(_ other: UnsafeRawBufferPointer) -> Bool { unsafe name.elementsEqual(other) }

    /// Sets up OpenSSL to encrypt or decrypt a ticket.
    ///
    /// SAFETY: the pointers are the caller's for the length of the call.
    func prepare(
        _ cipher: OpaquePointer?,
        _ authentication: OpaquePointer?,
        initialVector: UnsafePointer<UInt8>?,
        encrypts: Bool
    ) -> Bool {
        let secret = unsafe bytes.baseAddress.map { unsafe $0 + Self.nameBytes }
        return unsafe copenssl_ticket_prepare(cipher, authentication, secret, initialVector, encrypts ? 1 : 0) == 1
    }
}
