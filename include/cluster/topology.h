/* cluster/topology.h - hosts, their roles and how new each standby is known to be.  Read by workers on every query,
 * written by the monitor's thread only; all of it is atomic words, so that no reader takes a lock.
 *
 * Positions are rounds, never clocks (B6).  A round is one sample of the primary's WAL position:
 *
 *     monitor:  ++round -> send the sample -> target LSN -> standby's replay >= target -> fresh_round = round
 *     worker :  read the primary's answer -> w = cluster_round()     ... later: host_is_fresh(h, w)?
 *
 * The monitor counts before it sends and the worker reads after it has received, so a proof of a round > w covers all
 * that was acknowledged before w was read.  A standby's proof of round r is made only by a replay position that was
 * asked for after round r began, over a connection that is still alive: therefore a data connection which noted
 * login_round = cluster_round() after its login may use any proof > login_round, and no other (B3).
 *
 * Clusters and hosts live for the process's life: bare pointers to them stay valid. */
#ifndef CLUSTER_TOPOLOGY_H
#define CLUSTER_TOPOLOGY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include "base/check.h"
#include "base/rules.h"
#include "cluster/history.h"
#include "io/loop.h"
#include "io/net.h"

#define HOST_ROLES(X)                                                                                                  \
	X(UNKNOWN, "unknown", "not yet seen by the monitor")                                                           \
	X(PRIMARY, "primary", "takes writes")                                                                          \
	X(REPLICA, "replica", "in recovery, same system, reachable")                                                   \
	X(DOWN, "down", "does not answer, refuses the login, or is not one of this cluster")                           \
	X(FENCED, "fenced", "calls itself primary, but another one is newer or equal: gets nothing")

enum host_role {
#define HOST_ROLE_ENUM(id, name, doc) HOST_##id,
	HOST_ROLES(HOST_ROLE_ENUM)
#undef HOST_ROLE_ENUM
	    HOST_ROLE_COUNT
};
const char *host_role_name(enum host_role role);

enum { CLUSTER_MAX_HOSTS = 16 };
#define HOST_LAG_UNKNOWN UINT64_MAX

struct cluster;

struct host {
	char *name; /* owned by the cluster; as configured: a name, an address or a socket directory */
	int port;
	unsigned index;           /* in cluster->hosts */
	struct cluster *cluster;  /* borrowed; never NULL */
	_Atomic(unsigned) weight; /* for balancing; 1 unless set */
	_Atomic(int) role;        /* enum host_role */
	/* The newest round whose position this standby is proved to have replayed; 0 none.  Falls back to 0 when the
	 * monitor's connection breaks or the timeline changes (B3, B7). */
	_Atomic uint64_t fresh_round;
	/* CLOCK_MONOTONIC of the newest round proved, or 0 while that is the newest round there is; see host_lag_us().
	 */
	_Atomic uint64_t behind_since_us;
	_Atomic uint64_t catchup_us; /* recent time from sample to proof; grows while a proof is overdue */
	/* Grows with each login of the monitor; a change tells that the server may have restarted. */
	_Atomic uint32_t incarnation;
	/* Grows when the address changes: data connections made under another epoch may lead to another server and
	 * must not be used on (B3). */
	_Atomic uint32_t address_epoch;
	_Atomic uint32_t timeline; /* 0: unknown */
	/* A4: of the server's shared memory; another one after each crash and restart.  0: not known.  Set at each
	 * login of the monitor. */
	_Atomic uint64_t instance;
	/* B1: what this standby has shown by a round r of at least shown_from, the primary shows too if
	 * shown_round > r.  shown_round 0: not known. */
	_Atomic uint64_t shown_round, shown_from;
	_Atomic bool suspect;     /* set by cluster_report_suspect(), cleared by the monitor */
	struct net_addr *address; /* owned; read it by host_address() */
};

