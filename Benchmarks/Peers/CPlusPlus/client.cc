// The clients of gRPC C++ that the benchmarks measure: `--api callback` and `--api async`, the latter with one thread
// on one completion queue.

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>

#include "bench.grpc.pb.h"
#include "echo/v1/echo.grpc.pb.h"
#include "measure.h"

using bench::v1::BenchService;
using echo::v1::EchoRequest;
using echo::v1::EchoResponse;
using echo::v1::EchoService;
using grpc::ClientContext;
using grpc::Status;

static void check(const Status &status) {
    if (!status.ok()) fail("the status is " + std::to_string(status.error_code()) + ": " + status.error_message());
}

static EchoRequest makeRequest(const std::string &text) {
    EchoRequest request;
    request.set_text(text);
    return request;
}

/// Lets the main thread wait for callbacks.
class Signal {
public:
    void raise() {
        std::lock_guard guard(lock);
        raised = true;
        condition.notify_one();
    }

    void wait() {
        std::unique_lock guard(lock);
        condition.wait(guard, [this] { return raised; });
        raised = false;
    }

private:
    std::mutex lock;
    std::condition_variable condition;
    bool raised = false;
};

// MARK: - Callbacks

class CallbackUnary {
public:
    CallbackUnary(EchoService::Stub &stub, Latencies &latencies, int64_t inFlight)
        : stub(stub), latencies(latencies), calls(static_cast<size_t>(inFlight)) {}

    void makeCalls(int64_t count) {
        unstarted = count;
        unfinished = count;
        for (auto &call : calls) start(call);
        done.wait();
    }

private:
    struct Call {
        std::optional<ClientContext> context;
        EchoResponse response;
        Clock::time_point began;
    };

    void start(Call &call) {
        if (unstarted.fetch_sub(1) <= 0) return;
        call.context.emplace();
        call.began = Clock::now();
        stub.async()->Get(&*call.context, &request, &call.response, [this, &call](Status status) {
            check(status);
            check(call.response.text());
            latencies.add(call.began);
            start(call);  // before this one counts as finished: the main thread starts them all after the last
            if (unfinished.fetch_sub(1) == 1) done.raise();
        });
    }

    EchoService::Stub &stub;
    Latencies &latencies;
    const EchoRequest request = makeRequest(messageText);
    std::vector<Call> calls;
    std::atomic<int64_t> unstarted{0}, unfinished{0};
    Signal done;
};

class CallbackPingPong final : public grpc::ClientBidiReactor<EchoRequest, EchoResponse> {
public:
    CallbackPingPong(EchoService::Stub &stub, Latencies &latencies) : latencies(latencies) {
        stub.async()->Update(&context, this);
        AddHold();  // the main thread starts each run
        StartCall();
    }

    void makeCalls(int64_t count) {
        unfinished = count;
        send();
        done.wait();
    }

    void finish() {
        StartWritesDone();
        StartRead(&response);
        RemoveHold();
        done.wait();
    }

    void OnReadDone(bool ok) override {
        if (!ok) return;  // the end, checked in OnDone
        if (unfinished == 0) fail("more messages than were asked for");
        check(response.text());
        latencies.add(began);
        finishHalf();
    }

    void OnWriteDone(bool ok) override {
        if (!ok) fail("a message could not be written");
        finishHalf();
    }

    void OnDone(const Status &status) override {
        check(status);
        if (unfinished > 0) fail("the stream ended early");
        done.raise();
    }

private:
    void send() {
        halves = 2;
        began = Clock::now();
        StartRead(&response);
        StartWrite(&request);
    }

    /// The answer may come before the write is told to be done, and there may be only one write at a time.
    void finishHalf() {
        if (halves.fetch_sub(1) > 1) return;
        if (--unfinished > 0) send();
        else done.raise();
    }

    Latencies &latencies;
    ClientContext context;
    const EchoRequest request = makeRequest(messageText);
    EchoResponse response;
    Clock::time_point began;
    std::atomic<int> halves{0};
    std::atomic<int64_t> unfinished{0};
    Signal done;
};

class CallbackStream final : public grpc::ClientReadReactor<EchoResponse> {
public:
    CallbackStream(BenchService::Stub &stub, int64_t count)
        : request(makeRequest(std::to_string(count))), unfinished(count) {
        stub.async()->Repeat(&context, &request, this);
        StartRead(&response);
        StartCall();
        done.wait();
    }

    void OnReadDone(bool ok) override {
        if (!ok) return;
        check(response.text());
        unfinished -= 1;
        StartRead(&response);
    }

    void OnDone(const Status &status) override {
        check(status);
        if (unfinished != 0) fail("not as many messages as were asked for");
        done.raise();
    }

private:
    ClientContext context;
    const EchoRequest request;
    EchoResponse response;
    int64_t unfinished;
    Signal done;
};

// MARK: - A completion queue

