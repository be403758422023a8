/* src/cluster/monitor_host.c - one host's connection: attempts, commands and what they answer.
 *
 * Commands are SQL-level prepared statements, made in one round trip together with the greeting.  Functions only, all
 * of pg_catalog, so that neither search_path nor the rights of the role matter (but for pg_stat_get_wal_receiver(),
 * which shows the timeline to pg_monitor only).
 *
 * A connection that was fine and breaks is tried again at once, and only when that fails is the host down: somebody's
 * pg_terminate_backend() is no failover.  Proofs are taken back at the break in any case. */
#include "monitor_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/mem.h"
#include "base/rules.h"
#include "base/str.h"

enum {
	SUSPECT_GAP_US = 20 * MONO_MS,
	NUDGE_DEADLINE_US = 10 * MONO_SEC,
	RETRY_MAX_US = MONO_SEC,
	CONNECT_MIN_US = 3 * MONO_SEC,
	REFUSED_RETRY_US = 5 * MONO_SEC
};

/* The nudge must flush, but never wait for a standby's confirmation: synchronous_commit=local. */
static const char settings[] =
    "-c search_path=pg_catalog -c synchronous_commit=local -c statement_timeout=0 "
    "-c default_transaction_isolation=read\\ committed -c default_transaction_read_only=off "
    "-c default_transaction_deferrable=off -c idle_session_timeout=0 -c jit=off -c DateStyle=ISO";

#define HELLO_SQL                                                                                                      \
	"PREPARE pgweir_probe AS SELECT pg_is_in_recovery(),"                                                          \
	" CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END,"           \
	" CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_flush_lsn() END,"                                      \
	" CASE WHEN NOT pg_is_in_recovery() THEN substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END,"      \
	" CASE WHEN pg_is_in_recovery() THEN (pg_stat_get_wal_receiver()).received_tli END,"                           \
	" (pg_control_checkpoint()).timeline_id,"                                                                      \
	" CASE WHEN pg_is_in_recovery() THEN pg_snapshot_xmax(pg_current_snapshot())::text END,"                       \
	" (1e6 * extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()))::int8,"                      \
	" current_setting('synchronous_standby_names') <> '';"                                                         \
	"PREPARE pgweir_sample AS SELECT pg_current_wal_insert_lsn(), pg_current_wal_flush_lsn();"                     \
	"PREPARE pgweir_poll AS SELECT pg_last_wal_replay_lsn(), (pg_stat_get_wal_receiver()).received_tli;"           \
	"PREPARE pgweir_snapshot AS SELECT pg_current_wal_insert_lsn(), pg_current_wal_flush_lsn(),"                   \
	" pg_current_snapshot()::text;"
#define HELLO_TAIL                                                                                                     \
	"SELECT (pg_control_system()).system_identifier, (pg_control_init()).wal_block_size,"                          \
	" (pg_control_init()).bytes_per_wal_segment, " MONITOR_INSTANCE_SQL
/* From 17 on a message can be flushed by itself; before, only a commit flushes, which costs a transaction id. */
#define NUDGE_17_SQL  "PREPARE pgweir_nudge AS SELECT pg_logical_emit_message(false, 'pgweir', '', true);"
#define NUDGE_OLD_SQL "PREPARE pgweir_nudge AS SELECT pg_logical_emit_message(true, 'pgweir', '');"

static void lost(struct mon_host *h, uint64_t now_us);

static void set_state(struct mon_host *h, enum mon_host_state state)
{
	static const unsigned edges[] = {
		[MON_WAITING] = 1u << MON_RESOLVING | 1u << MON_CONNECTING,
		[MON_RESOLVING] = 1u << MON_CONNECTING | 1u << MON_WAITING,
		[MON_CONNECTING] = 1u << MON_GREETING | 1u << MON_WAITING,
		[MON_GREETING] = 1u << MON_READY | 1u << MON_WAITING,
		[MON_READY] = 1u << MON_WAITING,
	};
	CHECK(edges[h->state] & 1u << state);
	h->state = state;
}

/* --- the rows of SHOW REPLICAS --- */

