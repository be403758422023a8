/* proxy/pool.h - the server connections of one (database, user, host) on one worker, and the clients that wait for one.
 *
 * The size is a budget of the whole process: struct pool_budget counts over all workers.  A worker whose client waits
 * while another worker has an idle connection of the same pool gets that connection (pool_budget.waiting_since says
 * who has waited longest; a release looks at it before it serves its own queue).
 *
 * Waiting clients are served first come, first served, but for those whose settings a free server has already: they may
 * overtake others, of whom none is overtaken by more than a few. */
#ifndef PROXY_POOL_H
#define PROXY_POOL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uthash.h>
#include "proxy/server.h"
#include "wire/pgerr.h"

struct client;
struct dbuser;
struct pool_app;
struct host;
struct worker;

enum { WORKERS_MAX = 64 };

/* Shared by the workers' pools of one (database, user, host), with counted references: pools, servers under way between
 * workers, SHOW ADVICE. */
struct pool_budget {
	UT_hash_handle hh; /* of all; guarded by their mutex, as refs is */
	int refs;
	_Atomic int connections; /* open or opening, pinned ones apart */
	_Atomic int pinned;
	_Atomic uint64_t waiting_since[WORKERS_MAX]; /* us; 0: nobody waits on that worker */
	_Atomic uint32_t idle[WORKERS_MAX];
	size_t key_len;
	char key[];
};

struct pool_budget *pool_budget_ref(struct pool_budget *b) MUSTCHECK;
void pool_budget_unref(struct pool_budget *b);
/* Nobody but the caller has a reference any more. */
bool pool_budget_is_forgotten(const struct pool_budget *b);
size_t pool_budgets_count(void);

TAILQ_HEAD(server_queue, server);
TAILQ_HEAD(client_queue, client);

/* What SHOW ADVICE needs to know of a pool on this worker; only grows. */
struct pool_use {
	uint64_t served, served_us; /* times that a server was given back, and how long each had been away, in all */
	double served_us2;          /* the sum of their squares */
	uint64_t waits, wait_us;    /* clients that had to queue, and for how long */
};

struct pool {
	UT_hash_handle hh;    /* in worker.pools */
	LIST_ENTRY(pool) all; /* worker.pool_list, in order of making */
	struct worker *worker;
	struct dbuser *du;
	struct host *host;
	struct pool_budget *budget;  /* owned reference */
	struct server_queue idle;    /* most recently used first */
	struct server_queue others;  /* every other state */
	struct client_queue waiters; /* oldest first */
	unsigned n_idle, n_others, n_connecting, n_waiters;
	uint32_t n_left;            /* clients that have left the queue, served or not; wraps around */
	unsigned n_checking;        /* of n_others: server_check_query runs, for somebody who waits */
	LIST_HEAD(, pool_app) apps; /* owned; applications with a pool_size that have been here */
	uint32_t conn_epoch;        /* servers of an older one are closed when free (RECONNECT) */
	bool tls_needed;            /* server_tls_sslmode=allow: the server has refused a plain connection */
	uint64_t retry_at_us;       /* after a failed login: not before (server_login_retry) */
	uint32_t failed_epoch;      /* the cluster's role epoch at that failure; a role change lifts the pause */
	uint64_t failed_identity;   /* dbuser.identity then: so does a reload that changes how to log in */
	struct pgerr last_error;    /* of that failure */
	bool failing;
	uint64_t full_until_us; /* its own size is used up: to ask for one more before then is in vain */
	struct pool_use use;
	size_t key_len;
	char key[];
};

struct pool *pool_get(struct dbuser *du, struct host *host);
int pool_size(const struct pool *p);
static inline void pool_note_use(struct pool *p, uint64_t us)
{
	p->use.served++;
	p->use.served_us += us;
	p->use.served_us2 += (double)us * (double)us;
}

/* Idle servers go now; busy ones are of an older epoch from here on, and go when they are released. */
void pool_retire(struct pool *p, const char *why);
/* An idle server that suits the client, or NULL; then the client should queue with pool_wait(). */
struct server *pool_take(struct pool *p, struct client *c);
void pool_wait(struct pool *p, struct client *c);
void pool_unwait(struct pool *p, struct client *c);
/* A server has become free: hands it to whoever has waited longest, or keeps it.
 */
void pool_put(struct pool *p, struct server *s);
/* The end of a pause: whoever waits gets the servers that are free, then new ones. */
void pool_resume(struct pool *p);
/* Opens connections while clients wait and the budget allows it. */
void pool_grow(struct pool *p);
/* A place in the budget for server_open_dedicated(), instead of an idle connection if need be; false: ask again. */
bool pool_take_dedicated(struct pool *p) MUSTCHECK;
/* A pinned server leaves the budget for its pool and counts against max_pinned; false: the limit is reached. */
bool pool_pin(struct server *s) MUSTCHECK;
/* The same for what can be done without: leaves half of max_pinned to those who cannot. */
bool pool_pin_if_roomy(struct server *s) MUSTCHECK;
/* Back into the budget; false: there is no room in it. */
bool pool_unpin(struct server *s) MUSTCHECK;
void pool_on_server_ready(struct server *s);
void pool_on_server_failed(struct server *s, const struct pgerr *err);
void pool_on_server_gone(struct server *s);
void pool_uncount(struct server *s);    /* takes it out of what is counted over all workers */
void pool_check_done(struct server *s); /* server_check_query has been answered */
/* Roles have changed: nobody stays with a host that is fenced, or that is down while there is a primary. */
void pool_follow_role(struct pool *p);
void pool_tick(struct pool *p, uint64_t now_us);
bool pool_is_used(const struct pool *p);    /* has a server connection, or somebody who waits for one */
void pools_forget(const struct dbuser *du); /* none of its pools is in use */
void pools_free(struct worker *w);
/* Outstanding work, for balancing. */
static inline unsigned pool_outstanding(const struct pool *p) { return p->n_others + p->n_waiters; }

#endif
