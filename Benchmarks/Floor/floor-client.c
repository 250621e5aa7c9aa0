// The floor of clients: what calls cost in a bare C program on epoll and nghttp2.
//
// The other half of floor.c, made by the same rule: it does what a correct client must, and nothing else, as cheaply as
// nghttp2 allows.
//
//   one thread, one connection; per wake-up one read of up to 64 KiB, nghttp2_session_mem_recv, during which a call
//   that ends starts the next, nghttp2_session_mem_send until it has nothing left, one send.
//
// What it keeps, because a client may not leave it out: nghttp2's checks of the peer's headers, flow control in both
// directions, `:status`, content type, length prefixes, grpc-status, a bound on every buffer. Each answer is compared
// with what was sent.
// What it leaves out: metadata, deadlines, cancellation, compression, TLS, name resolution, reconnecting.
//
//   floor-client --target 127.0.0.1:50051 | unix:PATH --calls N [--shape unary|ping-pong|stream] [--in-flight 1]
//                [--warm-up 0] [--latencies yes|no]
//
// After the warm-up it prints `ready` and waits for a line; after the calls it prints their figures as JSON. `unary`
// makes N calls of Get, `ping-pong` sends N messages on one stream of Update, `stream` reads N messages of one Repeat.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "message.h"
#include "pool.h"