void mon_host_publish_row(struct mon_host *h)
{
	struct host *host = h->host;
	struct monitor_row row = h->row; /* this thread is the only writer */
	uint64_t now_us = mono_now_us();
	row.host = host;
	row.role = host_role(host);
	row.timeline = h->facts.timeline;
	row.lsn = h->facts.lsn;
	row.replay_age_us = h->facts.in_recovery ? h->facts.replay_age_us : 0;
	row.lag_us = row.role == HOST_PRIMARY ? 0 : host_lag_us(host, now_us);
	row.catchup_us = host_catchup_us(host);
	row.fresh_round = atomic_load(&host->fresh_round);
	row.round = cluster_round(h->mc->c);
	row.since_us = h->since_us;
	row.system_identifier = h->facts.system_identifier;
	row.server_version = h->facts.version;
	if (h->address < h->addresses.n)
		net_addr_format(&h->addresses.addr[h->address], row.address, sizeof row.address);
	pthread_mutex_lock(&h->mc->m->status_mutex);
	h->row = row;
	pthread_mutex_unlock(&h->mc->m->status_mutex);
}

static void set_error(struct mon_host *h, const char *error)
{
	pthread_mutex_lock(&h->mc->m->status_mutex);
	str_copy(h->row.error, sizeof h->row.error, str_of(error));
	pthread_mutex_unlock(&h->mc->m->status_mutex);
}

/* A host that stays away is logged once per reason, not once per attempt. */
static void log_failure(struct mon_host *h, const char *error)
{
	set_error(h, error);
	if (strcmp(h->logged, error) == 0)
		return;
	str_copy(h->logged, sizeof h->logged, str_of(error));
	log_warning(NULL, "monitor: %s:%d: %s", h->host->name, h->host->port, error);
}

/* What lost() shall report, when it is not the connection that has failed. */
static void set_reason(struct mon_host *h, const char *reason)
{
	dbconn_one_line(reason, h->conn.error, sizeof h->conn.error);
	h->conn.sqlstate[0] = '\0';
	h->conn.needs_password = h->conn.timed_out = false;
}

/* --- commands --- */

static void send_hello(struct mon_host *h, uint64_t deadline_us)
{
	h->facts.version = PQserverVersion(h->conn.pg);
	dbconn_query(&h->conn,
	             h->facts.version >= 170000 ? HELLO_SQL NUDGE_17_SQL HELLO_TAIL
	                                        : HELLO_SQL NUDGE_OLD_SQL HELLO_TAIL,
	             deadline_us);
}

static void send_hidden(struct mon_host *h, uint64_t deadline_us)
{
	char *sql = early_question(&h->mc->snapshot);
	dbconn_query(&h->conn, sql, deadline_us);
	mem_free(sql);
}

void mon_host_send(struct mon_host *h, enum mon_command command, uint64_t now_us)
{
	static const char *const statements[CMD_COUNT] = {
		[CMD_PROBE] = "pgweir_probe", [CMD_SAMPLE] = "pgweir_sample",     [CMD_POLL] = "pgweir_poll",
		[CMD_NUDGE] = "pgweir_nudge", [CMD_SNAPSHOT] = "pgweir_snapshot",
	};
	struct mon_cluster *mc = h->mc;
	CHECK(h->command == CMD_NONE && h->conn.state == DBCONN_IDLE);
	/* B6: the round begins before its sample is sent.  A probe and a snapshot of the primary are
	 * samples too. */
	if (h == mc->primary && (command == CMD_SAMPLE || command == CMD_SNAPSHOT || command == CMD_PROBE)) {
		cluster_begin_round(mc->c);
		mc->pace.sent_us = now_us;
	}
	h->command = command;
	h->sent_us = now_us;
	h->sent_round = cluster_round(mc->c);
	if (command == CMD_PROBE)
		h->probe_us = now_us + mc->m->interval_us;
	/* A slow disk makes a flush slow, not the server dead. */
	uint64_t deadline_us = now_us + (command == CMD_NUDGE ? NUDGE_DEADLINE_US : mon_deadline_us(mc->m));
	if (command == CMD_HELLO)
		send_hello(h, deadline_us);
	else if (command == CMD_HIDDEN)
		send_hidden(h, deadline_us);
	else
		dbconn_execute(&h->conn, statements[command], deadline_us);
}

