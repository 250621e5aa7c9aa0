// The floor: what a unary gRPC echo costs in a bare C program on epoll and nghttp2.
//
// Whatever a server on nghttp2 adds to this program's instructions, allocations and CPU time is its own doing, so this
// program does what a correct echo server must, and nothing else:
//
//   one thread; per wake-up one read of up to 64 KiB, nghttp2_session_mem_recv, nghttp2_session_mem_send until it has
//   nothing left, one send.
//
// What it keeps, because a server may not leave it out: nghttp2's checks of the peer's headers, flow control in both
// directions, the length prefix of every message (a unary request is exactly one whole message; a stream echoes whole
// messages only), the method's path, a bound on every buffer.
// What it leaves out: metadata, deadlines, content types, compression, TLS, logging, fairness between bulk streams,
// more than one method per shape. Beside the unary and the bidirectional echo it has `Repeat`, which answers with as
// many messages as the request says, so that clients can be measured on a one-way stream.
// What it does to be cheap: streams and nghttp2's own blocks come from free lists, names and values of fields are not
// copied, the last stream looked up is remembered, closed streams and the priority tree of RFC 7540 are switched off.
//
//   floor --listen 127.0.0.1:50051 | 127.0.0.1:0 | unix:PATH      serve until SIGTERM or SIGINT
//   floor --fd N                                                  serve one connected socket until the peer closes it
//   … --allocator malloc                                          without the free lists, for comparison

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "message.h"
#include "pool.h"

enum {
    readBytesMax = 64 * 1024,
    // One turn's output. A frame of nghttp2's is at most 9 + 16384 bytes here: no peer setting makes DATA longer,
    // since the read callback bounds it.
    turnBytesMax = 256 * 1024,
    dataFrameBytesMax = 16 * 1024,
    frameBytesMax = 9 + dataFrameBytesMax,
    smallBodyBytes = 192,
    bodyBytesMax = 16 * 1024 * 1024,
    streamsPerSlab = 32,
    eventsPerWait = 64,
    maxConcurrentStreams = 1024,
    connectionWindowBytes = 4 * 1024 * 1024,
    streamWindowBytes = 1024 * 1024,
};

static void die(const char *what) {
    perror(what);
    exit(1);
}

// MARK: - State

enum kind { unknownMethod, unary, bidirectional, repeated };

/// One request. `body` holds what came and was not yet sent back:
///
///     body ── sent ──▶ whole ──▶ length ──▶ capacity
///
/// `whole` is the end of the last message that has come in full.
struct stream {
    struct stream *nextFree;
    int32_t id;
    enum kind kind;
    bool ended;     // the peer's END_STREAM was seen
    bool deferred;  // the read callback had nothing to give
    uint32_t sent, whole, length, capacity;
    uint64_t remaining;  // messages still to send, of `repeated`
    uint8_t *body;  // `small`, until a body outgrows it
    uint8_t small[smallBodyBytes];
};

struct slab {
    struct slab *next;
    struct stream streams[streamsPerSlab];
};

struct connection {
    int fd;
    nghttp2_session *session;
    struct stream *current;  // the stream of the last frame: most look-ups end here
    struct stream *freeStreams;
    struct slab *slabs;
    uint8_t *pending;  // output that the socket did not take; nothing is read until it is gone
    size_t pendingSent, pendingLength;
    struct connection *next, *previous;
};

static int epoll = -1;
static nghttp2_mem *allocator;  // NULL: malloc
static struct connection *connections;
static nghttp2_session_callbacks *callbacks;
static nghttp2_option *options;
static uint8_t readBuffer[readBytesMax];
static uint8_t turnBuffer[turnBytesMax];

// Tags of epoll registrations that are not connections.
static char listenerTag, signalTag;

// MARK: - Streams

