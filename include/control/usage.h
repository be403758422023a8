/* control/usage.h - what all workers' clients, pools and counters add up to, per database and owner of the pools (the
 * forced user where there is one, else the client's).
 *
 * The raw material of SHOW POOLS, STATS, DATABASES, USERS, LISTS, of the averages and of /metrics.  Filled worker by
 * worker, each on its own thread, one after the other (control/ask.h); then read by the asker. */
#ifndef CONTROL_USAGE_H
#define CONTROL_USAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>
#include "base/check.h"
#include "conf/config.h"
#include "proxy/server.h"
#include "proxy/measure.h"
#include "proxy/stats.h"
#include "sql/facts.h"

struct worker;

struct usage {
	UT_hash_handle hh;
	const char *database, *user; /* in key */
	enum pool_mode pool_mode;
	int pool_size;
	bool paused;
	bool on_databases_account; /* the servers' login is the database's, not the client's */
	unsigned clients, waiting; /* logged in; of these, those that wait */
	unsigned servers[SERVER_STATE_COUNT];
	unsigned n_servers, pinned;
	uint64_t max_wait_us; /* of who waits now */
	struct stats_block stats;
	struct measures measures;
	size_t key_len;
	char key[]; /* database NUL user NUL */
};

/* By the name that clients log in with. */
struct usage_user {
	UT_hash_handle hh;
	unsigned clients;
	char name[];
};

struct usage_table {
	struct usage_user *users; /* uthash; owned */
	struct usage *entries;    /* uthash; owned */
	const void *last_of;      /* the dbuser that was looked up last, and its entry: neighbours are mostly of one */
	struct usage *last;
	struct stats_block total;
	unsigned dormant_clients; /* of clients, those asleep (proxy/dormant.h); and their memory */
	uint64_t dormant_bytes;
	unsigned clients, console_clients, login_clients, server_pools, servers, idle_servers;
	unsigned pinned[SQL_PIN_COUNT];        /* clients that have this reason now */
	uint64_t pinned_for_us[SQL_PIN_COUNT]; /* the longest of them */
	uint64_t cancels;
	uint64_t shape_hits, shape_misses, shape_evictions;
	size_t shapes, shape_bytes;
};

struct usage_table *usage_new(void) MUSTCHECK;
void usage_add_worker(struct usage_table *t, struct worker *w); /* on the worker's thread */
void usage_sort(struct usage_table *t);                         /* by database, then user */
/* At most so many entries of databases' users: the last ones are added up as "(other)".  After usage_sort(). */
void usage_bound(struct usage_table *t, unsigned max);
void usage_free(struct usage_table *t); /* NULL is fine */

void stats_block_add(struct stats_block *to, const struct stats_block *from);
/* to - from, field by field; both only grow. */
struct stats_block stats_block_since(const struct stats_block *to, const struct stats_block *from);

#endif