static void *next(grpc::CompletionQueue &queue) {
    void *tag;
    bool ok;
    if (!queue.Next(&tag, &ok)) fail("the completion queue is shut down");
    if (!ok) fail("an operation failed");
    return tag;
}

class AsyncUnary {
public:
    AsyncUnary(EchoService::Stub &stub, Latencies &latencies, int64_t inFlight)
        : stub(stub), latencies(latencies), calls(static_cast<size_t>(inFlight)) {}

    void makeCalls(int64_t count) {
        int64_t unstarted = count;
        for (auto &call : calls)
            if (unstarted-- > 0) start(call);
        for (; count > 0; count--) {
            Call &call = *static_cast<Call *>(next(queue));
            check(call.status);
            check(call.response.text());
            latencies.add(call.began);
            if (unstarted-- > 0) start(call);
        }
    }

private:
    struct Call {
        std::optional<ClientContext> context;
        EchoResponse response;
        Status status;
        std::unique_ptr<grpc::ClientAsyncResponseReader<EchoResponse>> reader;
        Clock::time_point began;
    };

    void start(Call &call) {
        call.reader.reset();
        call.context.emplace();
        call.began = Clock::now();
        call.reader = stub.AsyncGet(&*call.context, request, &queue);
        call.reader->Finish(&call.response, &call.status, &call);
    }

    EchoService::Stub &stub;
    Latencies &latencies;
    const EchoRequest request = makeRequest(messageText);
    grpc::CompletionQueue queue;
    std::vector<Call> calls;
};

class AsyncPingPong {
public:
    AsyncPingPong(EchoService::Stub &stub, Latencies &latencies)
        : latencies(latencies), stream(stub.AsyncUpdate(&context, &queue, nullptr)) {
        next(queue);
    }

    void makeCalls(int64_t count) {
        for (; count > 0; count--) {
            auto began = Clock::now();
            stream->Read(&response, nullptr);
            stream->Write(request, nullptr);
            next(queue);
            next(queue);
            check(response.text());
            latencies.add(began);
        }
    }

    void finish() {
        Status status;
        stream->WritesDone(nullptr);
        stream->Finish(&status, nullptr);
        next(queue);
        next(queue);
        check(status);
    }

private:
    Latencies &latencies;
    ClientContext context;
    grpc::CompletionQueue queue;
    const EchoRequest request = makeRequest(messageText);
    EchoResponse response;
    std::unique_ptr<grpc::ClientAsyncReaderWriter<EchoRequest, EchoResponse>> stream;
};

static void readStream(BenchService::Stub &stub, int64_t count) {
    ClientContext context;
    grpc::CompletionQueue queue;
    EchoResponse response;
    Status status;
    auto stream = stub.AsyncRepeat(&context, makeRequest(std::to_string(count)), &queue, nullptr);
    next(queue);
    for (; count > 0; count--) {
        stream->Read(&response, nullptr);
        next(queue);
        check(response.text());
    }
    void *tag;
    bool ok;
    stream->Read(&response, nullptr);
    if (queue.Next(&tag, &ok) && ok) fail("more messages than were asked for");
    stream->Finish(&status, nullptr);
    next(queue);
    check(status);
}

// MARK: - Start

int main(int argc, char **argv) {
    Options options(argc, argv);
    bool callback = options.api == "callback";
    if (!callback && options.api != "async") fail("unknown API " + options.api);
    auto channel = grpc::CreateChannel(options.target, grpc::InsecureChannelCredentials());
    if (!channel->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(20)))
        fail("cannot connect to " + options.target);
    auto echo = EchoService::NewStub(channel);
    auto bench = BenchService::NewStub(channel);
    Latencies latencies(options.shape == "stream" ? 0 : std::max(options.calls, options.warmUp));

    if (options.shape == "unary" && callback) {
        CallbackUnary calls(*echo, latencies, options.inFlight);
        measure(options, latencies, [&](int64_t count) { calls.makeCalls(count); });
    } else if (options.shape == "unary") {
        AsyncUnary calls(*echo, latencies, options.inFlight);
        measure(options, latencies, [&](int64_t count) { calls.makeCalls(count); });
    } else if (options.shape == "ping-pong" && callback) {
        CallbackPingPong stream(*echo, latencies);
        measure(options, latencies, [&](int64_t count) { stream.makeCalls(count); });
        stream.finish();
    } else if (options.shape == "ping-pong") {
        AsyncPingPong stream(*echo, latencies);
        measure(options, latencies, [&](int64_t count) { stream.makeCalls(count); });
        stream.finish();
    } else if (options.shape == "stream" && callback) {
        measure(options, latencies, [&](int64_t count) { CallbackStream(*bench, count); });
    } else if (options.shape == "stream") {
        measure(options, latencies, [&](int64_t count) { readStream(*bench, count); });
    } else {
        fail("unknown shape " + options.shape);
    }
}