struct cluster {
	unsigned n_hosts;
	struct host *hosts;                /* owned; n_hosts entries, sorted by name and port */
	char *label;                       /* owned; "h1:5432,h2:5432" for the log */
	_Atomic uint64_t round;            /* the newest round begun */
	_Atomic(struct host *) primary;    /* NULL: none, or two of equal timelines (B7) */
	_Atomic bool waits_for_standbys;   /* the primary has synchronous_standby_names (B1) */
	_Atomic uint32_t role_epoch;       /* grows with each change of any host's role */
	_Atomic uint64_t want_round;       /* somebody waits for a proof of a round newer than this ... */
	_Atomic uint64_t want_until_us;    /* ... until then */
	_Atomic uint64_t want_shown_round; /* B1: the same for shown_round of the hosts */
	_Atomic uint64_t want_shown_until_us;
	_Atomic(unsigned) runners_ahead;    /* B1: standbys that show for long already what the primary does not */
	_Atomic uint64_t want_sample_round; /* the same for a sample of the primary alone */
	_Atomic uint64_t want_sample_until_us;
	/* The newest sample.  sample_turn is odd while the monitor writes the others; a reader wants it even and
	 * unchanged. */
	_Atomic uint32_t sample_turn, sample_timeline;
	_Atomic uint64_t sample_round, sample_lsn, sample_system;
	_Atomic uint32_t past_timeline[HISTORY_MAX];
	_Atomic uint64_t past_lsn[HISTORY_MAX];
	_Atomic bool serving;     /* the monitor works on that, and will look at both again before it stops */
	_Atomic bool woken;       /* the monitor has been told and has not looked yet */
	struct loop_msg wake;     /* the monitor's; posted at most once at a time */
	void *monitor;            /* the monitor's own part, owned and used by its thread */
	LIST_ENTRY(cluster) link; /* in the registry */
};

/* --- registry: any thread, takes a mutex; at start-up, reload and login only --- */
struct host_spec {
	const char *name; /* borrowed for the call */
	int port;
};
/* The cluster of this set of hosts, whatever their order; made if it is new.  NULL when the set is empty or has more
 * than CLUSTER_MAX_HOSTS members (duplicates count once). */
struct cluster *cluster_find_or_add(const struct host_spec *specs, unsigned n) MUSTCHECK;
void cluster_each(void (*fn)(struct cluster *c, void *arg), void *arg);        /* with the registry's mutex held */
struct host *cluster_find_host(struct cluster *c, const char *name, int port); /* NULL: not in it */

/* --- roles --- */
static inline enum host_role host_role(const struct host *h)
{
	return (enum host_role)atomic_load_explicit(&h->role, memory_order_acquire);
}
static inline struct host *cluster_primary(const struct cluster *c)
{
	return atomic_load_explicit(&c->primary, memory_order_acquire);
}
static inline uint32_t cluster_role_epoch(const struct cluster *c)
{
	return atomic_load_explicit(&c->role_epoch, memory_order_acquire);
}
unsigned cluster_count_role(const struct cluster *c, enum host_role role);

/* --- positions --- */
/* Call it after the bytes that it shall cover have been received; never before. */
static inline uint64_t cluster_round(const struct cluster *c)
{
	return atomic_load_explicit(&c->round, memory_order_seq_cst);
}
/* The standby has all that was acknowledged before cluster_round() returned need_round. */
static inline bool host_is_fresh(const struct host *h, uint64_t need_round)
{
	uint64_t fresh = atomic_load_explicit(&h->fresh_round, memory_order_seq_cst);
	return RULE_BROKEN(B6) ? fresh >= need_round : fresh > need_round;
}
/* Upper bound of the age of what the standby shows: 0 while it has proved the newest round, HOST_LAG_UNKNOWN while it
 * has proved none. */
static inline uint64_t host_lag_us(const struct host *h, uint64_t now_us)
{
	if (atomic_load_explicit(&h->fresh_round, memory_order_acquire) == 0)
		return HOST_LAG_UNKNOWN;
	uint64_t since = atomic_load_explicit(&h->behind_since_us, memory_order_relaxed);
	return since == 0 ? 0 : since < now_us ? now_us - since : 1;
}
static inline bool host_is_usable_replica(const struct host *h, uint64_t max_lag_us, uint64_t now_us)
{
	return host_role(h) == HOST_REPLICA && host_lag_us(h, now_us) <= max_lag_us;
}
static inline uint64_t host_catchup_us(const struct host *h)
{
	return atomic_load_explicit(&h->catchup_us, memory_order_relaxed);
}
/* Somebody waits, until until_us (CLOCK_MONOTONIC), for a standby that is fresh for need_round.  Cheap while the
 * monitor already knows; otherwise it wakes the monitor, which samples and polls until all standbys are that fresh. */
