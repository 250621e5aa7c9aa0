internal import Apus
internal import ArgumentParser
internal import EchoV1
internal import Glibc

/// Loads a server with unary calls over one connection, and says what that took.
struct LoadCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "load",
        abstract: "Calls Get many times, some at once, and says how fast that went."
    )

    @OptionGroup var client: ClientOptions
    @Option(help: "How many calls.") var calls = 100_000
    @Option(help: "How many calls at once.") var inFlight = 64
    @Argument(help: "The text.") var text = "this is echo number 0000000000"

    func validate() throws {
        guard calls >= 1 else { throw ValidationError("there has to be at least one call") }
        guard (1...100_000).contains(inFlight) else { throw ValidationError("--in-flight has to be 1 to 100000") }
        if client.blocking, inFlight > 1000 { throw ValidationError("blocking, --in-flight is at most 1000 threads") }
    }

    func run() async throws {
        let channel = try client.makeChannel()
        defer { channel.close() }
        let options = client.callOptions
        do {
            _ = try await Echo_V1_EchoService.Client(channel).get(.with { $0.text = text }, options: options)
            let start = ContinuousClock.now
            let before = Self.processorTime()
            var durations = try await client.blocking ? callBlocking(channel, options) : call(channel, options)
            let elapsed = ContinuousClock.now - start
            let processorTime = Self.processorTime() - before
            durations.sort()
            report(durations, elapsed, processorTime)
        } catch let error as RPCError {
            Report(isVerbose: client.verbose).failed(error)
            throw ExitCode.failure
        }
    }

    /// How many of the calls one of the callers makes.
    private func share(of caller: Int) -> Int { calls / inFlight + (caller < calls % inFlight ? 1 : 0) }

    private func call(_ channel: Channel, _ options: CallOptions) async throws -> [Duration] {
        try await withThrowingTaskGroup(of: [Duration].self) { tasks in
            for caller in 0..<inFlight {
                let count = share(of: caller)
                tasks.addTask(executorPreference: channel.executor) {
                    let echo = Echo_V1_EchoService.Client(channel)
                    var durations: [Duration] = []
                    durations.reserveCapacity(count)
                    for _ in 0..<count {
                        let start = ContinuousClock.now
                        let response = try await echo.get(.with { $0.text = text }, options: options)
                        durations.append(ContinuousClock.now - start)
                        try check(response)
                    }
                    return durations
                }
            }
            return try await tasks.reduce(into: []) { $0 += $1 }
        }
    }

    private func callBlocking(_ channel: Channel, _ options: CallOptions) async throws -> [Duration] {
        try await withThrowingTaskGroup(of: [Duration].self) { tasks in
            for caller in 0..<inFlight {
                let count = share(of: caller)
                tasks.addTask {
                    try await withCheckedThrowingContinuation { continuation in
                        Thread {
                            continuation.resume(with: Result { try self.callInTurn(channel, options, count) })
                        }.start()
                    }
                }
            }
            return try await tasks.reduce(into: []) { $0 += $1 }
        }
    }

    private func callInTurn(_ channel: Channel, _ options: CallOptions, _ count: Int) throws -> [Duration] {
        let echo = Echo_V1_EchoService.BlockingClient(channel)
        var durations: [Duration] = []
        for _ in 0..<count {
            let start = ContinuousClock.now
            let response = try echo.get(.with { $0.text = text }, options: options)
            durations.append(ContinuousClock.now - start)
            try check(response)
        }
        return durations
    }

    private func check(_ response: Echo_V1_EchoResponse) throws {
        guard response.text != text else { return }
        throw RPCError(code: .dataLoss, message: "the server answered with another text: \"\(response.text)\"")
    }

    private func report(_ durations: [Duration], _ elapsed: Duration, _ processorTime: Duration) {
        func milliseconds(_ duration: Duration) -> String {
            let micros = Int(duration / .microseconds(1))
            let fraction = String(micros % 1000)
            return "\(micros / 1000).\(String(repeating: "0", count: 3 - fraction.count))\(fraction)"
        }
        func percentile(_ share: Double) -> String {
            "\(milliseconds(durations[min(Int(Double(durations.count) * share), durations.count - 1)])) ms"
        }
        let perSecond = Int(Double(calls) / (elapsed / .seconds(1)))
        let perCall = (processorTime / .microseconds(1)) / Double(calls)
        print("\(calls) calls, \(inFlight) at once, one connection: \(perSecond) calls/s")
        print("latency: p50 \(percentile(0.5)), p99 \(percentile(0.99)), most \(percentile(1))")
        print("CPU of this client: \(Double(Int(perCall * 100)) / 100) µs per call")
    }

    /// User and system time of this process so far.
    private static func processorTime() -> Duration {
        var time = timespec()
        // SAFETY: the structure is written during the call.
        _ = unsafe clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
    }
}