static struct stream *takeStream(struct connection *connection, int32_t id) {
    if (connection->freeStreams == NULL) {
        struct slab *slab = calloc(1, sizeof *slab);
        if (slab == NULL) return NULL;
        slab->next = connection->slabs;
        connection->slabs = slab;
        for (int i = 0; i < streamsPerSlab; i++) {
            struct stream *stream = &slab->streams[i];
            stream->body = stream->small;
            stream->capacity = smallBodyBytes;
            stream->nextFree = connection->freeStreams;
            connection->freeStreams = stream;
        }
    }
    struct stream *stream = connection->freeStreams;
    connection->freeStreams = stream->nextFree;
    stream->id = id;
    stream->kind = unknownMethod;
    stream->ended = stream->deferred = false;
    stream->sent = stream->whole = stream->length = 0;
    return stream;
}

static void dropBody(struct stream *stream) {
    if (stream->body == stream->small) return;
    free(stream->body);
    stream->body = stream->small;
    stream->capacity = smallBodyBytes;
}

static struct stream *findStream(struct connection *connection, int32_t id) {
    struct stream *stream = connection->current;
    if (stream != NULL && stream->id == id) return stream;
    stream = nghttp2_session_get_stream_user_data(connection->session, id);
    if (stream != NULL) connection->current = stream;
    return stream;
}

/// Adds bytes to the body; false if it would pass its bound.
static bool append(struct stream *stream, const uint8_t *bytes, size_t count) {
    if (stream->length + count > stream->capacity) {
        if (stream->sent > 0) {  // first reuse what was sent
            memmove(stream->body, stream->body + stream->sent, stream->length - stream->sent);
            stream->length -= stream->sent;
            stream->whole -= stream->sent;
            stream->sent = 0;
        }
        if (stream->length + count > bodyBytesMax) return false;
        if (stream->length + count > stream->capacity) {
            size_t capacity = (size_t)stream->capacity * 2;
            while (capacity < stream->length + count) capacity *= 2;
            uint8_t *grown = malloc(capacity);
            if (grown == NULL) return false;
            memcpy(grown, stream->body, stream->length);
            dropBody(stream);
            stream->body = grown;
            stream->capacity = (uint32_t)capacity;
        }
    }
    memcpy(stream->body + stream->length, bytes, count);
    stream->length += (uint32_t)count;
    return true;
}

/// Moves `whole` past each message that is there in full.
static void findWholeMessages(struct stream *stream) {
    while (stream->length - stream->whole >= prefixBytes) {
        uint32_t size;
        memcpy(&size, stream->body + stream->whole + 1, sizeof size);
        uint64_t bytes = prefixBytes + (uint64_t)ntohl(size);
        if (stream->length - stream->whole < bytes) return;
        stream->whole += (uint32_t)bytes;
    }
}

// MARK: - Answers

#define STATIC_FIELD(name, value)                                           \
    {                                                                       \
        (uint8_t *)(name), (uint8_t *)(value), sizeof(name) - 1,            \
            sizeof(value) - 1,                                              \
            NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE    \
    }

static const nghttp2_nv responseHeaders[] = {
    STATIC_FIELD(":status", "200"),
    STATIC_FIELD("content-type", "application/grpc"),
};
static const nghttp2_nv okTrailers[] = {STATIC_FIELD("grpc-status", "0")};
static const nghttp2_nv internalTrailers[] = {STATIC_FIELD("grpc-status", "13")};
static const nghttp2_nv unimplementedTrailersOnly[] = {
    STATIC_FIELD(":status", "200"),
    STATIC_FIELD("content-type", "application/grpc"),
    STATIC_FIELD("grpc-status", "12"),
};
static const nghttp2_nv internalTrailersOnly[] = {
    STATIC_FIELD(":status", "200"),
    STATIC_FIELD("content-type", "application/grpc"),
    STATIC_FIELD("grpc-status", "13"),
};

