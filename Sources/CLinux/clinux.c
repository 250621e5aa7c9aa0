#define _GNU_SOURCE
#include "clinux.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clinux_epoll_create(void) { return epoll_create1(EPOLL_CLOEXEC); }

static int control(int epoll, int operation, int descriptor, uint32_t events, uint64_t key) {
    struct epoll_event event = {.events = events, .data.u64 = key};
    return epoll_ctl(epoll, operation, descriptor, &event);
}

int clinux_epoll_add(int epoll, int descriptor, uint32_t events, uint64_t key) {
    return control(epoll, EPOLL_CTL_ADD, descriptor, events, key);
}

int clinux_epoll_modify(int epoll, int descriptor, uint32_t events, uint64_t key) {
    return control(epoll, EPOLL_CTL_MOD, descriptor, events, key);
}

int clinux_epoll_delete(int epoll, int descriptor) { return control(epoll, EPOLL_CTL_DEL, descriptor, 0, 0); }

int clinux_epoll_wait(int epoll, void *events, int capacity, int64_t timeout_nanoseconds) {
    if (timeout_nanoseconds <= 0) return epoll_wait(epoll, events, capacity, timeout_nanoseconds < 0 ? -1 : 0);
#ifdef SYS_epoll_pwait2
    // By number: glibc has the wrapper since 2.35 only, the kernel the call since 5.11.
    static atomic_int lacks_pwait2;
    if (!atomic_load_explicit(&lacks_pwait2, memory_order_relaxed)) {
        struct timespec timeout = {timeout_nanoseconds / 1000000000, timeout_nanoseconds % 1000000000};
        long count = syscall(SYS_epoll_pwait2, epoll, events, capacity, &timeout, NULL, 0);
        if (count >= 0 || (errno != ENOSYS && errno != EPERM)) return (int)count;
        atomic_store_explicit(&lacks_pwait2, 1, memory_order_relaxed);
    }
#endif
    int64_t milliseconds = timeout_nanoseconds / 1000000 + (timeout_nanoseconds % 1000000 != 0);
    return epoll_wait(epoll, events, capacity, milliseconds > INT_MAX ? INT_MAX : (int)milliseconds);
}

int clinux_eventfd(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

static int64_t nanoseconds_of(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

int64_t clinux_monotonic_nanoseconds(void) { return nanoseconds_of(CLOCK_MONOTONIC); }

int64_t clinux_coarse_nanoseconds(void) { return nanoseconds_of(CLOCK_MONOTONIC_COARSE); }

int64_t clinux_realtime_nanoseconds(void) { return nanoseconds_of(CLOCK_REALTIME); }

static _Thread_local void *current_loop;

void *clinux_current_loop(void) { return current_loop; }

void clinux_set_current_loop(void *loop) { current_loop = loop; }

int clinux_thread_start(pthread_t *thread, int detached, void *(*body)(void *), void *context) {
    pthread_attr_t attributes;
    int error = pthread_attr_init(&attributes);
    if (error) return error;
    if (detached) pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);

    sigset_t blocked, previous;
    sigfillset(&blocked);
    sigdelset(&blocked, SIGSEGV);
    sigdelset(&blocked, SIGBUS);
    sigdelset(&blocked, SIGILL);
    sigdelset(&blocked, SIGFPE);
    sigdelset(&blocked, SIGTRAP);
    sigdelset(&blocked, SIGSYS);
    pthread_sigmask(SIG_SETMASK, &blocked, &previous);
    error = pthread_create(thread, &attributes, body, context);
    pthread_sigmask(SIG_SETMASK, &previous, NULL);

    pthread_attr_destroy(&attributes);
    return error;
}

void clinux_thread_set_name(const char *name) {
    char kept[16];
    size_t length = 0;
    while (length < sizeof kept - 1 && name[length]) {
        kept[length] = name[length];
        length += 1;
    }
    kept[length] = 0;
    pthread_setname_np(pthread_self(), kept);
}

int clinux_processor_count(void) {
    // The kernel refuses a set smaller than its own, hence the growing one.
    for (int processors = 1024; processors <= 1 << 20; processors *= 2) {
        cpu_set_t *set = CPU_ALLOC(processors);
        if (!set) break;
        size_t size = CPU_ALLOC_SIZE(processors);
        int known = sched_getaffinity(0, size, set) == 0;
        int count = known ? CPU_COUNT_S(size, set) : 0;
        CPU_FREE(set);
        if (known) return count > 0 ? count : 1;
        if (errno != EINVAL) break;
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

void clinux_park(uint32_t *word) {
    while (__atomic_exchange_n(word, 0, __ATOMIC_ACQUIRE) == 0)
        syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

void clinux_unpark(uint32_t *word) {
    __atomic_store_n(word, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

int clinux_stream_socket(int domain) { return socket(domain, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); }

int clinux_stream_socketpair(int descriptors[2]) {
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, descriptors);
}

int clinux_accept(int descriptor, struct sockaddr_storage *address, socklen_t *length) {
    return accept4(descriptor, (struct sockaddr *)address, length, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

int clinux_peer_credentials(int descriptor, int32_t *process, uint32_t *user, uint32_t *group) {
    struct ucred credentials;
    socklen_t length = sizeof credentials;
    int result = getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &credentials, &length);
    if (result) return result;
    *process = credentials.pid;
    *user = credentials.uid;
    *group = credentials.gid;
    return 0;
}

int clinux_queued_output(int descriptor) {
    int bytes = 0;
    return ioctl(descriptor, TIOCOUTQ, &bytes) == 0 ? bytes : -1;
}

int clinux_tcp_info(int descriptor, struct clinux_tcp_info *info) {
    struct tcp_info kernel;
    socklen_t length = sizeof kernel;
    memset(&kernel, 0, sizeof kernel);
    if (getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &kernel, &length) != 0) return -1;
    *info = (struct clinux_tcp_info){
        .state = kernel.tcpi_state,
        .ca_state = kernel.tcpi_ca_state,
        .retransmits = kernel.tcpi_retransmits,
        .probes = kernel.tcpi_probes,
        .backoff = kernel.tcpi_backoff,
        .options = kernel.tcpi_options,
        .snd_wscale = kernel.tcpi_snd_wscale,
        .rcv_wscale = kernel.tcpi_rcv_wscale,
        .rto = kernel.tcpi_rto,
        .ato = kernel.tcpi_ato,
        .snd_mss = kernel.tcpi_snd_mss,
        .rcv_mss = kernel.tcpi_rcv_mss,
        .unacked = kernel.tcpi_unacked,
        .sacked = kernel.tcpi_sacked,
        .lost = kernel.tcpi_lost,
        .retrans = kernel.tcpi_retrans,
        .fackets = kernel.tcpi_fackets,
        .last_data_sent = kernel.tcpi_last_data_sent,
        .last_ack_sent = kernel.tcpi_last_ack_sent,
        .last_data_recv = kernel.tcpi_last_data_recv,
        .last_ack_recv = kernel.tcpi_last_ack_recv,
        .pmtu = kernel.tcpi_pmtu,
        .rcv_ssthresh = kernel.tcpi_rcv_ssthresh,
        .rtt = kernel.tcpi_rtt,
        .rttvar = kernel.tcpi_rttvar,
        .snd_ssthresh = kernel.tcpi_snd_ssthresh,
        .snd_cwnd = kernel.tcpi_snd_cwnd,
        .advmss = kernel.tcpi_advmss,
        .reordering = kernel.tcpi_reordering,
    };
    return 0;
}
