/* proxy/dormant.h - clients that have had nothing to do for a while, made small.
 *
 * Most of struct client (1.1 KB) is about a request under way, or the same as another client's.  A client that has been
 * idle for DORMANT_AFTER_US, outside of a transaction, with no server and no pin, is therefore replaced by a struct
 * dormant: its stream, and those bytes in which its memory differs from a template's.  Nothing is known about single
 * fields: what comes back is what went in, byte by byte, wherever it then lies.  Its socket's next event wakes it up
 * (no system call is made for falling asleep or waking); so does whoever must do something to it:
 *
 *     worker->clients  <--- dormant_wake_all(): KILL, reload, shutdown ----  worker->dormant.queue
 *                       ---- dormant_try(), from the clients' tick ------->
 *
 * Whoever only wants to look (SHOW) walks over both by client_walk_*(), and gets copies of the sleeping ones.
 *
 * Who points to a client while it is idle: worker->clients, and the registry of cancel keys (cancel_client_moved()).
 * Whatever else comes to hold such a pointer must keep the client from falling asleep (dormant.c:may_sleep()).
 *
 * Owner: its worker's thread. */
#ifndef PROXY_DORMANT_H
#define PROXY_DORMANT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include "base/slab.h"

struct client;
struct client_slot;
struct dormant;
struct dormant_template;
struct dbuser;
struct loop_grave;
struct net_addr;
struct worker;

struct dormant_set {
	TAILQ_HEAD(, dormant) queue;
	struct dormant_template *base; /* owned reference or NULL */
	unsigned since_base;           /* that fell asleep since it was made */
	unsigned n, n_limited;         /* in the queue; of these, with a client_idle_timeout */
	uint64_t bytes;                /* that they take */
	struct slab slots;             /* of those that are awake */
};
void dormant_set_init(struct dormant_set *d);
void dormant_set_deinit(struct dormant_set *d); /* all clients are gone */

/* Memory of a client: zeroed, but for the worker and *peer, which lives as long. */
struct client *client_memory_new(struct worker *w, const struct net_addr *peer) MUSTCHECK;
/* For client.grave. Overwrites it. */
void client_memory_free(struct loop_grave *grave);

/* True: the client has become small, and the pointer is void from the end of this turn on.  From the loop only, when
 * nobody further up the stack uses it. */
bool dormant_try(struct client *c, uint64_t now_us);
/* Time-outs of those that sleep. */
void dormant_tick(struct worker *w, uint64_t now_us);
/* All are on worker->clients after this. */
void dormant_wake_all(struct worker *w);
/* How many of those asleep belong to it. */
void dormant_count(const struct worker *w, void (*fn)(const struct dbuser *du, void *arg), void *arg);

/* Every client of a worker, to look at; to the end, and nothing may change meanwhile. A sleeping one's copy holds until
 * the next step. */
struct client_walk {
	const struct worker *w;
	const struct client *at; /* awake; NULL: through with these */
	const struct dormant *asleep;
	struct client_slot *copy; /* owned */
};
const struct client *client_walk_first(struct client_walk *walk, const struct worker *w);
const struct client *client_walk_next(struct client_walk *walk); /* NULL: that was all */

#endif
