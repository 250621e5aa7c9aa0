// Counts a process's allocations, exactly: preload it, and take the difference between two readings.
//
//   MALLOCCOUNT_OUT=/tmp/counts LD_PRELOAD=./libmalloccount.so program &
//   kill -USR2 $!          # appends a line, as does the program's exit
//
// A line reads `total=9 malloc=5 calloc=1 realloc=1 aligned=2 free=7`. `total` is the sum of the four kinds of
// allocation; realloc counts as one, whether or not the block moves, and as no free.
//
// The functions wrapped are glibc's own entry points under their other names, so there is no look-up by name and no
// allocation before the library is ready.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *pointer, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void *__libc_valloc(size_t size);
extern void *__libc_pvalloc(size_t size);
extern void __libc_free(void *pointer);

static atomic_ulong mallocs, callocs, reallocs, aligneds, frees;

static void count(atomic_ulong *counter) {
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

void *malloc(size_t size) {
    count(&mallocs);
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size) {
    count(&callocs);
    return __libc_calloc(number, size);
}

void *realloc(void *pointer, size_t size) {
    count(&reallocs);
    return __libc_realloc(pointer, size);
}

void free(void *pointer) {
    if (pointer != NULL) count(&frees);
    __libc_free(pointer);
}

void *memalign(size_t alignment, size_t size) {
    count(&aligneds);
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    count(&aligneds);
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **pointer, size_t alignment, size_t size) {
    if (alignment % sizeof(void *) != 0 || (alignment & (alignment - 1)) != 0 || alignment == 0) return EINVAL;
    count(&aligneds);
    void *block = __libc_memalign(alignment, size);
    if (block == NULL) return ENOMEM;
    *pointer = block;
    return 0;
}

void *valloc(size_t size) {
    count(&aligneds);
    return __libc_valloc(size);
}

void *pvalloc(size_t size) {
    count(&aligneds);
    return __libc_pvalloc(size);
}

// MARK: - Readings

static char *put(char *end, const char *name, unsigned long value) {
    char digits[20];
    int length = 0;
    while (*name != 0) *end++ = *name++;
    do digits[length++] = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    while (length > 0) *end++ = digits[--length];
    return end;
}

/// Appends one line, in one write. Async-signal-safe.
static void report(void) {
    int saved = errno;
    const char *path = getenv("MALLOCCOUNT_OUT");
    int fd = path == NULL ? STDERR_FILENO : open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0) return;
    unsigned long m = atomic_load(&mallocs), c = atomic_load(&callocs), r = atomic_load(&reallocs);
    unsigned long a = atomic_load(&aligneds), f = atomic_load(&frees);
    char line[256], *end = line;
    end = put(end, "total=", m + c + r + a);
    end = put(end, " malloc=", m);
    end = put(end, " calloc=", c);
    end = put(end, " realloc=", r);
    end = put(end, " aligned=", a);
    end = put(end, " free=", f);
    *end++ = '\n';
    if (write(fd, line, (size_t)(end - line)) < 0) {}
    if (fd != STDERR_FILENO) close(fd);
    errno = saved;
}

static void onSignal(int number) {
    (void)number;
    report();
}

__attribute__((constructor)) static void start(void) {
    struct sigaction action = {.sa_handler = onSignal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGUSR2, &action, NULL);
}

__attribute__((destructor)) static void finish(void) {
    report();
}
