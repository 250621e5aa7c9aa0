// Plays a fixed transcript of requests to an echo server, in lock step, and checks every answer.
//
// It is the other end of `budget`: the server alone is counted, and what it is asked must be the same bytes in the same
// portions each time. So requests go out in batches, one `write` each, the next when the last is answered in full; the
// header blocks come from nghttp2's HPACK encoder (indexed as gRPC clients do it), and nothing depends on time.
//
//   replay ADDRESS --requests N [--batch 100] [--shape unary|bidi] [--profile plain|metadata]
//
// ADDRESS is 127.0.0.1:PORT or unix:PATH. `bidi` sends N messages on one stream of /echo.v1.EchoService/Update, `unary`
// N calls of /echo.v1.EchoService/Get. `metadata` adds a grpc-timeout that differs from call to call and one custom
// field. Exits with 1, and says why, unless each answer is the echo of its request with grpc-status 0.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    messageBytes = 37,  // 5 of prefix, 2 of protobuf tag and length, 30 of text
    batchMax = 1000,
    requestBytesMax = 2048,
    outputBytesMax = batchMax * requestBytesMax,
    inputBytesMax = 1024 * 1024,
    answerSecondsMax = 60,
    windowMax = 0x7fffffff,
    settingInitialWindow = 4,
    settingMaxConcurrent = 3,
    settingTableSize = 1,
};

enum frameType { dataFrame, headersFrame, priorityFrame, resetFrame, settingsFrame, pushFrame, pingFrame, goawayFrame,
                 windowFrame, continuationFrame };

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("replay: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static int fd;
static nghttp2_hd_deflater *deflater;
static nghttp2_hd_inflater *inflater;
static uint8_t output[outputBytesMax];
static size_t outputLength;
static uint8_t input[inputBytesMax];
static size_t inputLength;

static bool unaryShape = true, withMetadata = false;
static long requests = 0, batch = 100;

static bool settingsSeen, settingsAcked;
static int64_t connectionCredit = 65535, streamCredit = 65535, initialWindow = 65535;
static uint32_t concurrentMax = UINT32_MAX;

/// What has come back. Unary: per stream of the running batch; bidi: entry 0.
static struct { uint64_t bytes; bool ended; } answers[batchMax];
static uint32_t firstStream = 1;   // of the running batch
static long firstRequest;          // the number of its first request
static long endedStreams;

// MARK: - Output

static void put(const void *bytes, size_t count) {
    if (outputLength + count > sizeof output) fail("a batch is too large");
    memcpy(output + outputLength, bytes, count);
    outputLength += count;
}

static void putFrame(size_t length, enum frameType type, uint8_t flags, uint32_t stream) {
    uint8_t header[9] = {(uint8_t)(length >> 16), (uint8_t)(length >> 8), (uint8_t)length, (uint8_t)type, flags,
                         (uint8_t)(stream >> 24), (uint8_t)(stream >> 16), (uint8_t)(stream >> 8), (uint8_t)stream};
    put(header, sizeof header);
}

static void sendOutput(void) {
    size_t sent = 0;
    while (sent < outputLength) {
        ssize_t count = send(fd, output + sent, outputLength - sent, MSG_NOSIGNAL);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) fail("the server closed the connection: %s", strerror(errno));
        sent += (size_t)count;
    }
    outputLength = 0;
}

static void makeMessage(long number, uint8_t message[messageBytes]) {
    char text[messageBytes + 1];
    snprintf(text, sizeof text, "%c%c%c%c%c%c%cthis is echo number %010ld", 0, 0, 0, 0, messageBytes - 5, 0x0a,
             messageBytes - 7, number % 10000000000L);
    memcpy(message, text, messageBytes);
}