static bool is_null(const PGresult *res, int column) { return PQgetisnull(res, 0, column); }

static bool get_lsn(const PGresult *res, int column, uint64_t *out)
{
	return !is_null(res, column) && wal_parse_lsn(PQgetvalue(res, 0, column), out);
}

static uint64_t get_u64(const PGresult *res, int column)
{
	return is_null(res, column) ? 0 : strtoull(PQgetvalue(res, 0, column), NULL, 10);
}

static uint64_t get_i64(const PGresult *res, int column)
{
	return is_null(res, column) ? 0 : (uint64_t)strtoll(PQgetvalue(res, 0, column), NULL, 10);
}

static void got_hello(struct mon_host *h, const PGresult *res, uint64_t now_us)
{
	h->facts.system_identifier = get_u64(res, 0);
	h->facts.sizes.block_bytes = (uint32_t)get_u64(res, 1);
	h->facts.sizes.segment_bytes = (uint32_t)get_u64(res, 2);
	h->facts.timeline = 0;
	atomic_store_explicit(&h->host->instance, get_i64(res, 3), memory_order_release);
	/* From here on the server has not restarted: B3 counts from the login of this connection. */
	standby_on_connect(h->standby, cluster_round(h->mc->c));
	mon_early_forget(h);
	atomic_fetch_add_explicit(&h->host->incarnation, 1, memory_order_acq_rel);
	host_publish_address(h->host, &h->addresses.addr[h->address]);
	mon_host_send(h, CMD_PROBE, now_us);
}

/* B7: the receiver's timeline where it is shown; while no receiver runs, what was known; else the control file's, which
 * is behind after a promotion and therefore may only agree, never mislead to a newer one. */
static uint32_t standby_timeline(const struct mon_host *h, uint32_t received, uint32_t checkpoint)
{
	if (received)
		return received;
	return h->facts.timeline > checkpoint ? h->facts.timeline : checkpoint;
}

/* A4: only as a standby of the primary whose timeline it is on. */
static void note_recovery(struct mon_host *h, uint64_t xmax)
{
	const struct mon_host *primary = h->mc->last_primary;
	bool follows = primary && primary != h && h->facts.timeline && primary->facts.timeline == h->facts.timeline;
	h->recovered = (struct mon_recovered){ follows ? primary->host : NULL, h->facts.timeline, xmax };
}

static void got_probe(struct mon_host *h, const PGresult *res, uint64_t now_us)
{
	struct mon_facts *f = &h->facts;
	uint64_t lsn = 0, flush = 0;
	bool had_recovery = f->in_recovery, first = h->state != MON_READY || h->answer != ANSWER_FULL;
	bool has_lsn = get_lsn(res, 1, &lsn);
	f->in_recovery = strcmp(PQgetvalue(res, 0, 0), "t") == 0;
	f->lsn = lsn;
	f->replay_age_us = get_u64(res, 7);
	uint32_t timeline = f->timeline;
	if (!f->in_recovery)
		atomic_store_explicit(&h->mc->c->waits_for_standbys, strcmp(PQgetvalue(res, 0, 8), "t") == 0,
		                      memory_order_release);
	if (f->in_recovery) {
		f->timeline = standby_timeline(h, (uint32_t)get_u64(res, 4), (uint32_t)get_u64(res, 5));
		note_recovery(h, get_u64(res, 6));
	} else {
		/* B7: only the WAL file's name tells at once; the control file needs a checkpoint. */
		f->timeline = is_null(res, 3) ? 0 : (uint32_t)strtoul(PQgetvalue(res, 0, 3), NULL, 16);
	}
	if (h->state != MON_READY)
		set_state(h, MON_READY);
	h->answer = ANSWER_FULL;
	h->failures = 0;
	h->grace_until_us = 0;
	h->logged[0] = '\0';
	atomic_store_explicit(&h->host->timeline, f->timeline, memory_order_release);
	set_error(h, "");
	/* The round of this probe counts only if the host was taken for the primary when it was sent. */
	bool was_primary = h == h->mc->primary && !had_recovery && !first;
	if (first || had_recovery != f->in_recovery || timeline != f->timeline)
		mon_cluster_decide(h->mc, now_us);
	if (!f->in_recovery && was_primary && h == h->mc->primary && has_lsn && get_lsn(res, 2, &flush))
		mon_on_sample(h, lsn, flush, now_us);
	else if (f->in_recovery)
		mon_on_replay(h, has_lsn, lsn, f->timeline, now_us);
	mon_host_publish_row(h);
}

