/// The part of Linux that Swift's Glibc module cannot see: epoll, eventfd, accept4, thread-locals, a few constants and
/// the hooks of the thread sanitizer. What needs _GNU_SOURCE is defined in clinux.c, so that this header is plain.
///
/// Calls answer as their system call does: -1 and errno. Calls about threads answer an error number.
#ifndef CLINUX_H
#define CLINUX_H

#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/socket.h>

// epoll and eventfd ---------------------------------------------------------------------------------------------------

static const uint32_t clinux_epollin = EPOLLIN;
static const uint32_t clinux_epollout = EPOLLOUT;
static const uint32_t clinux_epollrdhup = EPOLLRDHUP;
static const uint32_t clinux_epollhup = EPOLLHUP;
static const uint32_t clinux_epollerr = EPOLLERR;
static const uint32_t clinux_epollet = EPOLLET;

static const size_t clinux_event_size = sizeof(struct epoll_event);

/// The events of entry `index` of an array that clinux_epoll_wait filled. `struct epoll_event` is packed on x86-64 and
/// its data is a union, hence the accessors.
static inline uint32_t clinux_event_flags(const void *events, size_t index) {
    return ((const struct epoll_event *)events)[index].events;
}

/// The 64 bits that were given when the descriptor of entry `index` was added.
static inline uint64_t clinux_event_key(const void *events, size_t index) {
    return ((const struct epoll_event *)events)[index].data.u64;
}

int clinux_epoll_create(void);
int clinux_epoll_add(int epoll, int descriptor, uint32_t events, uint64_t key);
int clinux_epoll_modify(int epoll, int descriptor, uint32_t events, uint64_t key);
int clinux_epoll_delete(int epoll, int descriptor);
/// Waits for at most `timeout_nanoseconds`; negative waits without limit. Where the kernel (or a sandbox) lacks
/// epoll_pwait2 the time is rounded up to a millisecond.
int clinux_epoll_wait(int epoll, void *events, int capacity, int64_t timeout_nanoseconds);
int clinux_eventfd(void);

// clocks --------------------------------------------------------------------------------------------------------------

/// CLOCK_MONOTONIC in nanoseconds.
int64_t clinux_monotonic_nanoseconds(void);
/// CLOCK_MONOTONIC_COARSE in nanoseconds: as of the kernel's last tick (1 to 10 ms ago), without reading a counter.
int64_t clinux_coarse_nanoseconds(void);
/// CLOCK_REALTIME in nanoseconds since 1970.
int64_t clinux_realtime_nanoseconds(void);

// threads -------------------------------------------------------------------------------------------------------------

/// The event loop whose thread this is, or NULL. A function of another translation unit, so that no optimiser can carry
/// the answer across a suspension of a Swift task, after which the code may run on another thread.
void *clinux_current_loop(void);
void clinux_set_current_loop(void *loop);

/// Starts a thread on which every signal is blocked, save those that a fault of its own raises: the process' handlers
/// must not run there, and its crash reporter must.
int clinux_thread_start(pthread_t *thread, int detached, void *(*body)(void *), void *context);
/// Names the calling thread; the kernel keeps 15 bytes.
void clinux_thread_set_name(const char *name);
/// How many processors this process may run on; at least 1.
int clinux_processor_count(void);

/// Waits until the word is 1, which clinux_unpark brings about, and sets it back to 0. One thread may wait at a time.
void clinux_park(uint32_t *word);
/// Sets the word to 1 and wakes the thread that waits for that. What came before is seen by that thread.
void clinux_unpark(uint32_t *word);

// sockets -------------------------------------------------------------------------------------------------------------

static const int clinux_msg_nosignal = MSG_NOSIGNAL;

/// A stream socket, non-blocking and close-on-exec.
int clinux_stream_socket(int domain);
int clinux_stream_socketpair(int descriptors[2]);
/// accept4 with SOCK_NONBLOCK and SOCK_CLOEXEC.
int clinux_accept(int descriptor, struct sockaddr_storage *address, socklen_t *length);

/// The bytes that a socket holds of what was written to it and the peer has not taken (TIOCOUTQ, tcp(7), unix(7)); -1
/// and errno.
int clinux_queued_output(int descriptor);

/// Who connected a unix socket, or made a socket pair (SO_PEERCRED), as of that moment. 0, or -1 and errno.
int clinux_peer_credentials(int descriptor, int32_t *process, uint32_t *user, uint32_t *group);

/// What the kernel knows of a TCP connection (TCP_INFO, tcp(7)): times in microseconds or milliseconds as it has them.
struct clinux_tcp_info {
    uint32_t state, ca_state, retransmits, probes, backoff, options, snd_wscale, rcv_wscale;
    uint32_t rto, ato, snd_mss, rcv_mss, unacked, sacked, lost, retrans, fackets;
    uint32_t last_data_sent, last_ack_sent, last_data_recv, last_ack_recv;
    uint32_t pmtu, rcv_ssthresh, rtt, rttvar, snd_ssthresh, snd_cwnd, advmss, reordering;
};

/// 0, or -1 and errno; ENOPROTOOPT or EOPNOTSUPP of a socket that is not TCP's.
int clinux_tcp_info(int descriptor, struct clinux_tcp_info *info);

// the thread sanitizer ------------------------------------------------------------------------------------------------

extern void __tsan_acquire(void *address) __attribute__((weak));
extern void __tsan_release(void *address) __attribute__((weak));

/// Tells the thread sanitizer, if it is there, that what was released at `address` is seen by this thread from here on.
static inline void clinux_tsan_acquire(void *address) {
    if (__tsan_acquire) __tsan_acquire(address);
}
/// Tells the thread sanitizer, if it is there, that what this thread did is published at `address`.
static inline void clinux_tsan_release(void *address) {
    if (__tsan_release) __tsan_release(address);
}

#endif
