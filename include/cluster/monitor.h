/* cluster/monitor.h - the monitor's thread: who is the primary, how new is each standby, what stands in the catalogs.
 *
 * One libpq connection per host, never blocking: names are resolved by evdns and handed over as hostaddr, each command
 * has a deadline of its own.  Every interval each host is probed; while somebody waits for a round (topology.h) the
 * primary is sampled and the standbys are polled back to back.  libpq is used in this layer only.
 *
 * Needs CONNECT on `dbname` and pg_monitor (without it the timeline of a standby is proved by its control file only).
 *
 * Threads: all functions here may be called from any thread. */
#ifndef CLUSTER_MONITOR_H
#define CLUSTER_MONITOR_H

#include <stdbool.h>
#include <stdint.h>
#include "cluster/topology.h"

/* Strings may be NULL (libpq's default) and are copied. */
struct monitor_login {
	const char *user, *password, *dbname;
};
struct monitor_tls {
	const char *sslmode; /* libpq's words; NULL: prefer */
	const char *ca_file, *cert_file, *key_file;
	const char *min_protocol, *max_protocol; /* "TLSv1.2", ... */
};
struct monitor_options {
	uint64_t interval_us;        /* monitor_interval */
	uint64_t connect_timeout_us; /* 0: max(3 s, 5 intervals); a probe has max(1 s, 5 intervals) */
	uint64_t dns_ttl_us;         /* names are resolved again after this; 0: 15 s */
	uint64_t facts_refresh_us;   /* 0: 60 s */
	const char *resolv_conf;     /* at start only; NULL or "": /etc/resolv.conf */
	struct monitor_login login;  /* monitor_user (or auth_user), monitor_password, monitor_dbname */
	struct monitor_tls tls;
};

void monitor_start(const struct monitor_options *options);
void monitor_reconfigure(const struct monitor_options *options);
/* Ends the thread and closes its connections; workers must not post to it any more (stop them first). */
void monitor_stop(void);
/* Watches the cluster from now on; idempotent.  `fallback`: the credentials of the database that names it, for what
 * options.login leaves open (the last one with a user counts).  May be called before monitor_start(). */
void monitor_watch(struct cluster *c, const struct monitor_login *fallback);
/* No longer: its connections are closed and its roles become unknown. */
void monitor_unwatch(struct cluster *c);

/* --- SHOW REPLICAS --- */
struct monitor_row {
	const struct host *host; /* borrowed, for ever */
	enum host_role role;
	uint32_t timeline;
	uint64_t lsn;           /* insert position of a primary, replay position of a standby; 0 unknown */
	uint64_t lag_us;        /* HOST_LAG_UNKNOWN: unknown, and for a primary 0 */
	uint64_t replay_age_us; /* now() - pg_last_xact_replay_timestamp() by the standby's clock; for people only */
	uint64_t catchup_us;
	uint64_t fresh_round, round;
	uint64_t since_us; /* CLOCK_MONOTONIC of the last change of role */
	uint64_t system_identifier;
	int server_version; /* as PQserverVersion(): 150004 */
	char address[NET_NAME_SIZE];
	char error[256]; /* last error, "" none */
};
/* Calls fn for each host of each cluster with a snapshot taken under a mutex. */
void monitor_status(void (*fn)(const struct monitor_row *row, void *arg), void *arg);

#endif