static void putHeaders(const char *path, uint32_t stream, long number) {
    char timeout[16];
    snprintf(timeout, sizeof timeout, "4999%03ldu", (number * 37) % 1000);
    const char *fields[][2] = {
        {":method", "POST"}, {":scheme", "http"}, {":path", path}, {":authority", "localhost:50051"},
        {"content-type", "application/grpc"}, {"user-agent", "grpc-replay/1.0"}, {"te", "trailers"},
        {"grpc-timeout", timeout}, {"x-tenant", "common-swift"},
    };
    size_t count = withMetadata ? 9 : 7;
    nghttp2_nv pairs[9];
    for (size_t i = 0; i < count; i++)
        pairs[i] = (nghttp2_nv){(uint8_t *)fields[i][0], (uint8_t *)fields[i][1], strlen(fields[i][0]),
                                strlen(fields[i][1]), NGHTTP2_NV_FLAG_NONE};
    uint8_t block[1024];
    ssize_t length = nghttp2_hd_deflate_hd(deflater, block, sizeof block, pairs, count);
    if (length < 0) fail("HPACK: %s", nghttp2_strerror((int)length));
    putFrame((size_t)length, headersFrame, NGHTTP2_FLAG_END_HEADERS, stream);
    put(block, (size_t)length);
}

static void putMessage(uint32_t stream, long number, bool last) {
    uint8_t message[messageBytes];
    makeMessage(number, message);
    putFrame(messageBytes, dataFrame, last ? NGHTTP2_FLAG_END_STREAM : 0, stream);
    put(message, messageBytes);
    connectionCredit -= messageBytes;
}

// MARK: - Input

