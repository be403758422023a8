/* proxy/worker.h - one worker: a thread with its own loop, clients, pools, route cache and statement texts.
 *
 * Everything in here belongs to the worker's thread, but for `n_clients` (the listener picks the least loaded worker)
 * and the counters of stats (added up by the console).  Threads reach a worker by loop_post() only. */
#ifndef PROXY_WORKER_H
#define PROXY_WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include "base/buf.h"
#include "cluster/topology.h"
#include "conf/config.h"
#include "io/loop.h"
#include "io/net.h"
#include "proxy/dormant.h"
#include "proxy/measure.h"
#include "proxy/params.h"
#include "proxy/pool.h"
#include "proxy/pstmt.h"
#include "proxy/segment.h"
#include "proxy/stats.h"

struct client;
struct dbuser;
struct hba;
struct ident;
struct listens_room;
struct peers;
struct shapes;
struct sql_shape;
struct tls_ctx;
struct userdb;

enum {
	WORKER_SCRATCH_BYTES = 64 * 1024, /* one read from a server */
	WORKER_SCRATCH_HEAD = 64,         /* room before it, for what is said in front of an answer */
	CLIENT_BLOCK_BYTES = 4096,        /* a client's input while it has any */
	SEGMENT_BYTES_MAX = 64 * 1024,    /* A8: what is kept for a repetition, and the bound for parsing */
	HOLD_BYTES_MAX = 16 * 1024,       /* G1: of a standby's answer before it is shown */
};

/* Runtime material that is made from the configuration; immutable, shared by all threads. */
struct runtime {
	_Atomic unsigned refs;
	const struct config *config; /* owned reference */
	struct userdb *users;        /* owned reference */
	struct hba *hba;             /* owned reference or NULL: auth_type is not hba */
	struct peers *peers;         /* owned */
	struct ident *idents;        /* owned reference or NULL: no auth_ident_file */
	struct tls_ctx *client_tls;  /* owned reference or NULL: TLS to clients is off */
	struct tls_ctx *server_tls;  /* owned reference or NULL */
};
struct runtime *runtime_new(const struct config *config, char *err, size_t err_size) MUSTCHECK; /* consumes config */
/* The same with the TLS contexts of another one, whatever the configuration says of keys and certificates: only where
 * nothing else of TLS has changed since. */
struct runtime *runtime_new_with_tls_of(const struct config *config, const struct runtime *other, char *err,
                                        size_t err_size) MUSTCHECK;
struct runtime *runtime_ref(struct runtime *r);
void runtime_unref(struct runtime *r);

struct worker {
	unsigned index;
	pthread_t thread;
	struct loop *loop;       /* owned */
	struct runtime *runtime; /* owned reference; replaced on reload */
	struct shapes *shapes;   /* owned */
	struct stmt_texts texts;
	struct params_table params;
	struct dbuser *dbusers; /* uthash */
	struct pool *pools;     /* uthash */
	LIST_HEAD(, pool) pool_list;
	LIST_HEAD(, cancel_conn) cancels; /* cancel requests on their way to servers */
	struct client_queue clients;      /* every client of this worker that is awake */
	struct dormant_set dormant;       /* the others */
	struct client_queue fresh_wait;   /* reads that wait for a standby to catch up; oldest first */
	struct client_queue role_wait;    /* work that waits for a primary, or for quiet (clearing.h) */
	struct cluster_listener listener;
	struct loop_timer tick; /* coarse: time-outs, ageing */
	unsigned ticks;
	uint64_t fresh_timer_at_us;
	struct loop_timer fresh_timer;        /* runs only while fresh_wait has somebody */
	uint8_t *scratch;                     /* owned; WORKER_SCRATCH_BYTES, behind WORKER_SCRATCH_HEAD */
	struct buf out;                       /* one segment for a server, being put together */
	struct buf reply;                     /* small replies of ours, being put together */
	struct segment_scratch scan;          /* the segment being looked at */
	struct client *segment_of;            /* whose segment that is; NULL: nobody's */
	struct segment_waiting *free_waiting; /* stack of recycled ones */
	unsigned n_free_waiting;
	void *free_blocks; /* stack of CLIENT_BLOCK_BYTES blocks */
	unsigned n_free_blocks;
	_Atomic int n_clients;
	struct worker_stats stats;
	struct application *applications;  /* uthash; owned; proxy/measure.h */
	struct listens_room *listen_rooms; /* owned list; proxy/listens.h */
	struct slow_log slow_log;
	struct shape_use other_use; /* of segments that are not one known statement */
	uint64_t rng;
	bool draining; /* SHUTDOWN WAIT_FOR_*: clients are sent away when idle */
};

bool workers_start(struct runtime *runtime, unsigned n);
void workers_stop(void);
unsigned workers_count(void);
struct worker *workers_get(unsigned index);
/* Main thread: a connection was accepted. */
void workers_accept(int fd, const struct net_addr *peer, bool is_unix);
void workers_reconfigure(struct runtime *runtime);
/* A shape is known by `own` not to be for standbys: tells the other workers. */
void workers_tell_refused(struct worker *own, const struct sql_shape *shape);
int workers_clients(void); /* over all workers */
/* From now on who comes by a unix socket is let in to the console only; any thread. */
void workers_serve_console_only(void);
bool workers_are_console_only(void);
uint64_t workers_memory(void); /* resident bytes of the process, as of the last second; while max_memory is set */

/* Runs fn(w, arg) on every worker's thread in turn, then done(arg) on the loop of the caller. */
void workers_collect(struct loop *caller, void (*fn)(struct worker *w, void *arg), void (*done)(void *arg), void *arg);

/* Memory of CLIENT_BLOCK_BYTES from the worker's stack of free blocks. */
bool worker_block_get(struct worker *w, struct buf *b) MUSTCHECK;
void worker_block_put(struct worker *w, struct buf *b);
uint64_t worker_random(struct worker *w);

#endif
