// What the server and the client of the interoperability tests on gRPC C++ share.

#pragma once

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <string>

#include "grpc/testing/test.grpc.pb.h"

/// In libgrpc, for its own interoperability tests: the flags of the message that came last.
uint32_t grpc_call_test_only_get_message_flags(grpc_call *call);

namespace interop {

constexpr int largestMessage = 16 * 1024 * 1024;
constexpr char initialKey[] = "x-grpc-test-echo-initial";
constexpr char trailingKey[] = "x-grpc-test-echo-trailing-bin";

/// Whether the message that came last was compressed: a mark that the core sets when it inflates a message.
template <typename Context>
bool lastMessageWasCompressed(Context &context) {
    constexpr uint32_t wasCompressed = 0x40000000;
    return (grpc_call_test_only_get_message_flags(context.c_call()) & wasCompressed) != 0;
}

[[noreturn]] inline void misuse(const std::string &problem) {
    fprintf(stderr, "%s\n", problem.c_str());
    exit(64);
}

/// `--name value`, any number of times; a name that is not among those known is a mistake.
class Options {
public:
    Options(int count, char **arguments, const std::map<std::string, std::string> &known) : values(known) {
        for (int index = 1; index < count; index += 2) {
            auto found = values.find(arguments[index]);
            if (found == values.end()) misuse(std::string("unknown option ") + arguments[index]);
            if (index + 1 == count) misuse(std::string("no value for ") + arguments[index]);
            found->second = arguments[index + 1];
        }
    }

    const std::string &operator[](const std::string &name) const { return values.at(name); }
    int number(const std::string &name) const { return atoi(values.at(name).c_str()); }

    /// What is in the file that an option names.
    std::string file(const std::string &name) const {
        std::ifstream stream(values.at(name), std::ios::binary);
        if (!stream) misuse("cannot read " + values.at(name));
        std::stringstream text;
        text << stream.rdbuf();
        return text.str();
    }

private:
    std::map<std::string, std::string> values;
};

}  // namespace interop
