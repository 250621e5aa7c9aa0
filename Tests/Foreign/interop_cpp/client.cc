// The client of gRPC's interoperability tests (doc/interop-test-descriptions.md) on gRPC C++.
//
// Runs the case that `--case` names; prints `PASS case`, with exit status 0, or `FAIL case: why`, with 1.

#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "peer.h"

using namespace grpc::testing;
using grpc::Status;
using grpc::StatusCode;
using interop::lastMessageWasCompressed;

constexpr int requestBytes = 271828;
constexpr int responseBytes = 314159;
static const std::vector<int> requestSizes = {27182, 8, 1828, 45904};
static const std::vector<int> responseSizes = {31415, 9, 2653, 58979};

/// Why a case failed.
struct Failure {
    std::string why;
};

// MARK: - Expectations

static void expect(bool holds, const std::string &what) {
    if (!holds) throw Failure{what};
}

static void expectStatus(const Status &status, StatusCode code, const std::string *message = nullptr) {
    expect(status.error_code() == code && (!message || status.error_message() == *message),
           "expected status " + std::to_string(code) + (message ? " \"" + *message + "\"" : "") + ", got " +
               std::to_string(status.error_code()) + " \"" + status.error_message() + "\"");
}

static void expectOK(const Status &status) { expectStatus(status, StatusCode::OK); }

static void expectZeros(const Payload &payload, int size) {
    expect(payload.body().size() == static_cast<size_t>(size),
           "expected a payload of " + std::to_string(size) + " bytes, got " + std::to_string(payload.body().size()));
    expect(payload.body() == std::string(payload.body().size(), '\0'), "expected a payload of zeros");
}

static void expectCompressed(grpc::ClientContext &context, bool expected) {
    expect(lastMessageWasCompressed(context) == expected,
           std::string("expected a response ") + (expected ? "" : "not ") + "to be compressed");
}

// MARK: - Messages

static void fill(Payload *payload, int size) { payload->set_body(std::string(static_cast<size_t>(size), '\0')); }

static SimpleRequest largeRequest() {
    SimpleRequest request;
    request.set_response_size(responseBytes);
    fill(request.mutable_payload(), requestBytes);
    return request;
}

static StreamingOutputCallRequest duplexRequest(int payload, const std::vector<int> &sizes) {
    StreamingOutputCallRequest request;
    if (payload > 0) fill(request.mutable_payload(), payload);
    for (int size : sizes) request.add_response_parameters()->set_size(size);
    return request;
}

static EchoStatus statusToEcho(const std::string &message) {
    EchoStatus status;
    status.set_code(StatusCode::UNKNOWN);
    status.set_message(message);
    return status;
}

/// A context with a deadline, so that a server which says nothing fails its case.
class Context : public grpc::ClientContext {
public:
    explicit Context(std::chrono::milliseconds timeout = std::chrono::seconds(30)) {
        set_deadline(std::chrono::system_clock::now() + timeout);
    }
};

// MARK: - Cases

class Client {
public:
    Client(interop::Options options) : options(std::move(options)), channel(makeChannel()), stub(channel) {}

    using Case = void (Client::*)();
    static const std::vector<std::pair<std::string, Case>> cases;

private:
    using Stub = TestService::Stub;
    using Duplex = grpc::ClientReaderWriter<StreamingOutputCallRequest, StreamingOutputCallResponse>;

    /// Reads responses of these sizes, then the end.
    template <typename Reader>
    static void expectResponses(Reader &reader, const std::vector<int> &sizes) {
        StreamingOutputCallResponse response;
        size_t count = 0;
        while (reader.Read(&response)) {
            if (count < sizes.size()) expectZeros(response.payload(), sizes[count]);
            ++count;
        }
        expect(count == sizes.size(),
               "expected " + std::to_string(sizes.size()) + " responses, got " + std::to_string(count));
        expectOK(reader.Finish());
    }

    static void callLarge(Stub &stub) {
        Context context;
        SimpleResponse response;
        expectOK(stub.UnaryCall(&context, largeRequest(), &response));
        expectZeros(response.payload(), responseBytes);
    }

    void emptyUnary() {
        Context context;
        Empty response;
        expectOK(stub.EmptyCall(&context, Empty(), &response));
        expect(response.SerializeAsString().empty(), "expected a response of zero bytes");
    }

    void largeUnary() { callLarge(stub); }

    void veryLargeRequest() {
        Context context;
        SimpleRequest request;
        request.set_response_size(10);
        fill(request.mutable_payload(), 10 * 1024 * 1024);
        SimpleResponse response;
        expectOK(stub.UnaryCall(&context, request, &response));
        expectZeros(response.payload(), 10);
    }

