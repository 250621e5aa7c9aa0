internal import Apus
internal import ApusBase
internal import Foundation
internal import Logging

/// One channel, the calls that were started on it, and what a test asks about them.
final class Session: Sendable {
    private let channel: Channel
    private let options: ChannelOptions
    private let logger: Logger
    private let calls = Lock<[String: RunningCall]>([:])
    /// Keeps a loop that is not the channel's, for calls that come from one.
    private let otherChannel = Lock<Channel?>(nil)

    init(_ channel: Channel, _ options: ChannelOptions, _ logger: Logger) {
        self.channel = channel
        self.options = options
        self.logger = logger
    }

    func obey(_ line: String) {
        do {
            try obey(Command.parse(line))
        } catch {
            Output.say("misunderstood", ["text": .string("\(error): \(line.prefix(200))")])
        }
    }

    /// Input has ended: nobody waits for an answer any more.
    func end() { channel.close() }

    private func obey(_ command: Command) throws {
        let named = command.id.flatMap { id in calls.withLock { $0[id] } }
        switch command.do {
        case "start": try start(command)
        case "cancel": named?.cancel(command.how ?? "hand")
        case "finish": named?.finish.open()
        case "resume": named?.resume.open()
        case "load": Load(command, channel).start()
        case "channels": Thread { self.openChannels(command) }.start()
        case "echo": EchoCall(command, channel).start()
        case "connect": channel.connect()
        case "state": Output.say("state", ["state": .string("\(channel.state)")])
        case "figures": sayFigures()
        case "reload-tls", "replace-tls": reloadTLS(command)
        case "close": close()
        default: Output.say("misunderstood", ["text": .string("there is no command \(command.do)")])
        }
    }

    private func start(_ command: Command) throws {
        let call = RunningCall(command, channel)
        calls.withLock { $0[command.id ?? ""] = call }
        call.start(otherLoop: try executorOfOtherLoop())
    }

    private func executorOfOtherLoop() throws -> any TaskExecutor {
        if let other = otherChannel.withLock({ $0 }) { return other.executor }
        let loops = try EventLoopGroup(threads: 1, logger: logger)
        let other = try Channel(options.target, security: .plaintext, eventLoops: loops, logger: logger)
        otherChannel.withLock { $0 = other }
        return other.executor
    }

    private func reloadTLS(_ command: Command) {
        do throws(RPCError) {
            if command.do == "reload-tls" {
                try channel.reloadTLS()
            } else if var configuration = options.security.configuration {
                configuration.serverName = command.tlsServerName
                try channel.replaceTLS(configuration)
            } else {
                try channel.replaceTLS(ClientTLS())
            }
            Output.say("reloaded", ["error": .null])
        } catch {
            Output.say("reloaded", ["error": .string("\(error.code): \(error.message)")])
        }
    }

    private func close() {
        channel.close()
        // Who waits to half-close learns of it.
        for call in calls.withLock({ Array($0.values) }) { call.finish.open() }
        Output.say("closed")
    }

    private func sayFigures() {
        let progress = calls.withLock { $0.mapValues(\.record.progress) }.mapValues { written, read in
            JSON.object(["written": .int(written), "read": .int(read)])
        }
        Output.say("figures", ProcessFigures.current.merging(["calls": .object(progress)]) { first, _ in first })
    }

    /// Channels that are opened, used for one call and closed, by several threads.
    private func openChannels(_ command: Command) {
        let began = ContinuousClock.now
        let failures = Lock<[String: Int]>([:])
        let workers = command.workers ?? 1
        let done = DispatchGroup()
        for worker in 0..<workers {
            done.enter()
            Thread {
                for number in stride(from: worker, to: command.count ?? 1, by: workers) {
                    if let failure = self.useChannelOnce(command, number) {
                        failures.withLock { $0[failure, default: 0] += 1 }
                    }
                }
                done.leave()
            }.start()
        }
        done.wait()
        let counted = failures.withLock { $0 }
        Output.say(
            "summary",
            [
                "failures": .object(counted.mapValues { .int($0) }),
                "ms": .double((ContinuousClock.now - began) / .milliseconds(1)),
            ]
        )
    }

    /// Why the one call of a new channel failed, or `nil`.
    private func useChannelOnce(_ command: Command, _ number: Int) -> String? {
        do {
            let own = try Channel(
                options.target,
                security: options.security.security,
                configuration: options.configuration,
                logger: logger
            )
            defer { if command.drop != true { own.close() } }
            let request = command.request(number)
            let answer = try own.blockingUnary(
                command.method,
                request,
                requestCodec: BytesCodec(),
                responseCodec: BytesCodec(),
                options: command.options
            )
            return answer == request ? nil : "another answer"
        } catch {
            return "\(error)"
        }
    }
}

/// What the kernel says of this process.
enum ProcessFigures {
    static var current: [String: JSON] {
        let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
        var figures: [String: Int] = [:]
        for line in status.split(separator: "\n") {
            let parts = line.split(whereSeparator: { $0 == ":" || $0.isWhitespace })
            if parts.count >= 2, let value = Int(parts[1]) { figures[String(parts[0])] = value }
        }
        let descriptors = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd"))?.count ?? 0
        return [
            "rss_bytes": .int(figures["VmRSS", default: 0] * 1024),
            "peak_bytes": .int(figures["VmHWM", default: 0] * 1024),
            "threads": .int(figures["Threads", default: 0]),
            "descriptors": .int(descriptors),
        ]
    }
}
