/* src/cluster/monitor_priv.h - what monitor.c (thread, options, clusters), monitor_host.c (one host's connection) and
 * monitor_round.c (roles, rounds, when to ask whom) share.  All of it belongs to the monitor's thread, but for what is
 * marked with status_mutex. */
#ifndef CLUSTER_MONITOR_PRIV_H
#define CLUSTER_MONITOR_PRIV_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include "base/mono.h"
#include "cluster/dbconn.h"
#include "cluster/early.h"
#include "cluster/freshness.h"
#include "cluster/monitor.h"
#include "cluster/resolve.h"
#include "cluster/roles.h"
#include "cluster/topology.h"

struct dbfacts;
struct monitor;
struct mon_cluster;

#define MON_HOST_STATES(X)                                                                                             \
	X(WAITING, "no connection; the next attempt is at retry_us")                                                   \
	X(RESOLVING, "asked for the addresses of the name")                                                            \
	X(CONNECTING, "libpq is at work")                                                                              \
	X(GREETING, "connected; hello, then the first probe")                                                          \
	X(READY, "takes commands")
enum mon_host_state {
#define MON_HOST_STATE_ENUM(id, doc) MON_##id,
	MON_HOST_STATES(MON_HOST_STATE_ENUM)
#undef MON_HOST_STATE_ENUM
};

enum mon_command {
	CMD_NONE,
	CMD_HELLO,
	CMD_PROBE,
	CMD_SAMPLE,
	CMD_POLL,
	CMD_NUDGE,
	CMD_SNAPSHOT,
	CMD_HIDDEN,
	CMD_COUNT
};

/* What the server said last. */
struct mon_facts {
	uint64_t system_identifier;
	struct wal_sizes sizes;
	int version;
	bool in_recovery;
	uint32_t timeline;
	uint64_t lsn; /* insert or replay position; 0 NULL */
	uint64_t replay_age_us;
};

/* A4: what it was while in recovery; stays after a promotion. */
struct mon_recovered {
	const struct host *followed; /* borrowed, for ever: the primary then; NULL: not seen in recovery */
	uint32_t timeline;
	uint64_t xmax; /* pg_snapshot_xmax(): of the ids below it has heard */
};

struct mon_host {
	struct mon_cluster *mc;  /* borrowed */
	struct host *host;       /* borrowed, for ever */
	struct standby *standby; /* in mc->standbys */
	enum mon_host_state state;
	enum host_answer answer; /* what roles are decided by; outlives a lost connection until grace_until_us */
	uint64_t grace_until_us;
	struct dbconn conn;
	struct resolve_request *resolving; /* owned or NULL */
	bool in_look_up;                   /* resolve_start() is on the stack */
	struct resolve_answer addresses;
	unsigned address; /* index of the one in use or tried */
	uint64_t resolved_us;
	enum mon_command command; /* under way */
	uint64_t sent_us, sent_round;
	uint64_t probe_us;  /* when the next probe is due */
	uint64_t poll_us;   /* when the next poll is due; 0: none is */
	unsigned poll_step; /* into the back-off tables */
	uint64_t retry_us, tried_us;
	unsigned failures; /* attempts in a row */
	bool nudge_refused;
	bool other_dbname; /* monitor_dbname does not exist there: the database's own is tried */
	struct mon_facts facts;
	struct mon_recovered recovered;
	struct wal_followed followed; /* as a standby */
	/* B1, of a standby: commits that it shows and the primary did not in the snapshot of early_round, seen at
	 * early_since_us. */
	struct early_ids early;
	uint64_t early_round, early_since_us;
	uint64_t early_asked_round; /* of the snapshot that it is being asked about; 0: a primary's that has gone */
	bool runs_ahead;            /* it has been showing for long what the primary does not */
	bool early_due;             /* it is to be asked about the newest snapshot */
	uint64_t since_us;
	char logged[256];       /* the error that was logged last */
	struct monitor_row row; /* guarded by status_mutex */
};

struct mon_cluster {
	struct monitor *m; /* borrowed */
	struct cluster *c; /* borrowed, for ever */
	struct dbconn_identity fallback;
	struct mon_host hosts[CLUSTER_MAX_HOSTS];
	struct standby standbys[CLUSTER_MAX_HOSTS]; /* by host index */
	struct role_memory memory;
	enum role_verdict verdict;
	struct mon_host *primary;      /* NULL or in hosts */
	struct mon_host *last_primary; /* NULL until there was one */
	struct wal_history history;    /* the primary's */
	struct wal_rounds rounds;
	struct round_pace pace;
	uint64_t nudged_us, nudged_round;
	struct early_snapshot snapshot; /* B1: the primary's, taken in snapshot_round */
	uint64_t snapshot_round, snapshot_us;
	uint64_t watch_us;      /* when the next is due although nobody waits */
	unsigned snapshot_step; /* into the back-off table */
	uint64_t due_us;        /* when something must be done next */
	bool stepping;          /* mon_cluster_step() is on the stack */
	LIST_ENTRY(mon_cluster) link;
};