/// Gives nghttp2 the whole messages of a body, then the trailers.
static ssize_t readBody(nghttp2_session *session, int32_t id, uint8_t *buffer, size_t length, uint32_t *flags,
                        nghttp2_data_source *source, void *context) {
    (void)context;
    struct stream *stream = source->ptr;
    size_t count = stream->whole - stream->sent;
    if (count > length) count = length;
    if (count > dataFrameBytesMax) count = dataFrameBytesMax;
    memcpy(buffer, stream->body + stream->sent, count);
    stream->sent += (uint32_t)count;
    if (stream->sent < stream->whole) return (ssize_t)count;
    if (stream->ended) {
        const nghttp2_nv *trailers = stream->sent == stream->length ? okTrailers : internalTrailers;
        *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
        if (nghttp2_submit_trailer(session, id, trailers, 1) != 0) return NGHTTP2_ERR_CALLBACK_FAILURE;
        return (ssize_t)count;
    }
    if (stream->sent == stream->length) stream->sent = stream->whole = stream->length = 0;
    if (count > 0) return (ssize_t)count;
    stream->deferred = true;
    return NGHTTP2_ERR_DEFERRED;
}

/// Gives nghttp2 as many copies of the message as fit, then the trailers.
static ssize_t readCopies(nghttp2_session *session, int32_t id, uint8_t *buffer, size_t length, uint32_t *flags,
                          nghttp2_data_source *source, void *context) {
    (void)context;
    struct stream *stream = source->ptr;
    if (length > dataFrameBytesMax) length = dataFrameBytesMax;
    size_t filled = 0;
    // `sent` is how much of a message went out in the last frame, when the window had no room for the whole.
    while (filled < length && stream->remaining > 0) {
        size_t count = messageBytes - stream->sent;
        if (count > length - filled) count = length - filled;
        memcpy(buffer + filled, message + stream->sent, count);
        filled += count;
        stream->sent += (uint32_t)count;
        if (stream->sent < messageBytes) break;
        stream->sent = 0;
        stream->remaining -= 1;
    }
    if (stream->remaining > 0) return (ssize_t)filled;
    *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    if (nghttp2_submit_trailer(session, id, okTrailers, 1) != 0) return NGHTTP2_ERR_CALLBACK_FAILURE;
    return (ssize_t)filled;
}

/// True if the body is one whole message.
static bool isOneMessage(const struct stream *stream) {
    uint32_t size;
    if (stream->length < prefixBytes) return false;
    memcpy(&size, stream->body + 1, sizeof size);
    return stream->length == prefixBytes + (uint64_t)ntohl(size);
}

/// The count in a request of `repeated`: a string field with a decimal number. 0 for anything else.
static uint64_t wantedCopies(const struct stream *stream) {
    const uint8_t *text = stream->body + prefixBytes;
    if (!isOneMessage(stream) || stream->length < prefixBytes + 2 || text[0] != 0x0a) return 0;
    uint32_t digits = stream->length - prefixBytes - 2;
    if (text[1] != digits || digits == 0 || digits > 18) return 0;
    uint64_t count = 0;
    for (uint32_t i = 0; i < digits; i++) {
        if (text[2 + i] < '0' || text[2 + i] > '9') return 0;
        count = count * 10 + (text[2 + i] - '0');
    }
    return count;
}

static int answer(nghttp2_session *session, struct stream *stream) {
    nghttp2_data_provider provider = {
        .source = {.ptr = stream},
        .read_callback = stream->kind == repeated ? readCopies : readBody,
    };
    return nghttp2_submit_response(session, stream->id, responseHeaders, 2, &provider);
}