    void clientStreaming() {
        Context context;
        StreamingInputCallResponse response;
        auto writer = stub.StreamingInputCall(&context, &response);
        for (int size : requestSizes) {
            StreamingInputCallRequest request;
            fill(request.mutable_payload(), size);
            expect(writer->Write(request), "the call ended while it was written to");
        }
        writer->WritesDone();
        expectOK(writer->Finish());
        expect(response.aggregated_payload_size() == 74922,
               "expected 74922 bytes, got " + std::to_string(response.aggregated_payload_size()));
    }

    void serverStreaming() {
        Context context;
        auto reader = stub.StreamingOutputCall(&context, duplexRequest(0, responseSizes));
        expectResponses(*reader, responseSizes);
    }

    void pingPong() {
        Context context;
        auto stream = stub.FullDuplexCall(&context);
        for (size_t index = 0; index < requestSizes.size(); ++index) {
            StreamingOutputCallResponse response;
            expect(stream->Write(duplexRequest(requestSizes[index], {responseSizes[index]})), "the call ended");
            expect(stream->Read(&response), "the call ended without a response");
            expectZeros(response.payload(), responseSizes[index]);
        }
        stream->WritesDone();
        expectResponses(*stream, {});
    }

    void emptyStream() {
        Context context;
        auto stream = stub.FullDuplexCall(&context);
        stream->WritesDone();
        expectResponses(*stream, {});
    }

    void cancelAfterBegin() {
        Context context;
        StreamingInputCallResponse response;
        auto writer = stub.StreamingInputCall(&context, &response);
        // Ends when the head of the first has long been sent.
        emptyUnary();
        context.TryCancel();
        expectStatus(writer->Finish(), StatusCode::CANCELLED);
    }

    void cancelAfterFirstResponse() {
        Context context;
        auto stream = stub.FullDuplexCall(&context);
        StreamingOutputCallResponse response;
        expect(stream->Write(duplexRequest(27182, {31415})) && stream->Read(&response), "there was no response");
        expectZeros(response.payload(), 31415);
        context.TryCancel();
        expectStatus(stream->Finish(), StatusCode::CANCELLED);
    }

    void timeoutOnSleepingServer() {
        Context context(std::chrono::milliseconds(1));
        auto stream = stub.FullDuplexCall(&context);
        stream->Write(duplexRequest(27182, {}));
        StreamingOutputCallResponse response;
        while (stream->Read(&response)) continue;
        expectStatus(stream->Finish(), StatusCode::DEADLINE_EXCEEDED);
    }

    static void attachMetadata(grpc::ClientContext &context) {
        context.AddMetadata(interop::initialKey, "test_initial_metadata_value");
        context.AddMetadata(interop::trailingKey, "\xab\xab\xab");
    }

    static void expectMetadata(grpc::ClientContext &context) {
        auto initial = context.GetServerInitialMetadata().find(interop::initialKey);
        expect(initial != context.GetServerInitialMetadata().end() &&
                   initial->second == "test_initial_metadata_value", "expected the initial metadata to come back");
        auto trailing = context.GetServerTrailingMetadata().find(interop::trailingKey);
        expect(trailing != context.GetServerTrailingMetadata().end() && trailing->second == "\xab\xab\xab",
               "expected the trailing metadata to come back");
    }

    void customMetadata() {
        Context unary;
        attachMetadata(unary);
        SimpleResponse response;
        expectOK(stub.UnaryCall(&unary, largeRequest(), &response));
        expectZeros(response.payload(), responseBytes);
        expectMetadata(unary);

        Context context;
        attachMetadata(context);
        auto stream = stub.FullDuplexCall(&context);
        expect(stream->Write(duplexRequest(requestBytes, {responseBytes})), "the call ended");
        stream->WritesDone();
        expectResponses(*stream, {responseBytes});
        expectMetadata(context);
    }

    void expectEchoedStatus(const std::string &message) {
        Context context;
        SimpleRequest request;
        *request.mutable_response_status() = statusToEcho(message);
        SimpleResponse response;
        expectStatus(stub.UnaryCall(&context, request, &response), StatusCode::UNKNOWN, &message);
    }

    void statusCodeAndMessage() {
        const std::string message = "test status message";
        expectEchoedStatus(message);
        Context context;
        auto stream = stub.FullDuplexCall(&context);
        StreamingOutputCallRequest request;
        *request.mutable_response_status() = statusToEcho(message);
        stream->Write(request);
        stream->WritesDone();
        StreamingOutputCallResponse response;
        expect(!stream->Read(&response), "expected no response");
        expectStatus(stream->Finish(), StatusCode::UNKNOWN, &message);
    }

