/* control/advice_watch.c - the seconds of each pool, and SHOW ADVICE made from them; see control/advice.h. */
#include "control/advice.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <uthash.h>
#include "base/mem.h"
#include "base/mono.h"
#include "control/ask.h"
#include "control/show_tables.h"
#include "proxy/client.h"
#include "proxy/database.h"
#include "proxy/pool.h"
#include "proxy/worker.h"

enum { LOOK_US = 1000 * 1000, RECENT = 30, POOLS_MAX = 1000, TARGET_US = 1000 };
/* What a level keeps of itself when a second is added: about the last minute of its own. */
#define KEEP 0.98

/* One second with work. */
struct second {
	double arrivals, busy, waiting, wait_us, served, served_us, served_us2;
};

struct watched {
	UT_hash_handle hh;
	struct pool_budget *budget;   /* the key: one for all workers; owned reference */
	char *database, *user, *host; /* owned */
	int size;
	struct pool_use now, before; /* over all workers: being added up, and a second ago */
	unsigned waiting;
	bool seen; /* in this look */
	struct second recent[RECENT];
	unsigned n_recent;
	struct advice_level levels[ADVICE_LEVELS];
};

static struct {
	struct loop *loop; /* borrowed; NULL: not started */
	struct loop_timer timer;
	uint64_t looked_at_us;
	bool under_way;
	pthread_mutex_t mutex; /* guards pools */
	struct watched *pools; /* uthash; owned */
} self = { .mutex = PTHREAD_MUTEX_INITIALIZER };

static struct watched *watched_of(const struct pool *p)
{
	struct watched *x;
	HASH_FIND_PTR(self.pools, &p->budget, x);
	if (x || HASH_COUNT(self.pools) >= POOLS_MAX)
		return x;
	x = mem_zalloc(sizeof *x);
	x->budget = pool_budget_ref(p->budget);
	x->database = mem_strdup(p->du->database);
	x->user = mem_strdup(p->du->user);
	x->host = mem_printf("%s:%d", p->host->name, p->host->port);
	HASH_ADD_PTR(self.pools, budget, x);
	return x;
}

/* With the mutex held. */
static void watched_free(struct watched *x)
{
	HASH_DEL(self.pools, x);
	pool_budget_unref(x->budget);
	mem_free(x->database);
	mem_free(x->user);
	mem_free(x->host);
	mem_free(x);
}

/* A server that is held right now counts with the time that it has been held so far, else a long statement would be
 * one idle second after another and then a very busy one. */
static uint64_t held_now(const struct pool *p, uint64_t now)
{
	const struct server *s;
	uint64_t us = 0;
	TAILQ_FOREACH(s, &p->others, link)
	us += s->client && s->linked_us && s->linked_us < now ? now - s->linked_us : 0;
	return us;
}

static void look_at_worker(struct worker *w, void *arg UNUSED)
{
	const struct pool *p;
	uint64_t now = loop_now_us(w->loop);
	pthread_mutex_lock(&self.mutex);
	LIST_FOREACH(p, &w->pool_list, all)
	{
		struct watched *x = watched_of(p);
		if (!x)
			continue;
		x->size = pool_size(p);
		x->now.served += p->use.served;
		x->now.served_us += p->use.served_us + held_now(p, now);
		x->now.served_us2 += p->use.served_us2;
		x->now.waits += p->use.waits;
		x->now.wait_us += p->use.wait_us;
		x->waiting += p->n_waiters;
		x->seen = true;
	}
	pthread_mutex_unlock(&self.mutex);
}

static void add_to_level(struct watched *x, const struct second *s)
{
	int i = s->busy <= 1 ? 0 : (int)lround(log2(s->busy));
	struct advice_level *l = &x->levels[i < ADVICE_LEVELS ? i : ADVICE_LEVELS - 1];
	l->seconds = l->seconds * KEEP + 1;
	l->served = l->served * KEEP + s->served;
	l->served_us = l->served_us * KEEP + s->served_us;
	l->busy = l->busy * KEEP + fmax(s->busy, 1);
}

static void end_second(struct watched *x, double seconds)
{
	struct second s = { .served = (double)(x->now.served - x->before.served),
		            .served_us = (double)x->now.served_us - (double)x->before.served_us,
		            .served_us2 = x->now.served_us2 - x->before.served_us2,
		            .waiting = x->waiting,
		            .wait_us = (double)(x->now.wait_us - x->before.wait_us) };
	bool first = x->before.served == 0 && x->before.served_us == 0;
	x->before = x->now;
	if (first || s.served <= 0 || s.served_us <= 0)
		return;
	s.arrivals = s.served / seconds;
	s.busy = s.served_us / 1e6 / seconds;
	x->recent[x->n_recent++ % RECENT] = s;
	add_to_level(x, &s);
}

static void on_looked(void *arg UNUSED)
{
	uint64_t now = mono_now_us();
	double seconds = (double)(now - self.looked_at_us) / 1e6;
	struct watched *x, *next;
	pthread_mutex_lock(&self.mutex);
	HASH_ITER(hh, self.pools, x, next)
	{
		if (!x->seen && pool_budget_is_forgotten(x->budget)) {
			watched_free(x);
			continue;
		}
		if (x->seen)
			end_second(x, seconds);
		x->now = (struct pool_use){ 0 };
		x->waiting = 0;
		x->seen = false;
	}
	pthread_mutex_unlock(&self.mutex);
	self.looked_at_us = now;
	self.under_way = false;
}