static void got_sample(struct mon_host *h, const PGresult *res, uint64_t now_us)
{
	uint64_t insert, flush;
	if (!get_lsn(res, 0, &insert) || !get_lsn(res, 1, &flush))
		return;
	h->facts.lsn = insert;
	mon_on_sample(h, insert, flush, now_us);
}

static void got_poll(struct mon_host *h, const PGresult *res, uint64_t now_us)
{
	uint64_t replay = 0;
	bool has_replay = get_lsn(res, 0, &replay);
	h->facts.lsn = replay;
	h->facts.timeline = standby_timeline(h, (uint32_t)get_u64(res, 1), 0);
	mon_on_replay(h, has_replay, replay, h->facts.timeline, now_us);
}

static void got_snapshot(struct mon_host *h, const PGresult *res, uint64_t now_us)
{
	mon_on_snapshot(h, PQgetvalue(res, 0, 2), now_us);
	got_sample(h, res, now_us);
}

static void got_hidden(struct mon_host *h, const PGresult *res, uint64_t now_us)
{
	mon_on_hidden(h, PQgetvalue(res, 0, 0), now_us);
}

/* A promotion shows in in_hot_standby at the end of any command. */
static void notice_promotion(struct mon_host *h, uint64_t now_us)
{
	if (h->state == MON_READY && h->facts.in_recovery && !dbconn_in_hot_standby(&h->conn))
		h->probe_us = now_us;
}

static void on_result(struct dbconn *conn, const PGresult *res)
{
	static void (*const handlers[CMD_COUNT])(struct mon_host *, const PGresult *, uint64_t) = {
		[CMD_HELLO] = got_hello, [CMD_PROBE] = got_probe,       [CMD_SAMPLE] = got_sample,
		[CMD_POLL] = got_poll,   [CMD_SNAPSHOT] = got_snapshot, [CMD_HIDDEN] = got_hidden,
	};
	struct mon_host *h = CONTAINER_OF(conn, struct mon_host, conn);
	enum mon_command command = h->command;
	uint64_t now_us = mono_now_us();
	bool ok = PQresultStatus(res) == PGRES_TUPLES_OK && PQntuples(res) == 1;
	h->command = CMD_NONE;
	if (!ok && command == CMD_NUDGE) {
		/* Without the right to it, commits of synchronous_commit=off are waited for. */
		h->nudge_refused = true;
		dbconn_one_line(PQresultErrorMessage(res), conn->error, sizeof conn->error);
		log_failure(h, conn->error);
	} else if (!ok) {
		set_reason(h, PQresultErrorMessage(res));
		dbconn_close(conn);
		lost(h, now_us);
	} else if (handlers[command]) {
		handlers[command](h, res, now_us);
		notice_promotion(h, now_us);
	}
	mon_cluster_step(h->mc, now_us);
	mon_arm(h->mc->m);
}

/* --- attempts --- */

static uint64_t retry_delay(const struct mon_host *h)
{
	uint64_t interval_us = h->mc->m->interval_us;
	if (h->failures <= 1)
		return h->failures * (interval_us / 4);
	if (h->answer == ANSWER_REFUSED)
		return REFUSED_RETRY_US;
	return h->failures < 10 || interval_us > RETRY_MAX_US ? interval_us : RETRY_MAX_US;
}

