/* base/histogram.c - see base/histogram.h. */
#include "base/histogram.h"

uint64_t histogram_end_us(unsigned bucket)
{
	if (bucket < 4)
		return bucket + 1u;
	unsigned shift = bucket / 4 - 1;
	return (uint64_t)(4 + bucket % 4 + 1) << shift;
}

/* Counters may wrap after four thousand million; a difference of two readings is right all the same. */
void histogram_sum(struct histogram *to, const struct histogram *from)
{
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		to->count[i] += from->count[i];
}

uint64_t histogram_total(const struct histogram *h)
{
	uint64_t n = 0;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		n += h->count[i];
	return n;
}

uint64_t histogram_below(const struct histogram *h, uint64_t us)
{
	uint64_t n = 0;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS - 1 && histogram_end_us(i) <= us; i++)
		n += h->count[i];
	return n;
}

/* Within a bucket times are taken to be spread evenly. */
uint64_t histogram_quantile_us(const struct histogram *h, double q)
{
	double want = q * (double)histogram_total(h), seen = 0;
	uint64_t start = 0;
	if (want <= 0)
		return 0;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		double n = h->count[i];
		uint64_t end = histogram_end_us(i);
		if (n > 0 && seen + n >= want)
			return start + (uint64_t)((double)(end - start) * (want - seen) / n);
		seen += n;
		start = end;
	}
	return start;
}