struct monitor {
	struct loop *loop; /* owned */
	pthread_t thread;
	struct resolver *resolver; /* owned */
	int timer_fd;
	struct event timer_event;
	uint64_t armed_us;
	uint64_t interval_us, connect_timeout_us, dns_ttl_us, facts_refresh_us;
	struct dbconn_identity identity;
	LIST_HEAD(, mon_cluster) clusters; /* the list's growth is guarded by status_mutex */
	pthread_mutex_t status_mutex;
};

/* --- monitor.c --- */
void mon_arm(struct monitor *m); /* sets the timer to the earliest due_us */
static inline uint64_t mon_deadline_us(const struct monitor *m)
{
	return m->interval_us * 5 > MONO_SEC ? m->interval_us * 5 : MONO_SEC;
}

/* --- dbfacts.c --- */
void dbfacts_loader_start(struct monitor *m); /* on the monitor's loop, before it runs */
void dbfacts_loader_stop(void);               /* after it has stopped */
void dbfacts_distrust(struct cluster *c);     /* another primary: what was read from the old one may not hold */

/* Opens a connection to the database on that host, which logs in as the loader does.  False: conn->error tells. */
bool dbfacts_connect(struct dbfacts *f, struct monitor *m, const struct host *h, struct dbconn *conn,
                     const char *options, uint64_t deadline_us) MUSTCHECK;

/* --- auth_query.c --- */
void auth_query_start(struct monitor *m); /* as for the facts */
void auth_query_stop(void);

/* --- outcome.c --- */
void outcome_start(struct monitor *m); /* as for the facts */
void outcome_stop(void);

/* --- listening.c --- */
void listening_start(struct monitor *m); /* as for the facts */
void listening_stop(void);

/* Tells one life of a server's shared memory from another: all processes are started anew after a crash.  NULL for a
 * role without pg_read_all_stats. */
#define MONITOR_INSTANCE_SQL                                                                                           \
	"(SELECT hashtextextended(concat_ws('/', extract(epoch FROM pg_postmaster_start_time()), a.pid,"               \
	" extract(epoch FROM a.backend_start)), 0) FROM pg_stat_get_activity(NULL) AS a"                               \
	" WHERE a.backend_type = 'checkpointer' AND a.backend_start IS NOT NULL)"

/* --- monitor_host.c --- */
struct monitor_login mon_host_login(struct mon_host *h); /* borrows */
void mon_host_init(struct mon_host *h, struct mon_cluster *mc, unsigned index);
void mon_host_turn(struct mon_host *h, uint64_t now_us); /* deadlines, attempts, probes; may lose the connection */
void mon_host_reconnect(struct mon_host *h, const char *why);
void mon_host_close(struct mon_host *h);
void mon_host_suspect(struct mon_host *h, uint64_t now_us);
void mon_host_send(struct mon_host *h, enum mon_command command, uint64_t now_us);
void mon_host_publish_row(struct mon_host *h);
uint64_t mon_host_due(const struct mon_host *h);
static inline bool mon_host_can_send(const struct mon_host *h)
{
	return h->state == MON_READY && h->command == CMD_NONE;
}

/* --- monitor_round.c --- */
void mon_cluster_step(struct mon_cluster *mc, uint64_t now_us);   /* does all that is due and sets due_us */
void mon_cluster_decide(struct mon_cluster *mc, uint64_t now_us); /* roles, after a host's answer has changed */
void mon_on_sample(struct mon_host *h, uint64_t insert, uint64_t flush, uint64_t now_us);
void mon_on_replay(struct mon_host *h, bool has_replay, uint64_t replay, uint32_t timeline, uint64_t now_us);
void mon_on_standby_lost(struct mon_host *h);

/* --- monitor_early.c (B1) --- */
void mon_early_step(struct mon_cluster *mc, uint64_t now_us);
void mon_early_forget(struct mon_host *h);         /* its connection is new or gone */
void mon_early_forget_all(struct mon_cluster *mc); /* another primary */
void mon_on_snapshot(struct mon_host *h, const char *text, uint64_t now_us);
void mon_on_hidden(struct mon_host *h, const char *text, uint64_t now_us);

#endif