    void specialStatusMessage() {
        expectEchoedStatus("\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n");
    }

    void unimplementedMethod() {
        Context context;
        Empty response;
        expectStatus(stub.UnimplementedCall(&context, Empty(), &response), StatusCode::UNIMPLEMENTED);
    }

    void unimplementedService() {
        Context context;
        Empty response;
        auto other = UnimplementedService::NewStub(channel);
        expectStatus(other->UnimplementedCall(&context, Empty(), &response), StatusCode::UNIMPLEMENTED);
    }

    void pickFirstUnary() {
        std::set<std::string> found;
        for (int index = 0; index < 100; ++index) {
            Context context;
            SimpleRequest request;
            request.set_response_size(1);
            fill(request.mutable_payload(), 1);
            request.set_fill_server_id(true);
            SimpleResponse response;
            expectOK(stub.UnaryCall(&context, request, &response));
            found.insert(response.server_id());
        }
        expect(found.size() == 1 && found.count("") == 0, "expected one server, which says who it is");
    }

    void rpcSoak() {
        for (int index = 0; index < options.number("--soak-iterations"); ++index) callLarge(stub);
    }

    void channelSoak() {
        for (int index = 0; index < options.number("--soak-iterations"); ++index) {
            Stub other(makeChannel());
            callLarge(other);
        }
    }