/// The peer's END_STREAM.
static int endRequest(nghttp2_session *session, struct stream *stream) {
    stream->ended = true;
    switch (stream->kind) {
    case unknownMethod:
        return nghttp2_submit_response(session, stream->id, unimplementedTrailersOnly, 3, NULL);
    case unary:
        if (!isOneMessage(stream))
            return nghttp2_submit_response(session, stream->id, internalTrailersOnly, 3, NULL);
        stream->whole = stream->length;
        return answer(session, stream);
    case repeated:
        stream->remaining = wantedCopies(stream);
        if (stream->remaining == 0)
            return nghttp2_submit_response(session, stream->id, internalTrailersOnly, 3, NULL);
        return answer(session, stream);
    case bidirectional:
        if (!stream->deferred) return 0;  // the read callback will see `ended`
        stream->deferred = false;
        return nghttp2_session_resume_data(session, stream->id);
    }
    return 0;
}

// MARK: - nghttp2's callbacks

static int onBeginHeaders(nghttp2_session *session, const nghttp2_frame *frame, void *context) {
    struct connection *connection = context;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    struct stream *stream = takeStream(connection, frame->hd.stream_id);
    if (stream == NULL) return NGHTTP2_ERR_CALLBACK_FAILURE;
    connection->current = stream;
    nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, stream);
    return 0;
}

static int onHeader(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t nameLength,
                    const uint8_t *value, size_t valueLength, uint8_t flags, void *context) {
    (void)session, (void)flags;
    struct connection *connection = context;
    if (nameLength != 5 || memcmp(name, ":path", 5) != 0) return 0;
    // A header block is never interleaved with other frames.
    struct stream *stream = connection->current;
    if (stream == NULL || stream->id != frame->hd.stream_id) return 0;
    if (valueLength == sizeof unaryPath - 1 && memcmp(value, unaryPath, valueLength) == 0)
        stream->kind = unary;
    else if (valueLength == sizeof bidirectionalPath - 1 && memcmp(value, bidirectionalPath, valueLength) == 0)
        stream->kind = bidirectional;
    else if (valueLength == sizeof repeatPath - 1 && memcmp(value, repeatPath, valueLength) == 0)
        stream->kind = repeated;
    return 0;
}

static int onData(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes, size_t count,
                  void *context) {
    (void)flags;
    struct stream *stream = findStream(context, id);
    if (stream == NULL) return 0;
    if (!append(stream, bytes, count))
        return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, NGHTTP2_ENHANCE_YOUR_CALM);
    if (stream->kind != bidirectional) return 0;
    findWholeMessages(stream);
    if (!stream->deferred || stream->whole == stream->sent) return 0;
    stream->deferred = false;
    return nghttp2_session_resume_data(session, id);
}

static int onFrame(nghttp2_session *session, const nghttp2_frame *frame, void *context) {
    if (frame->hd.type != NGHTTP2_DATA && frame->hd.type != NGHTTP2_HEADERS) return 0;
    struct stream *stream = findStream(context, frame->hd.stream_id);
    if (stream == NULL) return 0;
    int result = 0;
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST
        && stream->kind == bidirectional)
        result = answer(session, stream);
    if (result == 0 && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) result = endRequest(session, stream);
    return result;
}

static int onStreamClose(nghttp2_session *session, int32_t id, uint32_t code, void *context) {
    (void)session, (void)code;
    struct connection *connection = context;
    struct stream *stream = findStream(connection, id);
    if (stream == NULL) return 0;
    connection->current = NULL;
    dropBody(stream);
    stream->nextFree = connection->freeStreams;
    connection->freeStreams = stream;
    return 0;
}

// MARK: - Connections

static void watch(struct connection *connection, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data = {.ptr = connection}};
    if (epoll_ctl(epoll, operation, connection->fd, &event) != 0) die("epoll_ctl");
}

static void closeConnection(struct connection *connection) {
    close(connection->fd);
    nghttp2_session_del(connection->session);
    while (connection->slabs != NULL) {
        struct slab *slab = connection->slabs;
        connection->slabs = slab->next;
        for (int i = 0; i < streamsPerSlab; i++) dropBody(&slab->streams[i]);
        free(slab);
    }
    free(connection->pending);
    if (connection->previous != NULL) connection->previous->next = connection->next;
    else connections = connection->next;
    if (connection->next != NULL) connection->next->previous = connection->previous;
    free(connection);
}

