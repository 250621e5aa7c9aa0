internal import COpenSSL

/// The errors that OpenSSL has queued on this thread since ``clear()``.
struct OpenSSLErrors {
    /// One error: the numbers to recognise it by, the words to show.
    struct Entry {
        var library: CInt
        var reason: CInt
        var text: String
    }

    private(set) var entries: [Entry] = []

    /// Forgets what earlier calls left, ours and other users' of OpenSSL in the process.
    static func clear() {
        // To look is a tenth of what it takes to clear, which wipes every place of the queue.
        if ERR_peek_error() != 0 { ERR_clear_error() }
    }

    /// Takes what is queued, the oldest first, which is what the others followed from.
    static func take() -> OpenSSLErrors {
        var errors = OpenSSLErrors()
        while true {
            // SAFETY: the strings belong to OpenSSL's queue and tables, and are copied before the next call.
            var details: UnsafePointer<CChar>?
            var flags: CInt = 0
            let code = unsafe ERR_get_error_all(nil, nil, nil, &details, &flags)
            if code == 0 { return errors }
            let reason = copenssl_error_reason(code)
            let library = copenssl_error_library(code)
            if library == ERR_LIB_SYS {
                // The detail is the call of the C library, which whoever catches the error can name better.
                errors.entries.append(Entry(library: library, reason: reason, text: systemText(code)))
                continue
            }
            var text = "error \(code)"
            if let words = unsafe ERR_reason_error_string(code) { text = unsafe String(cString: words) }
            if flags & ERR_TXT_STRING != 0, let details = unsafe details {
                let more = unsafe String(cString: details)
                if !more.isEmpty { text += " (\(more))" }
            }
            errors.entries.append(Entry(library: library, reason: reason, text: text))
        }
    }

    /// The words of an error of the system: the last field of OpenSSL's line for it.
    private static func systemText(_ code: UInt) -> String {
        // SAFETY: OpenSSL is told the size of the array, and ends what it writes with NUL.
        var line = [CChar](repeating: 0, count: 256)
        unsafe ERR_error_string_n(code, &line, line.count)
        let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return text.split(separator: ":").last.map(String.init) ?? text
    }

    /// Whether one of the errors is of this library and has this reason.
    func contains(library: CInt, reason: CInt) -> Bool {
        entries.contains { $0.library == library && $0.reason == reason }
    }

    /// The alert that the peer ended the connection with.
    var alertReceived: UInt8? {
        // An alert that was received is the reason SSL_AD_REASON_OFFSET and its number.
        entries.first { $0.library == ERR_LIB_SSL && (1000..<1256).contains($0.reason) }.map { UInt8($0.reason - 1000) }
    }

    /// ` (OpenSSL: …)` to end a message with; empty when OpenSSL said nothing.
    var suffix: String {
        guard let first = entries.first else { return "" }
        return " (OpenSSL: \(first.text))"
    }
}

extension OpenSSLErrors {
    /// The name of an alert (RFC 8446 §6), for example `unknown_ca (48)`.
    static func alertName(_ alert: UInt8) -> String {
        // SAFETY: the string is a constant of OpenSSL.
        guard let words = unsafe SSL_alert_desc_string_long(CInt(alert)) else { return "\(alert)" }
        let text = unsafe String(cString: words)
        return text == "unknown" ? "\(alert)" : text.split(separator: " ").joined(separator: "_") + " (\(alert))"
    }
}