    void longLivedChannel() {
        for (int index = 0; index < 5; ++index) {
            callLarge(stub);
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
    }

    static std::string askForAddress(Duplex &stream) {
        StreamingOutputCallRequest request;
        request.add_response_parameters()->mutable_fill_peer_socket_address()->set_value(true);
        StreamingOutputCallResponse response;
        expect(stream.Write(request) && stream.Read(&response), "there was no response");
        return response.peer_socket_address();
    }

    /// This client has one connection: a call over the server's limit waits for one to end.
    void maxConcurrentStreams() {
        const int limit = options.number("--max-concurrent-streams");
        expect(limit > 0, "the case needs --max-concurrent-streams, and a server with that limit");
        std::vector<std::unique_ptr<Context>> contexts;
        std::vector<std::unique_ptr<Duplex>> streams;
        std::set<std::string> addresses;
        for (int index = 0; index < limit; ++index) {
            contexts.push_back(std::make_unique<Context>());
            streams.push_back(stub.FullDuplexCall(contexts.back().get()));
            addresses.insert(askForAddress(*streams.back()));
        }
        Context context;
        auto last = std::async(std::launch::async, [this, &context] {
            auto stream = stub.FullDuplexCall(&context);
            std::string address = askForAddress(*stream);
            stream->WritesDone();
            expectResponses(*stream, {});
            return address;
        });
        for (int index = 0; index < 20; ++index) askForAddress(*streams[0]);
        expect(last.wait_for(std::chrono::seconds(0)) == std::future_status::timeout,
               "a call beyond the limit did not wait");
        for (auto &stream : streams) {
            stream->WritesDone();
            expectResponses(*stream, {});
        }
        addresses.insert(last.get());
        expect(addresses.size() == 1 && addresses.count("") == 0, "expected all calls on one connection");
    }

    Status callCompressed(bool expected, grpc_compression_algorithm algorithm) {
        Context context;
        context.set_compression_algorithm(algorithm);
        SimpleRequest request = largeRequest();
        request.mutable_expect_compressed()->set_value(expected);
        SimpleResponse response;
        Status status = stub.UnaryCall(&context, request, &response);
        if (status.ok()) expectZeros(response.payload(), responseBytes);
        return status;
    }

    void clientCompressedUnary() {
        expectStatus(callCompressed(true, GRPC_COMPRESS_NONE), StatusCode::INVALID_ARGUMENT);
        expectOK(callCompressed(true, algorithm()));
        expectOK(callCompressed(false, GRPC_COMPRESS_NONE));
    }

    void serverCompressedUnary() {
        for (bool wanted : {true, false}) {
            Context context;
            SimpleRequest request = largeRequest();
            request.mutable_response_compressed()->set_value(wanted);
            SimpleResponse response;
            expectOK(stub.UnaryCall(&context, request, &response));
            expectCompressed(context, wanted);
            expectZeros(response.payload(), responseBytes);
        }
    }

    static StreamingInputCallRequest inputRequest(bool compressed, int size) {
        StreamingInputCallRequest request;
        request.mutable_expect_compressed()->set_value(compressed);
        fill(request.mutable_payload(), size);
        return request;
    }

    void clientCompressedStreaming() {
        {
            Context context;
            StreamingInputCallResponse response;
            auto writer = stub.StreamingInputCall(&context, &response);
            writer->Write(inputRequest(true, 27182));
            writer->WritesDone();
            expectStatus(writer->Finish(), StatusCode::INVALID_ARGUMENT);
        }
        Context context;
        context.set_compression_algorithm(algorithm());
        StreamingInputCallResponse response;
        auto writer = stub.StreamingInputCall(&context, &response);
        expect(writer->Write(inputRequest(true, 27182)), "the call ended after the compressed request");
        grpc::WriteOptions uncompressed;
        uncompressed.set_no_compression();
        expect(writer->Write(inputRequest(false, 45904), uncompressed), "the call ended after the last request");
        writer->WritesDone();
        expectOK(writer->Finish());
        expect(response.aggregated_payload_size() == 73086,
               "expected 73086 bytes, got " + std::to_string(response.aggregated_payload_size()));
    }

    void serverCompressedStreaming() {
        Context context;
        StreamingOutputCallRequest request;
        const std::vector<std::pair<bool, int>> wanted = {{true, 31415}, {false, 92653}};
        for (auto [compressed, size] : wanted) {
            auto *parameters = request.add_response_parameters();
            parameters->mutable_compressed()->set_value(compressed);
            parameters->set_size(size);
        }
        auto reader = stub.StreamingOutputCall(&context, request);
        for (auto [compressed, size] : wanted) {
            StreamingOutputCallResponse response;
            expect(reader->Read(&response), "there were fewer responses than asked for");
            expectCompressed(context, compressed);
            expectZeros(response.payload(), size);
        }
        expectResponses(*reader, {});
    }

    grpc_compression_algorithm algorithm() const {
        return options["--compression"] == "deflate" ? GRPC_COMPRESS_DEFLATE : GRPC_COMPRESS_GZIP;
    }

    std::shared_ptr<grpc::Channel> makeChannel() const {
        auto credentials = grpc::InsecureChannelCredentials();
        if (!options["--tls-ca"].empty()) {
            grpc::SslCredentialsOptions tls;
            tls.pem_root_certs = options.file("--tls-ca");
            credentials = grpc::SslCredentials(tls);
        }
        grpc::ChannelArguments arguments;
        arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
        arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
        arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
        arguments.SetMaxReceiveMessageSize(interop::largestMessage);
        return grpc::CreateCustomChannel(options["--target"], credentials, arguments);
    }

    interop::Options options;
    std::shared_ptr<grpc::Channel> channel;
    Stub stub;
};

const std::vector<std::pair<std::string, Client::Case>> Client::cases = {
    {"empty_unary", &Client::emptyUnary},
    {"large_unary", &Client::largeUnary},
    {"very_large_request", &Client::veryLargeRequest},
    {"client_streaming", &Client::clientStreaming},
    {"server_streaming", &Client::serverStreaming},
    {"ping_pong", &Client::pingPong},
    {"empty_stream", &Client::emptyStream},
    {"cancel_after_begin", &Client::cancelAfterBegin},
    {"cancel_after_first_response", &Client::cancelAfterFirstResponse},
    {"timeout_on_sleeping_server", &Client::timeoutOnSleepingServer},
    {"custom_metadata", &Client::customMetadata},
    {"status_code_and_message", &Client::statusCodeAndMessage},
    {"special_status_message", &Client::specialStatusMessage},
    {"unimplemented_method", &Client::unimplementedMethod},
    {"unimplemented_service", &Client::unimplementedService},
    {"pick_first_unary", &Client::pickFirstUnary},
    {"rpc_soak", &Client::rpcSoak},
    {"channel_soak", &Client::channelSoak},
    {"long_lived_channel", &Client::longLivedChannel},
    {"max_concurrent_streams_connection_scaling", &Client::maxConcurrentStreams},
    {"client_compressed_unary", &Client::clientCompressedUnary},
    {"server_compressed_unary", &Client::serverCompressedUnary},
    {"client_compressed_streaming", &Client::clientCompressedStreaming},
    {"server_compressed_streaming", &Client::serverCompressedStreaming},
};

int main(int count, char **arguments) {
    interop::Options options(count, arguments, {{"--case", ""},
                                                {"--target", ""},
                                                {"--tls-ca", ""},
                                                {"--compression", "gzip"},
                                                {"--max-concurrent-streams", "0"},
                                                {"--soak-iterations", "50"}});
    Client client(options);
    for (const auto &[name, body] : Client::cases) {
        if (name != options["--case"]) continue;
        try {
            (client.*body)();
            printf("PASS %s\n", name.c_str());
            return 0;
        } catch (const Failure &failure) {
            printf("FAIL %s: %s\n", name.c_str(), failure.why.c_str());
            return 1;
        }
    }
    interop::misuse("there is no case " + options["--case"]);
}