/// Sends `count` bytes, keeping what the socket does not take; false if the connection is lost.
static bool sendOrKeep(struct connection *connection, const uint8_t *bytes, size_t count) {
    ssize_t sent = send(connection->fd, bytes, count, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN && errno != EINTR) return false;
        sent = 0;
    }
    if ((size_t)sent == count) return true;
    connection->pendingSent = 0;
    connection->pendingLength = count - (size_t)sent;
    connection->pending = malloc(connection->pendingLength);
    if (connection->pending == NULL) return false;
    memcpy(connection->pending, bytes + sent, connection->pendingLength);
    watch(connection, EPOLL_CTL_MOD, EPOLLOUT);
    return true;
}

/// Sends what nghttp2 has to send, in one system call unless it is more than a turn's buffer; false if the connection
/// is over.
static bool flush(struct connection *connection) {
    nghttp2_session *session = connection->session;
    while (connection->pending == NULL) {
        size_t filled = 0;
        ssize_t count = 0;
        while (filled <= turnBytesMax - frameBytesMax) {
            const uint8_t *bytes;
            count = nghttp2_session_mem_send(session, &bytes);
            if (count <= 0) break;
            if ((size_t)count > turnBytesMax - filled) return false;
            memcpy(turnBuffer + filled, bytes, (size_t)count);
            filled += (size_t)count;
        }
        if (count < 0) return false;
        if (filled > 0 && !sendOrKeep(connection, turnBuffer, filled)) return false;
        if (count == 0) break;
    }
    return connection->pending != NULL || nghttp2_session_want_read(session) || nghttp2_session_want_write(session);
}

/// False if the connection is over.
static bool handleReadable(struct connection *connection) {
    ssize_t count = recv(connection->fd, readBuffer, sizeof readBuffer, 0);
    if (count <= 0) return count < 0 && (errno == EAGAIN || errno == EINTR);
    if (nghttp2_session_mem_recv(connection->session, readBuffer, (size_t)count) < 0) {
        flush(connection);  // a GOAWAY may be queued
        return false;
    }
    return flush(connection);
}

/// False if the connection is over.
static bool handleWritable(struct connection *connection) {
    ssize_t sent = send(connection->fd, connection->pending + connection->pendingSent,
                        connection->pendingLength - connection->pendingSent, MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN || errno == EINTR;
    connection->pendingSent += (size_t)sent;
    if (connection->pendingSent < connection->pendingLength) return true;
    free(connection->pending);
    connection->pending = NULL;
    watch(connection, EPOLL_CTL_MOD, EPOLLIN);
    return flush(connection);
}

static void adopt(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // fails, harmlessly, on a unix socket
    struct connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL) die("calloc");
    connection->fd = fd;
    if (nghttp2_session_server_new3(&connection->session, callbacks, connection, options, allocator) != 0)
        die("nghttp2");
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, maxConcurrentStreams},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, streamWindowBytes},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
    };
    nghttp2_submit_settings(connection->session, NGHTTP2_FLAG_NONE, settings, sizeof settings / sizeof *settings);
    nghttp2_session_set_local_window_size(connection->session, NGHTTP2_FLAG_NONE, 0, connectionWindowBytes);
    connection->next = connections;
    if (connections != NULL) connections->previous = connection;
    connections = connection;
    watch(connection, EPOLL_CTL_ADD, EPOLLIN);
    if (!flush(connection)) closeConnection(connection);
}

static void prepareSessions(void) {
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, onBeginHeaders);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, onHeader);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, onData);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, onFrame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, onStreamClose);
    nghttp2_option_new(&options);
    nghttp2_option_set_no_closed_streams(options, 1);  // they serve the priority tree alone
}