/* The connection is closed by now and conn.error says why. */
static void lost(struct mon_host *h, uint64_t now_us)
{
	bool had = h->state == MON_READY && !h->conn.timed_out;
	bool refused = !had && dbconn_was_refused(&h->conn);
	log_failure(h, h->conn.error);
	DCHECK(h->conn.state == DBCONN_CLOSED);
	set_state(h, MON_WAITING);
	h->command = CMD_NONE;
	h->poll_us = 0;
	mon_on_standby_lost(h);
	if (had) {
		h->grace_until_us = now_us + mon_deadline_us(h->mc->m);
		h->retry_us = now_us;
		return;
	}
	h->failures++;
	/* There is a server; a cluster of this host alone is served without the monitor's being let in. */
	if (refused)
		host_publish_address(h->host, &h->addresses.addr[h->address]);
	h->address++; /* the next address of the name, or a new look at the name */
	h->answer = refused ? ANSWER_REFUSED : ANSWER_NONE;
	h->grace_until_us = 0;
	h->retry_us = now_us + retry_delay(h);
	mon_cluster_decide(h->mc, now_us);
	mon_host_publish_row(h);
}

static void on_failed(struct dbconn *conn)
{
	struct mon_host *h = CONTAINER_OF(conn, struct mon_host, conn);
	uint64_t now_us = mono_now_us();
	lost(h, now_us);
	mon_cluster_step(h->mc, now_us);
	mon_arm(h->mc->m);
}

static void on_ready(struct dbconn *conn)
{
	struct mon_host *h = CONTAINER_OF(conn, struct mon_host, conn);
	set_state(h, MON_GREETING);
	mon_host_send(h, CMD_HELLO, mono_now_us());
}

static const struct dbconn_ops ops = { .on_ready = on_ready, .on_result = on_result, .on_failed = on_failed };

/* monitor_dbname, or the database that names the cluster where there is none of that name. */
struct monitor_login mon_host_login(struct mon_host *h)
{
	struct monitor_login login = monitor_login_merge(&h->mc->m->identity.login, &h->mc->fallback.login);
	if (strcmp(h->conn.sqlstate, "3D000") == 0)
		h->other_dbname = !h->other_dbname;
	if (h->other_dbname && h->mc->fallback.login.dbname)
		login.dbname = h->mc->fallback.login.dbname;
	return login;
}

/* More than a probe gets: TLS and SCRAM take their time on a busy machine, and nobody waits for it, because the role is
 * lost when the grace is over. */
static uint64_t connect_timeout(const struct monitor *m)
{
	uint64_t deadline_us = mon_deadline_us(m);
	if (m->connect_timeout_us)
		return m->connect_timeout_us;
	return deadline_us > CONNECT_MIN_US ? deadline_us : CONNECT_MIN_US;
}

static void connect_to_address(struct mon_host *h, uint64_t now_us)
{
	struct monitor *m = h->mc->m;
	struct dbconn_settings s = {
		.host = h->host->name,
		.addr = &h->addresses.addr[h->address],
		.port = h->host->port,
		.login = mon_host_login(h),
		.tls = m->identity.tls,
		.options = settings,
	};
	set_state(h, MON_CONNECTING);
	h->tried_us = now_us;
	if (!dbconn_open(&h->conn, &s, now_us + connect_timeout(m)))
		lost(h, now_us);
}

/* Either an attempt waits for this (RESOLVING), or it is the look that is taken every dns_ttl: is the address in use
 * still one of the name's? */
static void on_addresses(void *arg, const struct resolve_answer *answer)
{
	struct mon_host *h = arg;
	uint64_t now_us = mono_now_us();
	h->resolving = NULL;
	h->resolved_us = now_us;
	bool connected = h->state == MON_READY || h->state == MON_GREETING || h->state == MON_CONNECTING;
	struct net_addr in_use = { .len = 0 };
	if (connected && h->address < h->addresses.n)
		in_use = h->addresses.addr[h->address];
	if (answer->n > 0) {
		h->addresses = *answer;
		h->address = 0;
	} else {
		set_reason(h, answer->error);
		if (h->state != MON_RESOLVING)
			return; /* a name server that is away does not make the server go away */
		if (h->addresses.n == 0) {
			lost(h, now_us);
			return;
		}
		h->address = 0;
	}
	for (unsigned i = 0; connected && i < h->addresses.n; i++) {
		if (net_addr_equal(&h->addresses.addr[i], &in_use)) {
			h->address = i;
			return;
		}
	}
	if (connected)
		mon_host_reconnect(h, "the name has another address now");
	else if (h->state == MON_RESOLVING)
		connect_to_address(h, now_us);
}

