import ApusBase
import Testing

/// What a peer says, as a log shows it.
@Suite struct PeerTextTests {
    @Test(arguments: [
        ("", ""), ("plain text", "plain text"), ("Grüße, 世界", "Grüße, 世界"), ("a\nb\r\n\tc", #"a\nb\r\n\tc"#),
        ("\u{1B}[2J\u{7}", #"\u{1B}[2J\u{07}"#), ("\u{7F}\u{85}\u{9B}x\u{A0}", "\\u{7F}\\u{0085}\\u{009B}x\u{A0}"),
    ])
    func `control characters are escaped, and nothing else is`(said: String, shown: String) {
        #expect(String(peerText: said.utf8) == shown)
    }

    @Test func `what is no text is shown as far as it goes`() {
        #expect(String(peerText: [0x61, 0xFF, 0x00, 0x62]) == "a\u{FFFD}\\0b")
    }
}