// MARK: - Listening

static int listenOn(const char *address, char *shown, size_t shownSize) {
    int fd;
    if (strncmp(address, "unix:", 5) == 0) {
        struct sockaddr_un name = {.sun_family = AF_UNIX};
        if (strlen(address + 5) >= sizeof name.sun_path) {
            errno = ENAMETOOLONG;
            die(address);
        }
        strcpy(name.sun_path, address + 5);
        unlink(name.sun_path);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0 || bind(fd, (struct sockaddr *)&name, sizeof name) != 0) die(address);
        snprintf(shown, shownSize, "%s", address);
    } else {
        struct sockaddr_in name = {.sin_family = AF_INET};
        const char *colon = strrchr(address, ':');
        char host[64] = "";
        if (colon != NULL && (size_t)(colon - address) < sizeof host) memcpy(host, address, (size_t)(colon - address));
        if (colon == NULL || inet_pton(AF_INET, host, &name.sin_addr) != 1) {
            fprintf(stderr, "floor: not an address: %s (IPv4:PORT or unix:PATH)\n", address);
            exit(2);
        }
        name.sin_port = htons((uint16_t)atoi(colon + 1));
        fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        int on = 1;
        if (fd >= 0) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        socklen_t size = sizeof name;
        if (fd < 0 || bind(fd, (struct sockaddr *)&name, size) != 0) die(address);
        if (getsockname(fd, (struct sockaddr *)&name, &size) != 0) die("getsockname");
        snprintf(shown, shownSize, "%s:%d", host, ntohs(name.sin_port));
    }
    if (listen(fd, 1024) != 0) die("listen");
    return fd;
}

static void acceptAll(int listener) {
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) adopt(fd);
    if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR) perror("accept4");
}

/// Signals that end the program arrive as a readable descriptor, so that it ends in order.
static int watchSignals(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

int main(int argc, char **argv) {
    const char *address = NULL;
    int connected = -1, listener = -1;
    allocator = &pool;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--listen") == 0) address = argv[i + 1];
        else if (strcmp(argv[i], "--fd") == 0) connected = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--allocator") == 0) allocator = strcmp(argv[i + 1], "malloc") == 0 ? NULL : &pool;
    }
    if ((address == NULL) == (connected < 0)) {
        fprintf(stderr, "usage: floor --listen 127.0.0.1:PORT | --listen unix:PATH | --fd N [--allocator malloc]\n");
        return 2;
    }
    prepareSessions();
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) die("epoll_create1");
    int signals = watchSignals();
    struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = &signalTag}};
    if (signals < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, signals, &event) != 0) die("signalfd");

    if (address != NULL) {
        char shown[160];
        listener = listenOn(address, shown, sizeof shown);
        event.data.ptr = &listenerTag;
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) != 0) die("epoll_ctl");
        printf("listening on %s\n", shown);
        fflush(stdout);
    } else {
        fcntl(connected, F_SETFL, fcntl(connected, F_GETFL) | O_NONBLOCK);
        adopt(connected);
    }

    bool running = true;
    while (running && (listener >= 0 || connections != NULL)) {
        struct epoll_event events[eventsPerWait];
        int count = epoll_wait(epoll, events, eventsPerWait, -1);
        if (count < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < count; i++) {
            void *tag = events[i].data.ptr;
            if (tag == &signalTag) {
                running = false;
            } else if (tag == &listenerTag) {
                acceptAll(listener);
            } else {
                struct connection *connection = tag;
                bool alive = connection->pending != NULL ? handleWritable(connection) : handleReadable(connection);
                if (!alive) closeConnection(connection);
            }
        }
    }

    while (connections != NULL) closeConnection(connections);
    if (listener >= 0) close(listener);
    close(signals);
    close(epoll);
    nghttp2_option_del(options);
    nghttp2_session_callbacks_del(callbacks);
    drainPool();
    return 0;
}
