/* control/stats_log.c - see control/stats_log.h.
 *
 * The workers only count upwards.  Once per stats_period all counters are read, and what they have grown by since the
 * reading before is kept per database until the next one. */
#include "control/stats_log.h"

#include <pthread.h>
#include <string.h>
#include <uthash.h>
#include "base/log.h"
#include "base/mem.h"
#include "base/mono.h"
#include "control/ask.h"
#include "control/usage.h"
#include "io/loop.h"

struct series {
	UT_hash_handle hh;
	struct stats_block sum;  /* being added up from the newest reading */
	struct stats_block last; /* the reading before */
	struct stats_block average;
	char database[]; /* "" stands for all */
};

static struct {
	struct loop *loop; /* borrowed; NULL: not started */
	struct loop_timer timer;
	uint64_t period_us, read_at_us;
	bool log, under_way;
	pthread_mutex_t mutex; /* guards series */
	struct series *series; /* uthash; owned */
} self = { .mutex = PTHREAD_MUTEX_INITIALIZER };

static uint64_t per_second(uint64_t n, uint64_t us) { return us ? n * MONO_SEC / us : 0; }
static uint64_t each(uint64_t us, uint64_t n) { return n ? us / n : 0; }

/* Times are per transaction and per query, as PgBouncer's averages are; all else per second. */
struct stats_block stats_rates(const struct stats_block *d, uint64_t us)
{
	struct stats_block r;
#define STATS_RATE(name, help) r.name = per_second(d->name, us);
	STATS_COUNTERS(STATS_RATE)
#undef STATS_RATE
	r.xact_us = each(d->xact_us, d->xacts);
	r.query_us = each(d->query_us, d->queries);
	return r;
}

static struct series *series_of(const char *database)
{
	struct series *s;
	size_t n = strlen(database);
	HASH_FIND(hh, self.series, database, n, s);
	if (!s) {
		s = mem_zalloc(sizeof *s + n + 1);
		memcpy(s->database, database, n + 1);
		HASH_ADD_KEYPTR(hh, self.series, s->database, n, s);
	}
	return s;
}

static void log_line_of(const struct stats_block *a)
{
	log_info(NULL,
	         "stats: %llu xacts/s, %llu queries/s, %llu client parses/s, %llu server parses/s, %llu binds/s, "
	         "in %llu B/s, out %llu B/s, xact %llu us, query %llu us, wait %llu us",
	         (unsigned long long)a->xacts, (unsigned long long)a->queries, (unsigned long long)a->client_parses,
	         (unsigned long long)a->server_parses, (unsigned long long)a->binds,
	         (unsigned long long)a->received_bytes, (unsigned long long)a->sent_bytes,
	         (unsigned long long)a->xact_us, (unsigned long long)a->query_us, (unsigned long long)a->wait_us);
}

/* A database that is gone keeps its series: its counters stand still, and so its averages are 0. */
static void on_read(void *arg)
{
	struct usage_table *t = arg;
	uint64_t now = mono_now_us(), us = now - self.read_at_us;
	struct series *s, *next;
	pthread_mutex_lock(&self.mutex);
	for (struct usage *u = t->entries; u; u = u->hh.next)
		stats_block_add(&series_of(u->database)->sum, &u->stats);
	series_of("")->sum = t->total;
	HASH_ITER(hh, self.series, s, next)
	{
		struct stats_block difference = stats_block_since(&s->sum, &s->last);
		s->average = stats_rates(&difference, us);
		s->last = s->sum;
		s->sum = (struct stats_block){ 0 };
	}
	struct stats_block all = series_of("")->average;
	pthread_mutex_unlock(&self.mutex);
	self.read_at_us = now;
	self.under_way = false;
	if (self.log)
		log_line_of(&all);
	usage_free(t);
}

static void read_worker(struct worker *w, void *arg) { usage_add_worker(arg, w); }

/* A round that is late is not doubled: the next one covers both periods. */
static void on_timer(struct loop_timer *timer UNUSED)
{
	struct usage_table *t;
	if (self.under_way)
		return;
	t = usage_new();
	self.under_way = ask_workers(self.loop, read_worker, on_read, t);
	if (!self.under_way)
		usage_free(t);
}

void stats_log_configure(const struct config *cfg)
{
	self.log = cfg->log_stats;
	if (cfg->stats_period_us == self.period_us)
		return;
	self.period_us = cfg->stats_period_us;
	loop_timer_stop(&self.timer);
	if (self.period_us)
		loop_timer_start_periodic(&self.timer, self.period_us);
}

void stats_log_start(struct loop *main_loop, const struct config *cfg)
{
	self.loop = main_loop;
	self.read_at_us = mono_now_us();
	loop_timer_init(&self.timer, main_loop, on_timer);
	stats_log_configure(cfg);
}

void stats_log_stop(void)
{
	if (!self.loop)
		return;
	loop_timer_stop(&self.timer);
	self.loop = NULL;
}

struct stats_block stats_average(const char *database)
{
	struct stats_block average = { 0 };
	struct series *s;
	const char *key = database ? database : "";
	pthread_mutex_lock(&self.mutex);
	HASH_FIND(hh, self.series, key, strlen(key), s);
	if (s)
		average = s->average;
	pthread_mutex_unlock(&self.mutex);
	return average;
}
