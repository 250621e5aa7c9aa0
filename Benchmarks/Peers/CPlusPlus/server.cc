// The echo servers of gRPC C++ that the benchmarks measure: `--api callback` and `--api async`, the latter with one
// thread on one completion queue. Prints `listening on ADDRESS`; stops on SIGTERM or SIGINT.

#include <grpcpp/grpcpp.h>
#include <signal.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>

#include "bench.grpc.pb.h"
#include "echo/v1/echo.grpc.pb.h"

using bench::v1::BenchService;
using echo::v1::EchoRequest;
using echo::v1::EchoResponse;
using echo::v1::EchoService;
using grpc::Status;

static const std::string messageText = "this is echo number 0000000000";

// MARK: - Callbacks

class CallbackEcho final : public EchoService::CallbackService {
    grpc::ServerUnaryReactor *Get(grpc::CallbackServerContext *context, const EchoRequest *request,
                                  EchoResponse *response) override {
        response->set_text(request->text());
        auto *reactor = context->DefaultReactor();
        reactor->Finish(Status::OK);
        return reactor;
    }

    grpc::ServerBidiReactor<EchoRequest, EchoResponse> *Update(grpc::CallbackServerContext *) override {
        class Echo final : public grpc::ServerBidiReactor<EchoRequest, EchoResponse> {
        public:
            Echo() { StartRead(&request); }

            void OnReadDone(bool ok) override {
                if (!ok) return Finish(Status::OK);
                response.set_text(request.text());
                StartWrite(&response);
            }

            void OnWriteDone(bool ok) override {
                if (ok) StartRead(&request);
                else Finish(Status::CANCELLED);
            }

            void OnDone() override { delete this; }

        private:
            EchoRequest request;
            EchoResponse response;
        };
        return new Echo;
    }
};

class CallbackRepeat final : public BenchService::CallbackService {
    grpc::ServerWriteReactor<EchoResponse> *Repeat(grpc::CallbackServerContext *,
                                                   const EchoRequest *request) override {
        class Repeater final : public grpc::ServerWriteReactor<EchoResponse> {
        public:
            explicit Repeater(int64_t count) : unsent(count) {
                response.set_text(messageText);
                write();
            }

            void OnWriteDone(bool ok) override {
                if (ok) write();
                else Finish(Status::CANCELLED);
            }

            void OnDone() override { delete this; }

        private:
            void write() {
                if (unsent-- > 0) StartWrite(&response);
                else Finish(Status::OK);
            }

            EchoResponse response;
            int64_t unsent;
        };
        return new Repeater(std::atoll(request->text().c_str()));
    }
};

// MARK: - A completion queue

/// One call that waits to come in, or is served; the tag of its operations.
class Call {
public:
    virtual ~Call() = default;
    /// Takes the end of an operation; deletes itself after the last.
    virtual void proceed(bool ok) = 0;
};

struct Async {
    EchoService::AsyncService echo;
    BenchService::AsyncService bench;
    std::unique_ptr<grpc::ServerCompletionQueue> queue;
};

class GetCall final : public Call {
public:
    explicit GetCall(Async &async) : async(async), writer(&context) {
        async.echo.RequestGet(&context, &request, &writer, async.queue.get(), async.queue.get(), this);
    }

    void proceed(bool ok) override {
        if (finished || !ok) {
            delete this;
            return;
        }
        new GetCall(async);
        EchoResponse response;
        response.set_text(request.text());
        finished = true;
        writer.Finish(response, Status::OK, this);
    }

private:
    Async &async;
    grpc::ServerContext context;
    EchoRequest request;
    grpc::ServerAsyncResponseWriter<EchoResponse> writer;
    bool finished = false;
};

class UpdateCall final : public Call {
public:
    explicit UpdateCall(Async &async) : async(async), stream(&context) {
        async.echo.RequestUpdate(&context, &stream, async.queue.get(), async.queue.get(), this);
    }

    void proceed(bool ok) override {
        switch (state) {
        case State::waiting:
            if (!ok) return delete this;
            new UpdateCall(async);
            read();
            break;
        case State::reading:
            if (!ok) return finish(Status::OK);
            response.set_text(request.text());
            state = State::writing;
            stream.Write(response, this);
            break;
        case State::writing:
            if (ok) read();
            else finish(Status::CANCELLED);
            break;
        case State::finishing:
            delete this;
        }
    }

private:
    enum class State { waiting, reading, writing, finishing };

    void read() {
        state = State::reading;
        stream.Read(&request, this);
    }

    void finish(const Status &status) {
        state = State::finishing;
        stream.Finish(status, this);
    }

    Async &async;
    grpc::ServerContext context;
    EchoRequest request;
    EchoResponse response;
    grpc::ServerAsyncReaderWriter<EchoResponse, EchoRequest> stream;
    State state = State::waiting;
};

class RepeatCall final : public Call {
public:
    explicit RepeatCall(Async &async) : async(async), writer(&context) {
        async.bench.RequestRepeat(&context, &request, &writer, async.queue.get(), async.queue.get(), this);
    }

    void proceed(bool ok) override {
        if (finished || (!started && !ok)) {
            delete this;
            return;
        }
        if (!started) {
            started = true;
            new RepeatCall(async);
            response.set_text(messageText);
            unsent = std::atoll(request.text().c_str());
        }
        if (ok && unsent-- > 0) {
            writer.Write(response, this);
        } else {
            finished = true;
            writer.Finish(ok ? Status::OK : Status::CANCELLED, this);
        }
    }

private:
    Async &async;
    grpc::ServerContext context;
    EchoRequest request;
    EchoResponse response;
    grpc::ServerAsyncWriter<EchoResponse> writer;
    int64_t unsent = 0;
    bool started = false, finished = false;
};

static void serve(Async &async) {
    for (int i = 0; i < 128; i++) new GetCall(async);  // so that a burst of calls finds them waiting
    new UpdateCall(async);
    new RepeatCall(async);
    void *tag;
    bool ok;
    while (async.queue->Next(&tag, &ok)) static_cast<Call *>(tag)->proceed(ok);
}

// MARK: - Start

int main(int argc, char **argv) {
    std::string listen = "127.0.0.1:0", api = "callback";
    for (int i = 1; i + 1 < argc; i += 2) {
        std::string name = argv[i];
        if (name == "--listen") listen = argv[i + 1];
        else if (name == "--api") api = argv[i + 1];
    }
    if (api != "callback" && api != "async") {
        std::fprintf(stderr, "cpp-server: unknown API %s\n", api.c_str());
        return 2;
    }
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);

    CallbackEcho echo;
    CallbackRepeat repeat;
    Async async;
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort(listen, grpc::InsecureServerCredentials(), &port);
    if (api == "callback") {
        builder.RegisterService(&echo);
        builder.RegisterService(&repeat);
    } else {
        builder.RegisterService(&async.echo);
        builder.RegisterService(&async.bench);
        async.queue = builder.AddCompletionQueue();
    }
    auto server = builder.BuildAndStart();
    if (server == nullptr || port == 0) {
        std::fprintf(stderr, "cpp-server: cannot listen on %s\n", listen.c_str());
        return 1;
    }
    std::thread thread;
    if (async.queue) thread = std::thread([&] { serve(async); });
    std::printf("listening on %s:%d\n", listen.substr(0, listen.rfind(':')).c_str(), port);
    std::fflush(stdout);

    int received;
    sigwait(&set, &received);
    server->Shutdown(std::chrono::system_clock::now());
    if (async.queue) {
        async.queue->Shutdown();
        thread.join();
    }
}
