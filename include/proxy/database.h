/* proxy/database.h - what a client's database name means: cluster, facts, position, credentials, limits.
 *
 * struct shared_db lives once per process and (cluster, server database name); it holds what all workers must agree
 * on.  struct dbuser is a worker's own view of one (client database, user): configuration resolved once at login, so
 * that nothing is looked up by name on the path of a query.
 *
 * Where an entry of [databases] forces a user, all its clients share the pools of that user's dbuser, their owner.
 *
 * A dbuser is kept while clients, pools or other dbusers refer to it and is re-resolved when the configuration
 * changes. */
#ifndef PROXY_DATABASE_H
#define PROXY_DATABASE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uthash.h>
#include "base/str.h"
#include "cluster/topology.h"
#include "conf/config.h"
#include "proxy/measure.h"
#include "proxy/stats.h"
#include "wire/pgerr.h"

struct worker;
struct limit;
struct dbfacts;
struct catalog;
struct params;
struct pool;

/* One database of one cluster, as long as a dbuser refers to it: who logs in later has a position of its own (B2). */
struct shared_db {
	struct cluster *cluster; /* borrowed, never freed */
	char *dbname;            /* owned; the name on the servers */
	/* B2: the newest round at which anybody saw an answer of the primary, and, per standby, of that standby. */
	_Atomic uint64_t primary_round;
	_Atomic uint64_t read_round[CLUSTER_MAX_HOSTS];
	LIST_ENTRY(shared_db) link;
	int refs;                        /* guarded by the registry's mutex */
	struct shared_welcome *welcomes; /* owned ring of WELCOMES_MAX; guarded by the registry's mutex */
	unsigned next_welcome;
};

/* Finds or adds, with a reference for the caller; takes a mutex, so only at login. */
struct shared_db *shared_db_get(struct cluster *cluster, const char *dbname) MUSTCHECK;
void shared_db_unref(struct shared_db *db); /* NULL is fine */
size_t shared_dbs_count(void);

/* Stores `round` where it is newer; one relaxed load when it is not. */
static inline void round_advance(_Atomic uint64_t *at, uint64_t round)
{
	uint64_t old = atomic_load_explicit(at, memory_order_relaxed);
	while (old < round &&
	       !atomic_compare_exchange_weak_explicit(at, &old, round, memory_order_release, memory_order_relaxed))
		;
}

/* ParameterStatus values as a real backend gave them for one set of start-up settings. */
enum { WELCOMES_MAX = 32 };
struct welcome {
	struct params *profile; /* owned reference: the key */
	struct params *status;  /* owned reference */
	uint32_t facts_no;      /* E7: of the backend */
};

/* The same for the other workers, in a form that does not depend on a worker's table. */
struct shared_welcome {
	char *user;             /* owned; NULL: free */
	uint64_t identity;      /* dbuser.identity then */
	char *profile, *status; /* owned: params.key of each */
	size_t profile_len, status_len;
	uint32_t facts_no; /* E7: of the backend */
};

struct dbuser {
	UT_hash_handle hh; /* in worker.dbusers */
	struct worker *worker;
	const struct conf_database *conf;  /* borrowed from config */
	const struct config *config;       /* owned reference */
	const struct conf_user *conf_user; /* of the client's user; borrowed from config; may be NULL */
	const struct conf_user *pool_user; /* of server_user, whose pool it is: a forced user has its own limits */
	struct dbuser
	    *owner;        /* whose pools its clients use: the forced user's, else itself; same worker, outlives it */
	unsigned n_guests; /* other dbusers whose owner it is */
	unsigned n_pool_clients;                                             /* logged in, of its own and its guests' */
	struct shared_db *db;                                                /* owned reference */
	struct dbfacts *facts;                                               /* of db; borrowed, never freed */
	char *database;                                                      /* owned; as the client says it */
	char *user;                                                          /* owned; as the client says it */
	char *server_user;                                                   /* owned; the login on the servers */
	struct limit *user_servers, *db_servers, *user_clients, *db_clients; /* owned references */
	enum pool_mode pool_mode;
	uint64_t identity;      /* of what a server connection is opened with; another one since: it is outdated */
	char primary_isolation; /* of an owner: default_transaction_isolation of the primary: u c r s; 0 unknown (C2) */
	bool gone;              /* no longer configured: kept for the clients that it has, lets nobody in */
	unsigned n_clients;     /* logged in */
	uint64_t last_used_us;  /* when dbusers_age() last found a client or a server connection */
	bool reads_sequences;   /* of an owner: somebody has called currval() or lastval() (E3) */
	bool odd_path;          /* of an owner: the search_path of its logins lets names hide PostgreSQL's own (E5) */
	bool paused;            /* PAUSE, KILL or SUSPEND: hands out no server; follows proxy/orders.h */
	struct catalog *catalog; /* owned reference, current as of catalog_version */
	uint64_t catalog_version;
	struct welcome welcomes[WELCOMES_MAX];
	unsigned n_welcomes, next_welcome;
	struct pool *pools[CLUSTER_MAX_HOSTS]; /* the owner's, by host index; borrowed from worker.pools */
	struct stats_block stats;
	struct measures measures;
	size_t key_len;
	char key[]; /* database NUL user NUL */
};

/* Finds or makes the worker's entry; NULL with *err set when there is no such database. */
struct dbuser *dbuser_get(struct worker *w, struct str database, struct str user, struct pgerr *err) MUSTCHECK;
/* The database's facts: refreshed when a newer version was published.  NULL: none yet. `*proved` says whether they
 * were read after the last DDL that this process has seen. */
const struct catalog *dbuser_catalog(struct dbuser *du, bool *proved);
/* Sets du->paused to what stands in proxy/orders.h. */
void dbuser_follow_orders(struct dbuser *du);
/* Borrowed or NULL; facts_no: the client's (E7). */
struct params *dbuser_welcome_find(struct dbuser *du, struct params *profile, uint32_t facts_no);
void dbuser_welcome_add(struct dbuser *du, struct params *profile, struct params *status, uint32_t facts_no);
void dbuser_client_came(struct dbuser *du);
void dbuser_client_left(struct dbuser *du);
void dbusers_reconfigure(struct worker *w);
/* Makes the pools that min_pool_size keeps open before the first client comes: those of forced users. */
void dbusers_fill(struct worker *w);
/* Frees what has had neither clients nor server connections for autodb_idle_timeout or pool_idle_timeout. */
void dbusers_age(struct worker *w, uint64_t now_us);
void dbusers_free(struct worker *w);

#endif