static uint32_t read32(const uint8_t *bytes) {
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static size_t answerIndex(uint32_t stream) {
    if (!unaryShape && stream == 1) return 0;
    size_t index = (stream - firstStream) / 2;
    if (!unaryShape || stream < firstStream || index >= (size_t)batch) fail("a frame on stream %u, not ours", stream);
    return index;
}

static void takeData(uint32_t stream, const uint8_t *bytes, size_t count) {
    size_t index = answerIndex(stream);
    for (size_t i = 0; i < count;) {
        uint64_t offset = answers[index].bytes;
        uint8_t message[messageBytes];
        if (unaryShape && offset >= messageBytes) fail("stream %u: more than was sent", stream);
        makeMessage(unaryShape ? firstRequest + (long)index : (long)(offset / messageBytes), message);
        size_t within = offset % messageBytes, part = messageBytes - within;
        if (part > count - i) part = count - i;
        if (memcmp(message + within, bytes + i, part) != 0) fail("stream %u: not the echo of the request", stream);
        answers[index].bytes += part;
        i += part;
    }
}

static void takeHeaders(uint32_t stream, uint8_t flags, const uint8_t *block, size_t length) {
    size_t index = answerIndex(stream);
    bool last = flags & NGHTTP2_FLAG_END_STREAM, statusOK = false;
    if (!(flags & NGHTTP2_FLAG_END_HEADERS)) fail("CONTINUATION is not understood here");
    if (flags & (NGHTTP2_FLAG_PADDED | NGHTTP2_FLAG_PRIORITY)) fail("padding and priority are not understood here");
    for (;;) {
        nghttp2_nv field;
        int inflated = 0;
        ssize_t used = nghttp2_hd_inflate_hd2(inflater, &field, &inflated, block, length, 1);
        if (used < 0) fail("HPACK: %s", nghttp2_strerror((int)used));
        block += used;
        length -= (size_t)used;
        if (inflated & NGHTTP2_HD_INFLATE_EMIT) {
            bool isStatus = field.namelen == 7 && memcmp(field.name, ":status", 7) == 0;
            if (isStatus && (field.valuelen != 3 || memcmp(field.value, "200", 3) != 0))
                fail("stream %u: :status %.*s", stream, (int)field.valuelen, field.value);
            bool isGRPCStatus = field.namelen == 11 && memcmp(field.name, "grpc-status", 11) == 0;
            if (isGRPCStatus && (field.valuelen != 1 || field.value[0] != '0'))
                fail("stream %u: grpc-status %.*s", stream, (int)field.valuelen, field.value);
            statusOK |= isGRPCStatus;
        }
        if (inflated & NGHTTP2_HD_INFLATE_FINAL) break;
        if (!(inflated & NGHTTP2_HD_INFLATE_EMIT) && length == 0) break;
    }
    nghttp2_hd_inflate_end_headers(inflater);
    if (!last) return;
    if (!statusOK) fail("stream %u: ended without grpc-status", stream);
    if (answers[index].ended) fail("stream %u: ended twice", stream);
    if (unaryShape && answers[index].bytes != messageBytes) fail("stream %u: the message is missing", stream);
    answers[index].ended = true;
    endedStreams += 1;
}

static void takeSettings(uint8_t flags, const uint8_t *payload, size_t length) {
    if (flags & NGHTTP2_FLAG_ACK) {
        settingsAcked = true;
        return;
    }
    settingsSeen = true;
    for (; length >= 6; payload += 6, length -= 6) {
        uint32_t value = read32(payload + 2);
        switch (payload[0] << 8 | payload[1]) {
        case settingInitialWindow:
            streamCredit += (int64_t)value - initialWindow;
            initialWindow = value;
            break;
        case settingMaxConcurrent: concurrentMax = value; break;
        case settingTableSize: nghttp2_hd_deflate_change_table_size(deflater, value); break;
        }
    }
    putFrame(0, settingsFrame, NGHTTP2_FLAG_ACK, 0);
}

static void takeFrame(enum frameType type, uint8_t flags, uint32_t stream, const uint8_t *payload, size_t length) {
    switch (type) {
    case dataFrame:
        if (flags & NGHTTP2_FLAG_PADDED) fail("padding is not understood here");
        if (flags & NGHTTP2_FLAG_END_STREAM) fail("stream %u: DATA ends it, without trailers", stream);
        takeData(stream, payload, length);
        break;
    case headersFrame: takeHeaders(stream, flags, payload, length); break;
    case settingsFrame: takeSettings(flags, payload, length); break;
    case windowFrame:
        if (stream == 0) connectionCredit += read32(payload);
        else if (!unaryShape) streamCredit += read32(payload);
        break;
    case pingFrame:
        if (flags & NGHTTP2_FLAG_ACK) break;
        putFrame(length, pingFrame, NGHTTP2_FLAG_ACK, 0);
        put(payload, length);
        break;
    case resetFrame: fail("stream %u: reset with code %u", stream, read32(payload));
    case goawayFrame: fail("GOAWAY with code %u", read32(payload + 4));
    default: break;
    }
}

/// Reads and takes whatever has come; blocks until something has.
static void receive(void) {
    ssize_t count = recv(fd, input + inputLength, sizeof input - inputLength, 0);
    if (count < 0 && errno == EINTR) return;
    if (count < 0) fail("no answer: %s", strerror(errno));
    if (count == 0) fail("the server closed the connection");
    inputLength += (size_t)count;
    size_t taken = 0;
    while (inputLength - taken >= 9) {
        const uint8_t *header = input + taken;
        size_t length = (size_t)header[0] << 16 | (size_t)header[1] << 8 | header[2];
        if (length + 9 > sizeof input) fail("a frame of %zu bytes", length);
        if (inputLength - taken < length + 9) break;
        takeFrame(header[3], header[4], read32(header + 5) & windowMax, header + 9, length);
        taken += length + 9;
    }
    memmove(input, input + taken, inputLength - taken);
    inputLength -= taken;
}

// MARK: - The two shapes

static void greet(void) {
    const uint8_t settings[] = {0, 2, 0, 0, 0, 0,                // ENABLE_PUSH 0
                                0, 4, 0x7f, 0xff, 0xff, 0xff};   // INITIAL_WINDOW_SIZE 2³¹ - 1
    const uint8_t increment[] = {0x7f, 0xff, 0, 0};              // to 2³¹ - 1
    put(NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN);
    putFrame(sizeof settings, settingsFrame, 0, 0);
    put(settings, sizeof settings);
    putFrame(sizeof increment, windowFrame, 0, 0);
    put(increment, sizeof increment);
    sendOutput();
    while (!settingsSeen || !settingsAcked) receive();
    if (unaryShape && concurrentMax < (uint32_t)batch)
        fail("the server takes %u streams at once, a batch is %ld", concurrentMax, batch);
}

static void waitForCredit(int64_t bytes) {
    while (connectionCredit < bytes || (!unaryShape && streamCredit < bytes)) receive();
}

static void playUnary(void) {
    for (long done = 0; done < requests; done += batch) {
        long count = requests - done < batch ? requests - done : batch;
        firstStream = 1 + 2 * (uint32_t)done;
        firstRequest = done;
        endedStreams = 0;
        memset(answers, 0, sizeof answers);
        waitForCredit(count * messageBytes);
        for (long i = 0; i < count; i++) {
            putHeaders("/echo.v1.EchoService/Get", firstStream + 2 * (uint32_t)i, done + i);
            putMessage(firstStream + 2 * (uint32_t)i, done + i, true);
        }
        sendOutput();
        while (endedStreams < count) receive();
    }
}

static void playBidirectional(void) {
    putHeaders("/echo.v1.EchoService/Update", 1, 0);
    for (long done = 0; done < requests; done += batch) {
        long count = requests - done < batch ? requests - done : batch;
        waitForCredit(count * messageBytes);
        for (long i = 0; i < count; i++) putMessage(1, done + i, false);
        streamCredit -= count * messageBytes;
        sendOutput();
        while (answers[0].bytes < (uint64_t)(done + count) * messageBytes) receive();
    }
    putFrame(0, dataFrame, NGHTTP2_FLAG_END_STREAM, 1);
    sendOutput();
    while (endedStreams < 1) receive();
}

// MARK: - Start

static void connectTo(const char *address) {
    if (strncmp(address, "unix:", 5) == 0) {
        struct sockaddr_un name = {.sun_family = AF_UNIX};
        snprintf(name.sun_path, sizeof name.sun_path, "%s", address + 5);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(fd, (struct sockaddr *)&name, sizeof name) != 0) fail("%s: %s", address, strerror(errno));
    } else {
        struct sockaddr_in name = {.sin_family = AF_INET};
        const char *colon = strrchr(address, ':');
        char host[64] = "";
        if (colon != NULL && (size_t)(colon - address) < sizeof host) memcpy(host, address, (size_t)(colon - address));
        if (colon == NULL || inet_pton(AF_INET, host, &name.sin_addr) != 1) fail("not an address: %s", address);
        name.sin_port = htons((uint16_t)atoi(colon + 1));
        int on = 1;
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (connect(fd, (struct sockaddr *)&name, sizeof name) != 0) fail("%s: %s", address, strerror(errno));
    }
    struct timeval patience = {.tv_sec = answerSecondsMax};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
}

int main(int argc, char **argv) {
    const char *address = argc > 1 ? argv[1] : "";
    for (int i = 2; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--requests") == 0) requests = atol(argv[i + 1]);
        else if (strcmp(argv[i], "--batch") == 0) batch = atol(argv[i + 1]);
        else if (strcmp(argv[i], "--shape") == 0) unaryShape = strcmp(argv[i + 1], "bidi") != 0;
        else if (strcmp(argv[i], "--profile") == 0) withMetadata = strcmp(argv[i + 1], "metadata") == 0;
        else fail("unknown option %s", argv[i]);
    }
    if (requests <= 0 || requests > windowMax / messageBytes || batch <= 0 || batch > batchMax)
        fail("usage: replay ADDRESS --requests N [--batch 1…%d] [--shape unary|bidi] [--profile plain|metadata]",
             batchMax);
    if (nghttp2_hd_deflate_new(&deflater, 4096) != 0 || nghttp2_hd_inflate_new(&inflater) != 0) fail("out of memory");
    connectTo(address);
    greet();
    if (unaryShape) playUnary();
    else playBidirectional();
    nghttp2_hd_deflate_del(deflater);
    nghttp2_hd_inflate_del(inflater);
    close(fd);
    return 0;
}