void cluster_want_round(struct cluster *c, uint64_t need_round, uint64_t until_us);

/* The newest answered sample of the primary's position; round 0: none since it has become the primary. */
struct cluster_sample {
	uint64_t round, lsn, system_identifier;
	uint32_t timeline;
	struct wal_past past[HISTORY_MAX]; /* what it has of older timelines */
};
struct cluster_sample cluster_last_sample(struct cluster *c);
/* Somebody waits for a sample of a round newer than `round`, whether or not there are standbys. */
void cluster_want_sample(struct cluster *c, uint64_t round, uint64_t until_us);

/* B1: somebody whose answers of a standby, up to that round, the primary must show waits for that to be found out. */
void cluster_want_shown(struct cluster *c, uint64_t round, uint64_t until_us);
/* What the standby has answered by the round `read_round` is shown by the primary too. */
static inline bool host_is_shown(const struct host *h, uint64_t read_round)
{
	return atomic_load_explicit(&h->shown_round, memory_order_seq_cst) > read_round &&
	       read_round >= atomic_load_explicit(&h->shown_from, memory_order_seq_cst);
}

/* --- addresses --- */
/* Where the monitor reaches (or last reached) the host; data connections go there and nowhere else.  False: not known
 * yet.  *epoch is what host->address_epoch must still be for the connection to count. Takes a mutex: at connect. */
bool host_address(const struct host *h, struct net_addr *out, uint32_t *epoch) MUSTCHECK;

/* --- reports of workers --- */
/* A connection broke or was refused, in_hot_standby changed, or a supposed primary said 25006: look at it now. */
void cluster_report_suspect(struct cluster *c, struct host *h);

/* --- listeners: one per worker, for all clusters --- */
struct cluster_listener {
	struct loop_msg msg; /* zeroed before use */
	struct loop *loop;   /* borrowed: whose thread on_change runs on */
	/* Roles have changed somewhere, or (only while `waiting`) a standby has become fresher.  Spurious calls happen.
	 */
	void (*on_change)(void *arg);
	void *arg;
	_Atomic bool waiting; /* set by the worker (seq_cst) before it looks at the standbys a last time and waits */
	_Atomic bool posted;  /* at most one message is under way */
	LIST_ENTRY(cluster_listener) link;
};
/* The fields loop, on_change and arg are set by the caller; it must outlive its loop. */
void cluster_listener_add(struct cluster_listener *l);
void cluster_listener_remove(struct cluster_listener *l); /* no post begins after this */
static inline void cluster_listener_set_waiting(struct cluster_listener *l, bool waiting)
{
	atomic_store_explicit(&l->waiting, waiting, memory_order_seq_cst);
}

/* --- for the monitor (and for tests that play its part) --- */
enum cluster_news { NEWS_ROLES, NEWS_ROUND };
void cluster_notify(enum cluster_news news);
void cluster_publish_sample(struct cluster *c, const struct cluster_sample *sample);
uint64_t cluster_begin_round(struct cluster *c); /* B6: call it before the sample is sent */
/* Publishes roles: role[i] for each host, primary may be NULL.  Bumps role_epoch and notifies if anything changed. */
bool cluster_publish_roles(struct cluster *c, const enum host_role role[], struct host *primary);
void host_publish_address(struct host *h, const struct net_addr *addr);
/* Who is told of wanted rounds and suspects: the monitor's loop; fn runs there.  NULL loop: nobody. */
void cluster_set_monitor(struct loop *loop, void (*fn)(struct loop *loop, struct loop_msg *msg));
void cluster_wake_monitor(struct cluster *c);
void cluster_forget_all(void); /* tests only: frees the registry */

#endif
