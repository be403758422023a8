/* base/mono.h - monotonic time in microseconds.  Never the wall clock: a clock step must not fire a time-out. */
#ifndef BASE_MONO_H
#define BASE_MONO_H

#include <stdint.h>
#include <time.h>

#define MONO_SEC 1000000ull
#define MONO_MS  1000ull

static inline uint64_t mono_now_us(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * MONO_SEC + (uint64_t)ts.tv_nsec / 1000u;
}

#endif