static void on_addresses_known(void *arg, const struct resolve_answer *answer)
{
	struct mon_host *h = arg;
	bool inside_call = h->in_look_up;
	on_addresses(arg, answer);
	if (inside_call)
		return; /* of mon_host_turn(): its caller goes on from here */
	mon_cluster_step(h->mc, mono_now_us());
	mon_arm(h->mc->m);
}

static void look_up(struct mon_host *h)
{
	h->in_look_up = true;
	resolve_start(h->mc->m->resolver, h->host->name, h->host->port, on_addresses_known, h, &h->resolving);
	h->in_look_up = false;
}

static void try_now(struct mon_host *h, uint64_t now_us)
{
	bool known = h->addresses.n > 0 && h->address < h->addresses.n;
	if (known && (h->resolved_us + h->mc->m->dns_ttl_us > now_us || h->resolving)) {
		connect_to_address(h, now_us);
		return;
	}
	h->tried_us = now_us;
	set_state(h, MON_RESOLVING);
	if (!h->resolving)
		look_up(h);
}

/* --- entry points --- */

void mon_host_init(struct mon_host *h, struct mon_cluster *mc, unsigned index)
{
	*h = (struct mon_host){ .mc = mc, .host = &mc->c->hosts[index], .standby = &mc->standbys[index] };
	h->since_us = mono_now_us();
	h->grace_until_us = h->since_us + mon_deadline_us(mc->m);
	dbconn_init(&h->conn, mc->m->loop, &ops);
	mon_host_publish_row(h);
}

void mon_host_close(struct mon_host *h)
{
	resolve_cancel(h->resolving);
	h->resolving = NULL;
	dbconn_close(&h->conn);
	h->command = CMD_NONE;
}

void mon_host_reconnect(struct mon_host *h, const char *why)
{
	uint64_t now_us = mono_now_us();
	if (h->state == MON_WAITING || h->state == MON_RESOLVING) {
		h->retry_us = now_us;
		return;
	}
	dbconn_close(&h->conn);
	set_reason(h, why);
	lost(h, now_us);
}

void mon_host_suspect(struct mon_host *h, uint64_t now_us)
{
	/* Many workers may report the same loss: not a connection attempt for each. */
	uint64_t earliest_us = h->tried_us + SUSPECT_GAP_US;
	if (h->state == MON_WAITING && h->retry_us > earliest_us)
		h->retry_us = earliest_us;
	else if (h->state == MON_READY)
		h->probe_us = now_us;
}

void mon_host_turn(struct mon_host *h, uint64_t now_us)
{
	if (dbconn_check_deadline(&h->conn, now_us))
		return;
	if (h->grace_until_us && now_us >= h->grace_until_us && h->state != MON_READY) {
		h->grace_until_us = 0;
		h->answer = ANSWER_NONE;
		mon_cluster_decide(h->mc, now_us);
	}
	if (h->state == MON_WAITING && now_us >= h->retry_us)
		try_now(h, now_us);
	if (mon_host_can_send(h) && now_us >= h->probe_us)
		mon_host_send(h, CMD_PROBE, now_us);
	if (h->state == MON_READY && !h->resolving && now_us >= h->resolved_us + h->mc->m->dns_ttl_us)
		look_up(h);
}

uint64_t mon_host_due(const struct mon_host *h)
{
	uint64_t due = UINT64_MAX;
	if (h->conn.deadline_us)
		due = h->conn.deadline_us;
	if (h->grace_until_us && h->grace_until_us < due && h->state != MON_READY)
		due = h->grace_until_us;
	if (h->state == MON_WAITING && h->retry_us < due)
		due = h->retry_us;
	if (mon_host_can_send(h) && h->probe_us < due)
		due = h->probe_us;
	return due;
}
