internal import Foundation

/// What the kernel says of this process.
enum ProcessFigures {
    /// `rss_bytes=…`, `threads=…`, `descriptors=…`
    static var lines: [String] {
        let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
        var figures: [String: Int] = [:]
        for line in status.split(separator: "\n") {
            let parts = line.split(whereSeparator: { $0 == ":" || $0.isWhitespace })
            if parts.count >= 2, let value = Int(parts[1]) { figures[String(parts[0])] = value }
        }
        let descriptors = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd"))?.count ?? 0
        return [
            "rss_bytes=\(figures["VmRSS", default: 0] * 1024)",
            "threads=\(figures["Threads", default: 0])",
            "descriptors=\(descriptors)",
        ]
    }
}