static void on_timer(struct loop_timer *t UNUSED)
{
	if (!self.under_way)
		self.under_way = ask_workers(self.loop, look_at_worker, on_looked, NULL);
}

void advice_start(struct loop *main_loop)
{
	self.loop = main_loop;
	self.looked_at_us = mono_now_us();
	loop_timer_init(&self.timer, main_loop, on_timer);
	loop_timer_start_periodic(&self.timer, LOOK_US);
}

void advice_stop(void)
{
	if (self.loop)
		loop_timer_stop(&self.timer);
	self.loop = NULL;
}

/* --- what is known --- */

static struct advice_facts facts_of(const struct watched *x)
{
	struct advice_facts f = { .size = x->size };
	struct second sum = { 0 };
	unsigned n = x->n_recent < RECENT ? x->n_recent : RECENT;
	for (unsigned i = 0; i < n; i++) {
		const struct second *s = &x->recent[i];
		f.arrivals = fmax(f.arrivals, s->arrivals);
		sum.busy += s->busy;
		sum.waiting += s->waiting;
		sum.wait_us += s->wait_us;
		sum.served += s->served;
		sum.served_us += s->served_us;
		sum.served_us2 += s->served_us2;
	}
	memcpy(f.levels, x->levels, sizeof f.levels);
	f.seconds = n;
	if (!n || sum.served <= 0)
		return f;
	f.busy = sum.busy / n;
	f.waiting = sum.waiting / n;
	f.wait_us = sum.wait_us / sum.served;
	f.service_us = sum.served_us / sum.served;
	f.variation2 = fmax(0, sum.served_us2 / sum.served / (f.service_us * f.service_us) - 1);
	/* What is long anyway may wait longer. */
	f.target_us = fmax(TARGET_US, f.service_us / 10);
	return f;
}

void advice_each(void (*fn)(const struct advice_pool *p, void *arg), void *arg)
{
	pthread_mutex_lock(&self.mutex);
	for (const struct watched *x = self.pools; x; x = x->hh.next) {
		struct advice_pool p = { x->database, x->user, x->host, facts_of(x) };
		fn(&p, arg);
	}
	pthread_mutex_unlock(&self.mutex);
}

/* --- SHOW ADVICE --- */

static const struct show_column advice_columns[] = {
	{ "database", SHOW_TEXT },     { "user", SHOW_TEXT },        { "host", SHOW_TEXT },
	{ "pool_size", SHOW_INT },     { "advised_size", SHOW_INT }, { "not_needed", SHOW_INT },
	{ "reason", SHOW_TEXT },       { "arrivals", SHOW_BIGINT },  { "service_us", SHOW_BIGINT },
	{ "variation", SHOW_TEXT },    { "busy", SHOW_TEXT },        { "waiting", SHOW_TEXT },
	{ "wait_us", SHOW_BIGINT },    { "target_us", SHOW_BIGINT }, { "expected_wait_us", SHOW_BIGINT },
	{ "rate_by_busy", SHOW_TEXT }, { "seconds", SHOW_INT },
};

/* "1:950 2:1800 4:2100": busy servers and what they served per second. */
static void put_rates(struct show_rows *r, const struct advice_facts *f)
{
	char text[256] = "";
	size_t n = 0;
	for (int i = 0; i < ADVICE_LEVELS && n < sizeof text; i++) {
		double rate = advice_level_rate(&f->levels[i]);
		if (rate > 0)
			n += (size_t)snprintf(text + n, sizeof text - n, "%s%d:%.0f", n ? " " : "", 1 << i, rate);
	}
	show_text(r, text);
}

static void advice_row(const struct advice_pool *p, void *arg)
{
	struct show_rows *r = arg;
	const struct advice_facts *f = &p->facts;
	struct advice a = advice_give(f);
	show_text(r, p->database);
	show_text(r, p->user);
	show_text(r, p->host);
	show_i64(r, f->size);
	if (a.size)
		show_i64(r, a.size);
	else
		show_text(r, NULL);
	show_i64(r, a.size && f->size > a.size ? f->size - a.size : 0);
	show_text(r, advice_reason_text(a.reason));
	show_u64(r, (uint64_t)f->arrivals);
	show_u64(r, (uint64_t)f->service_us);
	show_printf(r, "%.2f", sqrt(f->variation2));
	show_printf(r, "%.1f", f->busy);
	show_printf(r, "%.1f", f->waiting);
	show_u64(r, (uint64_t)f->wait_us);
	show_u64(r, (uint64_t)f->target_us);
	if (a.size && isfinite(a.expected_wait_us))
		show_u64(r, (uint64_t)a.expected_wait_us);
	else
		show_text(r, NULL);
	put_rates(r, f);
	show_u64(r, (uint64_t)f->seconds);
}

static void advice_finish(struct show_query *q) { advice_each(advice_row, &q->rows); }

const struct show_table show_advice = { "ADVICE",
	                                "sizes for pools, from what they have been seen to do",
	                                advice_columns,
	                                ARRAY_LEN(advice_columns),
	                                NULL,
	                                advice_finish,
	                                0 };
