// What the clients of gRPC C++ share: the command line of Floor/floor-client.c, and the figures they print.
#pragma once

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

inline const std::string messageText = "this is echo number 0000000000";

[[noreturn]] inline void fail(const std::string &what) {
    std::fprintf(stderr, "cpp-client: %s\n", what.c_str());
    std::_Exit(1);
}

inline void check(const std::string &text) {
    if (text != messageText) fail("not the echo of the request: " + text);
}

struct Options {
    std::string target, shape = "unary", api = "callback";
    int64_t inFlight = 1, calls = 0, warmUp = 0;

    Options(int argc, char **argv) {
        for (int i = 1; i < argc; i += 2) {
            std::string name = argv[i], value = i + 1 < argc ? argv[i + 1] : "";
            if (name == "--target") target = value;
            else if (name == "--shape") shape = value;
            else if (name == "--api") api = value;
            else if (name == "--in-flight") inFlight = std::atoll(value.c_str());
            else if (name == "--calls") calls = std::atoll(value.c_str());
            else if (name == "--warm-up") warmUp = std::atoll(value.c_str());
            else fail("unknown option " + name);
        }
        if (calls <= 0 || inFlight <= 0) fail("--calls and --in-flight are at least 1");
        if (shape == "ping-pong" && inFlight != 1) fail("ping-pong has one message in flight");
    }
};

using Clock = std::chrono::steady_clock;

/// The times that calls took; callbacks may add to it on several threads.
class Latencies {
public:
    explicit Latencies(int64_t capacity) : nanoseconds(static_cast<size_t>(capacity)) {}

    void add(Clock::time_point began) {
        auto index = count.fetch_add(1, std::memory_order_relaxed);
        if (index < nanoseconds.size())
            nanoseconds[index] = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - began).count();
    }

    void restart() { count = 0; }

    void sort() {
        nanoseconds.resize(std::min<size_t>(count, nanoseconds.size()));
        std::sort(nanoseconds.begin(), nanoseconds.end());
    }

    std::string percentile(size_t percent) const {
        if (nanoseconds.empty()) return "null";
        return std::to_string(nanoseconds[nanoseconds.size() * percent / 100] / 1000.0);
    }

private:
    std::vector<int64_t> nanoseconds;
    std::atomic<size_t> count{0};
};

inline double cpuMicroseconds() {
    rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    auto microseconds = [](timeval time) { return time.tv_sec * 1e6 + time.tv_usec; };
    return microseconds(usage.ru_utime) + microseconds(usage.ru_stime);
}

/// Warms up, waits for a line, and prints what `makeCalls` costs.
inline void measure(const Options &options, Latencies &latencies, const std::function<void(int64_t)> &makeCalls) {
    if (options.warmUp > 0) makeCalls(options.warmUp);
    std::puts("ready");
    std::fflush(stdout);
    char line[16];
    if (read(STDIN_FILENO, line, sizeof line) < 0) fail("standard input cannot be read");
    latencies.restart();
    auto began = Clock::now();
    double used = cpuMicroseconds();
    makeCalls(options.calls);
    used = cpuMicroseconds() - used;
    double seconds = std::chrono::duration<double>(Clock::now() - began).count();
    latencies.sort();
    std::printf("{\"calls\":%lld,\"seconds\":%.6f,\"cpu_microseconds\":%.1f,\"p50_microseconds\":%s,"
                "\"p99_microseconds\":%s}\n", static_cast<long long>(options.calls), seconds, used,
                latencies.percentile(50).c_str(), latencies.percentile(99).c_str());
    std::fflush(stdout);
}