enum {
    readBytesMax = 64 * 1024,
    dataFrameBytesMax = 16 * 1024,
    frameBytesMax = 9 + dataFrameBytesMax,
    turnBytesMax = 256 * 1024,
    bodyBytesMax = 64,  // of a message with its prefix; the echo is known to be shorter
    inFlightMax = 10000,
    connectionWindowBytes = 4 * 1024 * 1024,
    streamWindowBytes = 1024 * 1024,
};

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("floor-client: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

// MARK: - State

enum shape { unary, pingPong, oneWay };

/// One call. What came of a message that is not whole yet is in `body`.
struct call {
    struct call *nextFree;
    int32_t id;
    bool statusOK, contentTypeOK, httpOK;
    bool deferred;           // the read callback had nothing to give
    bool finished;           // there is nothing more to send than `unsent`
    const uint8_t *request;  // the message to send, `requestBytes` of it
    uint32_t requestBytes;
    uint64_t unsent;  // how many times to send it
    uint32_t partSent;
    uint32_t bodyBytes;
    uint64_t messages;  // whole messages received
    uint64_t began;
    uint8_t body[bodyBytesMax];
};

static int fd = -1, epoll = -1;
static nghttp2_session *session;
static enum shape shape = unary;
static uint64_t inFlightWanted = 1;
static bool wantsLatencies = true;

static struct call *freeCalls;
static struct call *current;  // the call of the last frame: most look-ups end here
static uint64_t started, completed, goal;  // calls, or messages of the one stream

static uint64_t sentAt[inFlightMax];  // when each message of ping-pong went out, in a ring
static uint32_t *latencies;           // nanoseconds, of the measured calls
static uint64_t latencyCount;

static uint8_t readBuffer[readBytesMax];
static uint8_t turnBuffer[turnBytesMax];
static uint8_t repeatRequest[prefixBytes + 2 + 20];

static uint64_t now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static uint64_t stamp(void) {
    return latencies != NULL ? now(CLOCK_MONOTONIC) : 0;
}

static void recordLatency(uint64_t began) {
    if (latencies == NULL) return;
    uint64_t taken = now(CLOCK_MONOTONIC) - began;
    latencies[latencyCount++] = taken < UINT32_MAX ? (uint32_t)taken : UINT32_MAX;
}

// MARK: - Requests

#define STATIC_FIELD(name, value)                                           \
    {                                                                       \
        (uint8_t *)(name), (uint8_t *)(value), sizeof(name) - 1,            \
            sizeof(value) - 1,                                              \
            NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE    \
    }

enum { pathField = 2, fieldCount = 7 };

static nghttp2_nv requestFields[fieldCount] = {
    STATIC_FIELD(":method", "POST"),
    STATIC_FIELD(":scheme", "http"),
    STATIC_FIELD(":path", ""),
    STATIC_FIELD(":authority", "localhost"),
    STATIC_FIELD("content-type", "application/grpc"),
    STATIC_FIELD("user-agent", "grpc-floor/1.0"),
    STATIC_FIELD("te", "trailers"),
};

/// Gives nghttp2 as many copies of the request's message as there are to send and fit.
static ssize_t readRequest(nghttp2_session *session, int32_t id, uint8_t *buffer, size_t length, uint32_t *flags,
                           nghttp2_data_source *source, void *context) {
    (void)session, (void)id, (void)context;
    struct call *call = source->ptr;
    if (length > dataFrameBytesMax) length = dataFrameBytesMax;
    size_t filled = 0;
    while (filled < length && call->unsent > 0) {
        size_t count = call->requestBytes - call->partSent;
        if (count > length - filled) count = length - filled;
        memcpy(buffer + filled, call->request + call->partSent, count);
        filled += count;
        call->partSent += (uint32_t)count;
        if (call->partSent < call->requestBytes) break;
        call->partSent = 0;
        call->unsent -= 1;
    }
    if (call->unsent == 0 && call->finished) *flags |= NGHTTP2_DATA_FLAG_EOF;
    else if (filled == 0) {
        call->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    return (ssize_t)filled;
}

static struct call *startCall(const uint8_t *request, uint32_t requestBytes, uint64_t copies, bool finished) {
    struct call *call = freeCalls;
    if (call != NULL) freeCalls = call->nextFree;
    else if ((call = malloc(sizeof *call)) == NULL) fail("out of memory");
    call->httpOK = call->contentTypeOK = call->statusOK = call->deferred = false;
    call->finished = finished;
    call->request = request;
    call->requestBytes = requestBytes;
    call->unsent = copies;
    call->partSent = call->bodyBytes = 0;
    call->messages = 0;
    call->began = stamp();
    nghttp2_data_provider provider = {.source = {.ptr = call}, .read_callback = readRequest};
    call->id = nghttp2_submit_request(session, NULL, requestFields, fieldCount, &provider, call);
    if (call->id < 0) fail("cannot start a call: %s", nghttp2_strerror(call->id));
    return call;
}

static void startUnary(void) {
    started += 1;
    startCall(message, messageBytes, 1, true);
}

static void resume(struct call *call) {
    if (!call->deferred) return;
    call->deferred = false;
    if (nghttp2_session_resume_data(session, call->id) != 0) fail("cannot send on stream %d", call->id);
}

static void sendPing(struct call *call) {
    if (latencies != NULL) sentAt[started % inFlightWanted] = stamp();
    started += 1;
    call->unsent += 1;
    resume(call);
}

// MARK: - Answers

/// The call of a stream; NULL for the connection's own.
static struct call *findCall(int32_t id) {
    if (current != NULL && current->id == id) return current;
    struct call *call = nghttp2_session_get_stream_user_data(session, id);
    if (call != NULL) current = call;
    return call;
}

/// One whole message, with its prefix.
static void takeMessage(struct call *call, const uint8_t *bytes, size_t count) {
    if (count != messageBytes || memcmp(bytes, message, messageBytes) != 0)
        fail("stream %d: not the echo of the request", call->id);
    call->messages += 1;
    if (shape == unary) return;
    if (completed == goal) fail("stream %d: more messages than were asked for", call->id);
    if (shape == pingPong) {
        if (latencies != NULL) recordLatency(sentAt[completed % inFlightWanted]);
        completed += 1;
        if (started < goal) sendPing(call);
    } else {
        completed += 1;
    }
}

/// The length of the message whose first bytes are given, with its prefix; 0 while that is not known.
static size_t messageLength(int32_t id, const uint8_t *bytes, size_t count) {
    uint32_t size;
    if (count < prefixBytes) return 0;
    if (bytes[0] != 0) fail("stream %d: a compressed message", id);
    memcpy(&size, bytes + 1, sizeof size);
    size = ntohl(size);
    if (size > bodyBytesMax - prefixBytes) fail("stream %d: a message of %u bytes", id, size);
    return prefixBytes + size;
}

static int onData(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes, size_t count,
                  void *context) {
    (void)session, (void)flags, (void)context;
    struct call *call = findCall(id);
    if (call == NULL) return 0;
    while (count > 0) {
        if (call->bodyBytes == 0) {  // whole messages are taken where they lie
            size_t length = messageLength(id, bytes, count);
            if (length > 0 && length <= count) {
                takeMessage(call, bytes, length);
                bytes += length;
                count -= length;
                continue;
            }
        }
        size_t length = messageLength(id, call->body, call->bodyBytes);
        size_t part = (length > 0 ? length : prefixBytes) - call->bodyBytes;
        if (part > count) part = count;
        memcpy(call->body + call->bodyBytes, bytes, part);
        call->bodyBytes += (uint32_t)part;
        bytes += part;
        count -= part;
        if (call->bodyBytes == messageLength(id, call->body, call->bodyBytes)) {
            call->bodyBytes = 0;
            takeMessage(call, call->body, length > 0 ? length : prefixBytes);
        }
    }
    return 0;
}

static bool equals(const uint8_t *bytes, size_t count, const char *text, size_t length) {
    return count == length && memcmp(bytes, text, length) == 0;
}

static int onHeader(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t nameLength,
                    const uint8_t *value, size_t valueLength, uint8_t flags, void *context) {
    (void)session, (void)flags, (void)context;
    static const char grpc[] = "application/grpc";
    if (nameLength != 7 && nameLength != 11 && nameLength != 12) return 0;
    struct call *call = findCall(frame->hd.stream_id);
    if (call == NULL) return 0;
    if (equals(name, nameLength, ":status", 7))
        call->httpOK = equals(value, valueLength, "200", 3);
    else if (equals(name, nameLength, "grpc-status", 11))
        call->statusOK = equals(value, valueLength, "0", 1);
    else if (equals(name, nameLength, "content-type", 12))
        call->contentTypeOK = valueLength >= sizeof grpc - 1 && memcmp(value, grpc, sizeof grpc - 1) == 0
            && (valueLength == sizeof grpc - 1 || value[sizeof grpc - 1] == '+' || value[sizeof grpc - 1] == ';');
    return 0;
}

static int onStreamClose(nghttp2_session *session, int32_t id, uint32_t code, void *context) {
    (void)session, (void)context;
    struct call *call = findCall(id);
    if (call == NULL) return 0;
    current = NULL;
    if (code != NGHTTP2_NO_ERROR) fail("stream %d: reset with code %u", id, code);
    if (!call->httpOK || !call->contentTypeOK) fail("stream %d: the answer is not gRPC's", id);
    if (!call->statusOK) fail("stream %d: its status is not OK", id);
    if (call->bodyBytes > 0) fail("stream %d: ended within a message", id);
    if (shape == unary) {
        if (call->messages != 1) fail("stream %d: %lu messages", id, (unsigned long)call->messages);
        recordLatency(call->began);
        completed += 1;
    } else if (completed != goal) {
        fail("stream %d: ended after %lu of %lu messages", id, (unsigned long)completed, (unsigned long)goal);
    }
    call->nextFree = freeCalls;
    freeCalls = call;
    if (shape == unary && started < goal) startUnary();
    return 0;
}

// MARK: - The connection

static void waitFor(uint32_t events) {
    static uint32_t watched = EPOLLIN;
    struct epoll_event event = {.events = events};
    if (events != watched && epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event) != 0) fail("epoll: %s", strerror(errno));
    watched = events;
    while (epoll_wait(epoll, &event, 1, -1) < 0)
        if (errno != EINTR) fail("epoll: %s", strerror(errno));
}

static void sendAll(const uint8_t *bytes, size_t count) {
    while (count > 0) {
        ssize_t sent = send(fd, bytes, count, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) waitFor(EPOLLOUT);  // the server reads before it has more to write
        else if (sent < 0 && errno != EINTR) fail("the server closed the connection: %s", strerror(errno));
        if (sent < 0) continue;
        bytes += sent;
        count -= (size_t)sent;
    }
}

/// Sends what nghttp2 has to send, in one system call unless it is more than a turn's buffer.
static void flush(void) {
    ssize_t count;
    do {
        size_t filled = 0;
        const uint8_t *bytes;
        while (filled <= turnBytesMax - frameBytesMax && (count = nghttp2_session_mem_send(session, &bytes)) > 0) {
            if ((size_t)count > turnBytesMax - filled) fail("a frame of %zd bytes", count);
            memcpy(turnBuffer + filled, bytes, (size_t)count);
            filled += (size_t)count;
        }
        if (count < 0) fail("nghttp2: %s", nghttp2_strerror((int)count));
        sendAll(turnBuffer, filled);
    } while (count > 0);
}

static void turn(void) {
    waitFor(EPOLLIN);
    ssize_t count = recv(fd, readBuffer, sizeof readBuffer, 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) fail("the server closed the connection: %s", count == 0 ? "end of file" : strerror(errno));
    ssize_t taken = nghttp2_session_mem_recv(session, readBuffer, (size_t)count);
    if (taken < 0) fail("nghttp2: %s", nghttp2_strerror((int)taken));
    flush();
}

static void connectTo(const char *address) {
    if (strncmp(address, "unix:", 5) == 0) {
        struct sockaddr_un name = {.sun_family = AF_UNIX};
        if (strlen(address + 5) >= sizeof name.sun_path) fail("%s: too long", address);
        strcpy(name.sun_path, address + 5);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(fd, (struct sockaddr *)&name, sizeof name) != 0) fail("%s: %s", address, strerror(errno));
    } else {
        struct sockaddr_in name = {.sin_family = AF_INET};
        const char *colon = strrchr(address, ':');
        char host[64] = "";
        if (colon != NULL && (size_t)(colon - address) < sizeof host) memcpy(host, address, (size_t)(colon - address));
        if (colon == NULL || inet_pton(AF_INET, host, &name.sin_addr) != 1)
            fail("not an address: %s (IPv4:PORT or unix:PATH)", address);
        name.sin_port = htons((uint16_t)atoi(colon + 1));
        int on = 1;
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (connect(fd, (struct sockaddr *)&name, sizeof name) != 0) fail("%s: %s", address, strerror(errno));
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN};
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) fail("epoll: %s", strerror(errno));
}

