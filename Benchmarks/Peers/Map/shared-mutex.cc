// std::unordered_map under std::shared_mutex, under the loads of `bench-map`, with the same arguments and output:
//
//     map-shared-mutex shared-mutex u64|borrowed|copied uniform|hot READERS WRITERS MILLISECONDS
//
// A borrowed read looks at the value with the lock held; a copied one copies the shared_ptr.

#include <pthread.h>
#include <sched.h>
#include <time.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace {

constexpr uint64_t key_count = 10000;

enum class Form { number, borrowed, copied };

template <Form form>
class Subject {
public:
    Subject() {
        for (uint64_t key = 0; key < key_count; key++) map_[key] = value(key);
    }

    uint64_t read(uint64_t key) {
        if constexpr (form == Form::copied) {
            std::shared_ptr<uint64_t> value;
            {
                std::shared_lock lock(mutex_);
                auto found = map_.find(key);
                if (found == map_.end()) return 0;
                value = found->second;
            }
            return *value;
        } else {
            std::shared_lock lock(mutex_);
            auto found = map_.find(key);
            if (found == map_.end()) return 0;
            if constexpr (form == Form::number) return found->second;
            else return *found->second;
        }
    }

    void write(uint64_t key, uint64_t number) {
        auto made = value(number);
        std::unique_lock lock(mutex_);
        std::swap(map_[key], made);
    }

private:
    using Value = std::conditional_t<form == Form::number, uint64_t, std::shared_ptr<uint64_t>>;

    static Value value(uint64_t number) {
        if constexpr (form == Form::number) return number;
        else return std::make_shared<uint64_t>(number);
    }

    std::shared_mutex mutex_;
    std::unordered_map<uint64_t, Value> map_;
};

double nanoseconds(clockid_t clock) {
    timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1e9 + time.tv_nsec;
}

void pin(int core) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    pthread_setaffinity_np(pthread_self(), sizeof cores, &cores);
}

struct Time {
    double wall, processor;
};

template <typename Call>
Time time_per_call(int index, bool hot, int milliseconds, std::atomic<int> &waiting, Call call) {
    pin(index);
    uint64_t random = 0x9E3779B97F4A7C15u * (index + 1), count = 0;
    waiting--;
    while (waiting > 0) {}
    double wall = nanoseconds(CLOCK_MONOTONIC), processor = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
    while (nanoseconds(CLOCK_MONOTONIC) < wall + milliseconds * 1e6) {
        for (int i = 0; i < 1000; i++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            uint64_t key = hot ? 42 : (uint64_t)(((unsigned __int128)random * key_count) >> 64);
            count++;
            call(key, count);
        }
    }
    return {(nanoseconds(CLOCK_MONOTONIC) - wall) / count,
            (nanoseconds(CLOCK_THREAD_CPUTIME_ID) - processor) / count};
}

std::string mean(const std::vector<Time> &times, int first, int end, double Time::*of) {
    if (first == end) return "-";
    double sum = 0;
    for (int i = first; i < end; i++) sum += times[i].*of;
    char text[32];
    snprintf(text, sizeof text, "%.2f", sum / (end - first));
    return text;
}

template <Form form>
void measure(bool hot, int readers, int writers, int milliseconds) {
    Subject<form> map;
    std::atomic<int> waiting = readers + writers;
    std::atomic<uint64_t> sink = 0;
    std::vector<Time> times(readers + writers);
    std::vector<std::thread> threads;
    for (int index = 0; index < readers + writers; index++) {
        threads.emplace_back([&, index] {
            if (index < readers) {
                uint64_t sum = 0;
                times[index] = time_per_call(index, hot, milliseconds, waiting, [&](uint64_t key, uint64_t) { sum += map.read(key); });
                sink += sum;
            } else {
                times[index] = time_per_call(index, hot, milliseconds, waiting, [&](uint64_t key, uint64_t n) { map.write(key, n); });
            }
        });
    }
    for (auto &thread : threads) thread.join();
    int all = readers + writers;
    printf("%s %s %s %s\n", mean(times, 0, readers, &Time::wall).c_str(),
           mean(times, readers, all, &Time::wall).c_str(), mean(times, 0, readers, &Time::processor).c_str(),
           mean(times, readers, all, &Time::processor).c_str());
}

}  // namespace

int main(int count, char **words) {
    if (count != 7) {
        fprintf(stderr, "usage: map-shared-mutex MAP FORM uniform|hot READERS WRITERS MILLISECONDS\n");
        return 2;
    }
    std::string form = words[2];
    bool hot = std::string(words[3]) == "hot";
    int readers = atoi(words[4]), writers = atoi(words[5]), milliseconds = atoi(words[6]);
    if (form == "u64") measure<Form::number>(hot, readers, writers, milliseconds);
    else if (form == "borrowed") measure<Form::borrowed>(hot, readers, writers, milliseconds);
    else if (form == "copied") measure<Form::copied>(hot, readers, writers, milliseconds);
    else return 2;
}
