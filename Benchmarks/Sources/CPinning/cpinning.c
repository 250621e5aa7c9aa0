#define _GNU_SOURCE
#include "cpinning.h"

#include <pthread.h>
#include <sched.h>

int cpinning_pin(int core) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    return pthread_setaffinity_np(pthread_self(), sizeof cores, &cores);
}