static void openSession(void) {
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *options;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, onHeader);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, onData);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, onStreamClose);
    nghttp2_option_new(&options);
    nghttp2_option_set_no_closed_streams(options, 1);  // they serve the priority tree alone
    if (nghttp2_session_client_new3(&session, callbacks, NULL, options, &pool) != 0) fail("out of memory");
    nghttp2_option_del(options);
    nghttp2_session_callbacks_del(callbacks);
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, streamWindowBytes},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
    };
    nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings, sizeof settings / sizeof *settings);
    nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, connectionWindowBytes);
    flush();
    // nghttp2 shows this as unknown until the server's settings are there.
    while (nghttp2_session_get_remote_settings(session, NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES) == UINT32_MAX) turn();
    uint32_t streamsMax = nghttp2_session_get_remote_settings(session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    if (shape == unary && streamsMax < inFlightWanted)
        fail("the server takes %u calls at once, not %lu", streamsMax, (unsigned long)inFlightWanted);
}

// MARK: - The three shapes

static void setPath(const char *path) {
    requestFields[pathField].value = (uint8_t *)path;
    requestFields[pathField].valuelen = strlen(path);
}

static void makeCalls(uint64_t count) {
    goal += count;
    if (shape == unary) {
        setPath(unaryPath);
        while (started < goal && started - completed < inFlightWanted) startUnary();
    } else if (shape == pingPong) {
        static struct call *stream;
        setPath(bidirectionalPath);
        if (stream == NULL) stream = startCall(message, messageBytes, 0, false);
        while (started < goal && started - completed < inFlightWanted) sendPing(stream);
    } else if (count > 0) {
        char digits[21];
        int length = snprintf(digits, sizeof digits, "%lu", (unsigned long)count);
        memcpy(repeatRequest, (uint8_t[]){0, 0, 0, 0, (uint8_t)(2 + length), 0x0a, (uint8_t)length}, prefixBytes + 2);
        memcpy(repeatRequest + prefixBytes + 2, digits, (size_t)length);
        setPath(repeatPath);
        startCall(repeatRequest, (uint32_t)(prefixBytes + 2 + length), 1, true);
    }
    flush();
    while (completed < goal) turn();
    // A one-way stream has its status still to come.
    while (shape == oneWay && current != NULL) turn();
}

