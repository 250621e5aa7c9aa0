extension String {
    /// What a peer said, fit to be read in a log or on a terminal: control characters are written as escapes
    /// (`\u{1B}`), so that a peer makes no lines of its own and moves no cursor. Invalid UTF-8 becomes U+FFFD.
    package init(peerText bytes: some Collection<UInt8>) {
        self = String(decoding: bytes, as: UTF8.self)
        guard unicodeScalars.contains(where: \.isControl) else { return }
        self = unicodeScalars.reduce(into: "") { text, scalar in
            if scalar.isControl { text += scalar.escaped(asASCII: true) } else { text.unicodeScalars.append(scalar) }
        }
    }
}

extension Unicode.Scalar {
    /// C0, DEL and C1.
    fileprivate var isControl: Bool { value < 0x20 || (0x7F...0x9F).contains(value) }
}
