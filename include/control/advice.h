/* control/advice.h - SHOW ADVICE: how large should a pool be?
 *
 * Once per second the main thread reads each pool's counters (struct pool_use) from all workers and notes what the
 * second was like: how many servers were busy on average, how long they were held, how many clients waited.  Seconds
 * are kept apart by how many servers were busy (levels 1, 2, 4 ...), because that is what a size decides: with n busy
 * servers of mean holding time S(n) a pool serves n / S(n) per second.  Where this grows no more, servers only hinder
 * each other, and a client waits as well in our queue as in theirs.  Below that, waiting follows from arrivals and
 * service times (Erlang C, with Allen and Cunneen's correction for their variation).
 *
 * advice_give() is pure; the rest keeps the seconds. */
#ifndef CONTROL_ADVICE_H
#define CONTROL_ADVICE_H

#include <stdint.h>
#include "base/check.h"

struct loop;

enum { ADVICE_LEVELS = 10 }; /* 1, 2, 4 ... 512 busy servers */

/* What was seen while about 2^i servers were busy; older seconds weigh less. */
struct advice_level {
	double seconds, served, served_us, busy; /* busy: sum over the seconds */
};

struct advice_facts {
	int size;          /* of the pool now; 0: unlimited */
	double arrivals;   /* per second: of the busiest of the last seconds */
	double service_us; /* mean time that a server is held */
	double variation2; /* of that time: variance by the square of its mean */
	double busy;       /* servers at work, averaged over the last seconds */
	double waiting;    /* clients that wait, averaged over the last seconds */
	double wait_us;    /* what they waited, averaged over all arrivals */
	double target_us;  /* what they may wait */
	double seconds;    /* with work, that all of this is made of */
	struct advice_level levels[ADVICE_LEVELS];
};

#define ADVICE_REASONS(X)                                                                                              \
	X(UNKNOWN, "too little has been seen")                                                                         \
	X(WAITING, "the smallest with which waiting stays below the target")                                           \
	X(SATURATED, "more servers do not serve more: the smallest with nearly the highest rate that was seen")        \
	X(GROWS, "clients wait, and the rate has grown with the size so far: try more")
enum advice_reason {
#define ADVICE_REASON_ENUM(id, text) ADVICE_##id,
	ADVICE_REASONS(ADVICE_REASON_ENUM)
#undef ADVICE_REASON_ENUM
};
const char *advice_reason_text(enum advice_reason reason);

struct advice {
	int size; /* 0: none given */
	enum advice_reason reason;
	double expected_wait_us; /* with that size, by the formula */
};
struct advice advice_give(const struct advice_facts *f);
/* Mean wait in an M/G/c queue; infinite when c servers cannot keep up. */
double advice_wait_us(double arrivals, double service_us, double variation2, int servers);
double advice_level_rate(const struct advice_level *l); /* per second; 0: too little was seen */

/* Main thread. */
void advice_start(struct loop *main_loop);
void advice_stop(void);

/* Calls fn for each pool that has been used, under a mutex: only copies. */
struct advice_pool {
	const char *database, *user, *host; /* host "name:port" */
	struct advice_facts facts;
};
void advice_each(void (*fn)(const struct advice_pool *p, void *arg), void *arg);

#endif
