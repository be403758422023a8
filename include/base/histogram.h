/* base/histogram.h - times in fixed buckets whose width grows with them: four buckets per power of two.
 *
 * Adding costs a count of leading zeros and one add; a quantile read back is at most a quarter too high.  Times are
 * microseconds; what is longer than half an hour stands in the last bucket.  Plain words: one thread adds, others ask
 * it for copies. */
#ifndef BASE_HISTOGRAM_H
#define BASE_HISTOGRAM_H

#include <stdint.h>
#include "base/check.h"

enum { HISTOGRAM_BUCKETS = 120 };

struct histogram {
	uint32_t count[HISTOGRAM_BUCKETS];
};

static inline unsigned histogram_bucket(uint64_t us)
{
	if (us < 4)
		return (unsigned)us;
	unsigned e = 63u - (unsigned)__builtin_clzll(us);
	unsigned at = (e - 1) * 4 + (unsigned)((us >> (e - 2)) & 3);
	return at < HISTOGRAM_BUCKETS ? at : HISTOGRAM_BUCKETS - 1;
}

static inline void histogram_add(struct histogram *h, uint64_t us) { h->count[histogram_bucket(us)]++; }

uint64_t histogram_end_us(unsigned bucket); /* the first time that is too long for the bucket */
void histogram_sum(struct histogram *to, const struct histogram *from);
uint64_t histogram_total(const struct histogram *h);
/* How many took less than us, which must be a power of two from 4 on. */
uint64_t histogram_below(const struct histogram *h, uint64_t us);
/* The time that the share q (0 to 1) of all stayed below; 0 when there are none. */
uint64_t histogram_quantile_us(const struct histogram *h, double q);

#endif
