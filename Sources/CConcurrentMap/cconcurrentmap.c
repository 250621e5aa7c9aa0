#define _GNU_SOURCE
#include "cconcurrentmap.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

_Thread_local void *cconcurrentmap_record;

static pthread_key_t key;
static pthread_once_t key_made = PTHREAD_ONCE_INIT;
static int has_key;
static void (*on_exit_of_thread)(void *);

static void thread_exits(void *record) {
    // A destructor that runs after this one may use a map again; it gets another record, and this runs once more.
    cconcurrentmap_record = NULL;
    void (*at_exit)(void *) = __atomic_load_n(&on_exit_of_thread, __ATOMIC_ACQUIRE);
    if (at_exit) at_exit(record);
}

static void make_key(void) { has_key = pthread_key_create(&key, thread_exits) == 0; }

void cconcurrentmap_set_thread_record(void *record, void (*at_exit)(void *)) {
    __atomic_store_n(&on_exit_of_thread, at_exit, __ATOMIC_RELEASE);
    pthread_once(&key_made, make_key);
    // Without a key (a process may have 1,024) the record of a thread that ends is not used again, and nothing else.
    if (has_key) pthread_setspecific(key, record);
    cconcurrentmap_record = record;
}

static int membarrier_call(int command) { return (int)syscall(SYS_membarrier, command, 0, 0); }

int cconcurrentmap_membarrier_register(void) {
    return membarrier_call(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0;
}

int cconcurrentmap_membarrier(void) {
    int saved = errno;
    int done = membarrier_call(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0;
    // A child that was forked may have to register for itself.
    if (!done && errno == EPERM && cconcurrentmap_membarrier_register()) {
        done = membarrier_call(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0;
    }
    errno = saved;
    return done;
}

void cconcurrentmap_yield(void) { sched_yield(); }

void cconcurrentmap_wait(void *word, uint32_t expected) {
    int saved = errno;
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
    errno = saved;
}

void cconcurrentmap_wake(void *word) {
    int saved = errno;
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    errno = saved;
}

int64_t cconcurrentmap_tick(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}
