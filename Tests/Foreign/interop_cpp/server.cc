// The server of gRPC's interoperability tests (doc/interop-test-descriptions.md) on gRPC C++.
//
// Prints `listening on ADDRESS`; stops on SIGTERM or SIGINT.

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "peer.h"

using namespace grpc::testing;
using grpc::ServerContext;
using grpc::Status;
using grpc::StatusCode;
using interop::initialKey;
using interop::trailingKey;

static Status statusOf(const EchoStatus &status) {
    return Status(static_cast<StatusCode>(status.code()), status.message());
}

/// The feature "Echo Metadata".
static void echoMetadata(ServerContext &context) {
    const auto &metadata = context.client_metadata();
    auto initial = metadata.equal_range(initialKey);
    for (auto entry = initial.first; entry != initial.second; ++entry) {
        context.AddInitialMetadata(initialKey, std::string(entry->second.data(), entry->second.size()));
    }
    auto trailing = metadata.equal_range(trailingKey);
    for (auto entry = trailing.first; entry != trailing.second; ++entry) {
        context.AddTrailingMetadata(trailingKey, std::string(entry->second.data(), entry->second.size()));
    }
}

/// The feature "CompressedRequest": whether the request came as it says.
template <typename Request>
static bool cameAsExpected(ServerContext &context, const Request &request) {
    return !request.has_expect_compressed() ||
           request.expect_compressed().value() == interop::lastMessageWasCompressed(context);
}

static void fill(Payload *payload, int size) { payload->set_body(std::string(static_cast<size_t>(size), '\0')); }

class Service final : public TestService::Service {
    Status EmptyCall(ServerContext *context, const Empty *, Empty *) override {
        echoMetadata(*context);
        return Status::OK;
    }

    Status UnaryCall(ServerContext *context, const SimpleRequest *request, SimpleResponse *response) override {
        echoMetadata(*context);
        if (request->has_response_status()) return statusOf(request->response_status());
        if (!cameAsExpected(*context, *request)) return notAsExpected();
        if (request->response_compressed().value()) context->set_compression_algorithm(GRPC_COMPRESS_GZIP);
        if (!canMake(request->response_size())) return wrongSize();
        fill(response->mutable_payload(), request->response_size());
        if (request->fill_server_id()) response->set_server_id(serverID);
        return Status::OK;
    }

    Status CacheableUnaryCall(ServerContext *context, const SimpleRequest *, SimpleResponse *response) override {
        context->AddInitialMetadata("cache-control", "max-age=60, public");
        auto now = std::chrono::system_clock::now().time_since_epoch();
        response->mutable_payload()->set_body(std::to_string(std::chrono::nanoseconds(now).count()));
        return Status::OK;
    }

    Status StreamingOutputCall(ServerContext *context, const StreamingOutputCallRequest *request,
                               grpc::ServerWriter<StreamingOutputCallResponse> *writer) override {
        echoMetadata(*context);
        context->set_compression_algorithm(GRPC_COMPRESS_GZIP);
        return answer(*context, *request, *writer);
    }

    Status StreamingInputCall(ServerContext *context, grpc::ServerReader<StreamingInputCallRequest> *reader,
                              StreamingInputCallResponse *response) override {
        echoMetadata(*context);
        StreamingInputCallRequest request;
        int bytes = 0;
        while (reader->Read(&request)) {
            if (!cameAsExpected(*context, request)) return notAsExpected();
            bytes += static_cast<int>(request.payload().body().size());
        }
        response->set_aggregated_payload_size(bytes);
        return Status::OK;
    }

    using Stream = grpc::ServerReaderWriter<StreamingOutputCallResponse, StreamingOutputCallRequest>;

    Status FullDuplexCall(ServerContext *context, Stream *stream) override {
        echoMetadata(*context);
        context->set_compression_algorithm(GRPC_COMPRESS_GZIP);
        StreamingOutputCallRequest request;
        while (stream->Read(&request)) {
            Status status = answer(*context, request, *stream);
            if (!status.ok()) return status;
        }
        return Status::OK;
    }

    Status HalfDuplexCall(ServerContext *context, Stream *stream) override {
        echoMetadata(*context);
        std::vector<StreamingOutputCallRequest> requests;
        StreamingOutputCallRequest request;
        while (stream->Read(&request)) requests.push_back(request);
        for (const auto &each : requests) {
            Status status = answer(*context, each, *stream);
            if (!status.ok()) return status;
        }
        return Status::OK;
    }

    /// Writes the responses to one request, each after its pause.
    template <typename Writer>
    static Status answer(ServerContext &context, const StreamingOutputCallRequest &request, Writer &writer) {
        if (request.has_response_status()) return statusOf(request.response_status());
        for (const auto &parameters : request.response_parameters()) {
            if (!canMake(parameters.size())) return wrongSize();
            std::this_thread::sleep_for(std::chrono::microseconds(parameters.interval_us()));
            StreamingOutputCallResponse response;
            fill(response.mutable_payload(), parameters.size());
            if (parameters.fill_peer_socket_address().value()) response.set_peer_socket_address(context.peer());
            grpc::WriteOptions options;
            if (!parameters.compressed().value()) options.set_no_compression();
            if (!writer.Write(response, options)) return Status(StatusCode::CANCELLED, "the client has gone");
        }
        return Status::OK;
    }

    static bool canMake(int size) { return size >= 0 && size <= interop::largestMessage; }
    static Status wrongSize() { return Status(StatusCode::INVALID_ARGUMENT, "there is no payload of this size"); }
    static Status notAsExpected() { return Status(StatusCode::INVALID_ARGUMENT, "it did not come as it says"); }

    const std::string serverID = "gRPC C++, process " + std::to_string(getpid());
};

int main(int count, char **arguments) {
    // Threads inherit the mask, so that the signals wait for sigwait.
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);

    interop::Options options(count, arguments, {{"--listen", "127.0.0.1:0"},
                                                {"--max-concurrent-streams", "0"},
                                                {"--tls-cert", ""},
                                                {"--tls-key", ""}});
    auto credentials = grpc::InsecureServerCredentials();
    if (!options["--tls-cert"].empty()) {
        grpc::SslServerCredentialsOptions tls;
        tls.pem_key_cert_pairs.push_back({options.file("--tls-key"), options.file("--tls-cert")});
        credentials = grpc::SslServerCredentials(tls);
    }
    Service service;
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort(options["--listen"], credentials, &port);
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.SetMaxReceiveMessageSize(interop::largestMessage);
    if (options.number("--max-concurrent-streams") > 0) {
        builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, options.number("--max-concurrent-streams"));
    }
    builder.RegisterService(&service);
    std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
    if (!server) interop::misuse("cannot listen on " + options["--listen"]);
    printf("listening on %s:%d\n", options["--listen"].substr(0, options["--listen"].rfind(':')).c_str(), port);
    fflush(stdout);

    int signal = 0;
    sigwait(&signals, &signal);
    server->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
}
