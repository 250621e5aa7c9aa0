/// Keeps a thread on one core, for which Swift's Glibc module lacks the call.
#ifndef CPINNING_H
#define CPINNING_H

/// Pins the calling thread to a core; 0, or an error number.
int cpinning_pin(int core);

#endif
