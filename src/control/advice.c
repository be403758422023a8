/* control/advice.c - what follows from the figures; see control/advice.h. */
#include "control/advice.h"

#include <math.h>
#include <stdbool.h>

/* A level counts once so much has been seen there. */
enum { LEVEL_SECONDS_MIN = 3, LEVEL_SERVED_MIN = 20, SIZE_MAX_ADVISED = 10000 };
#define NEARLY 0.97

static const char *const reason_texts[] = {
#define ADVICE_REASON_TEXT(id, text) [ADVICE_##id] = (text),
	ADVICE_REASONS(ADVICE_REASON_TEXT)
#undef ADVICE_REASON_TEXT
};

const char *advice_reason_text(enum advice_reason reason) { return reason_texts[reason]; }

/* Erlang's B by its recursion, then C: the chance that an arrival has to wait. */
static double erlang_c(double load, int servers)
{
	double b = 1;
	for (int n = 1; n <= servers; n++)
		b = load * b / (n + load * b);
	return servers * b / (servers - load * (1 - b));
}

double advice_wait_us(double arrivals, double service_us, double variation2, int servers)
{
	double load = arrivals * service_us / 1e6;
	if (load >= servers)
		return INFINITY;
	if (load <= 0)
		return 0;
	return erlang_c(load, servers) * service_us / (servers - load) * (1 + variation2) / 2;
}

double advice_level_rate(const struct advice_level *l)
{
	if (l->seconds < LEVEL_SECONDS_MIN || l->served < LEVEL_SERVED_MIN || l->served_us <= 0)
		return 0;
	return l->busy / l->seconds * l->served / l->served_us * 1e6;
}

/* The smallest number of busy servers with nearly the highest rate; 0 while the highest level seen is still the best
 * one, so that nobody knows what more would bring. */
static int saturated_at(const struct advice_facts *f)
{
	double best = 0;
	int top = -1;
	for (int i = 0; i < ADVICE_LEVELS; i++) {
		double rate = advice_level_rate(&f->levels[i]);
		best = fmax(best, rate);
		if (rate > 0)
			top = i;
	}
	for (int i = 0; i < top; i++) {
		if (advice_level_rate(&f->levels[i]) >= NEARLY * best)
			return (int)ceil(f->levels[i].busy / f->levels[i].seconds - 0.05);
	}
	return 0;
}

static int smallest_that_keeps(const struct advice_facts *f)
{
	int servers = 1;
	while (servers < SIZE_MAX_ADVISED &&
	       advice_wait_us(f->arrivals, f->service_us, f->variation2, servers) > f->target_us)
		servers++;
	return servers;
}

struct advice advice_give(const struct advice_facts *f)
{
	struct advice a = { 0, ADVICE_UNKNOWN, 0 };
	if (f->seconds < LEVEL_SECONDS_MIN || f->service_us <= 0)
		return a;
	int enough = saturated_at(f), wanted = (int)ceil(f->busy + f->waiting);
	bool waits = f->waiting >= 0.5 && f->wait_us > f->target_us;
	a.size = smallest_that_keeps(f);
	a.reason = ADVICE_WAITING;
	if (enough && (waits || a.size > enough)) {
		a.size = enough;
		a.reason = ADVICE_SATURATED;
	} else if (waits && f->size) {
		/* Arrivals are held back by the pool itself: what they would be is not known, but never more clients.
		 */
		a.size = wanted < 2 * f->size ? wanted : 2 * f->size;
		a.reason = ADVICE_GROWS;
	}
	a.expected_wait_us = advice_wait_us(f->arrivals, f->service_us, f->variation2, a.size);
	return a;
}
