/// What `ConcurrentMap` needs and Swift cannot say: a thread-local pointer, a fence for the compiler alone,
/// membarrier(2), futex(2). The inline functions are called by code that is compiled into the map's users.
#ifndef CCONCURRENTMAP_H
#define CCONCURRENTMAP_H

#include <stdint.h>

// The thread's record -------------------------------------------------------------------------------------------------

/// In the block that is there when a thread starts, so that reading it is one instruction. A library that is loaded
/// while the program runs finds room there as well: glibc keeps some for that, and this is one word.
extern _Thread_local void *cconcurrentmap_record __attribute__((tls_model("initial-exec")));

/// The record of the calling thread, or NULL. What calls this must not be inlined into a Swift function that suspends:
/// the optimiser would carry the answer over to another thread.
static inline void *cconcurrentmap_thread_record(void) { return cconcurrentmap_record; }

/// Sets the record of the calling thread; `at_exit` gets it when the thread ends.
void cconcurrentmap_set_thread_record(void *record, void (*at_exit)(void *));

// Fences --------------------------------------------------------------------------------------------------------------

/// Keeps the compiler, and only it, from moving memory accesses across. The processor is seen to by
/// cconcurrentmap_membarrier on the other side.
static inline void cconcurrentmap_compiler_fence(void) { __asm__ volatile("" ::: "memory"); }

/// 1 if cconcurrentmap_membarrier will work in this process, 0 if the kernel or a sandbox lacks it.
int cconcurrentmap_membarrier_register(void);
/// Has every running thread of this process pass a full fence before this returns. 1 if it did, 0 if it could not.
int cconcurrentmap_membarrier(void);

// Waiting -------------------------------------------------------------------------------------------------------------

/// Tells the processor that this is a loop that waits.
static inline void cconcurrentmap_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

/// Lets other threads run.
void cconcurrentmap_yield(void);
/// Sleeps while the word is `expected`; may return early.
void cconcurrentmap_wait(void *word, uint32_t expected);
/// Wakes one thread that sleeps on the word.
void cconcurrentmap_wake(void *word);

// Time ----------------------------------------------------------------------------------------------------------------

/// The time of the kernel's last tick (1 to 10 ms ago), in nanoseconds; changes when the kernel ticks.
int64_t cconcurrentmap_tick(void);

#endif