static int ascending(const void *left, const void *right) {
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

static void report(uint64_t calls, uint64_t wall, uint64_t cpu) {
    printf("{\"calls\":%lu,\"seconds\":%.6f,\"cpu_microseconds\":%.1f,", (unsigned long)calls, (double)wall / 1e9,
           (double)cpu / 1e3);
    if (latencyCount > 0) {
        qsort(latencies, latencyCount, sizeof *latencies, ascending);
        printf("\"p50_microseconds\":%.1f,\"p99_microseconds\":%.1f}\n", latencies[latencyCount / 2] / 1e3,
               latencies[latencyCount * 99 / 100] / 1e3);
    } else {
        printf("\"p50_microseconds\":null,\"p99_microseconds\":null}\n");
    }
}

int main(int argc, char **argv) {
    const char *target = NULL;
    uint64_t calls = 0, warmUp = 0;
    for (int i = 1; i < argc; i += 2) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(name, "--target") == 0) target = value;
        else if (strcmp(name, "--calls") == 0) calls = strtoull(value, NULL, 10);
        else if (strcmp(name, "--warm-up") == 0) warmUp = strtoull(value, NULL, 10);
        else if (strcmp(name, "--in-flight") == 0) inFlightWanted = strtoull(value, NULL, 10);
        else if (strcmp(name, "--latencies") == 0) wantsLatencies = strcmp(value, "no") != 0;
        else if (strcmp(name, "--shape") == 0 && strcmp(value, "unary") == 0) shape = unary;
        else if (strcmp(name, "--shape") == 0 && strcmp(value, "ping-pong") == 0) shape = pingPong;
        else if (strcmp(name, "--shape") == 0 && strcmp(value, "stream") == 0) shape = oneWay;
        else fail("unknown option %s %s", name, value);
    }
    if (target == NULL || calls == 0 || inFlightWanted == 0 || inFlightWanted > inFlightMax)
        fail("usage: floor-client --target ADDRESS --calls N [--shape unary|ping-pong|stream] [--in-flight 1…%d] "
             "[--warm-up N] [--latencies yes|no]", inFlightMax);
    connectTo(target);
    openSession();
    makeCalls(warmUp);
    printf("ready\n");
    fflush(stdout);
    char line[16];
    if (read(STDIN_FILENO, line, sizeof line) < 0) fail("standard input: %s", strerror(errno));
    if (wantsLatencies && shape != oneWay) {
        latencies = malloc(calls * sizeof *latencies);
        if (latencies == NULL) fail("out of memory");
    }
    uint64_t wall = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    makeCalls(calls);
    cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    wall = now(CLOCK_MONOTONIC) - wall;
    report(calls, wall, cpu);
    nghttp2_session_del(session);
    drainPool();
    close(fd);
    return 0;
}
