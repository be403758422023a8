/* cluster/outcome.c - see cluster/outcome.h.
 *
 * One connection for each cluster that somebody asks about, apart from the monitor's own: the question may hang for as
 * long as a synchronous standby is away, and probes must not.  It lives as long as there are questions.
 *
 * A request that its asker has dropped is freed by whoever meets it next: `mutex` settles that between the two threads
 * (as in auth_query.c). */
#include "cluster/outcome.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/mem.h"
#include "base/rules.h"
#include "monitor_priv.h"

enum { LOOK_US = 20 * MONO_MS, CONNECT_TIMEOUT_US = 5 * MONO_SEC, XID_DIGITS = 20 };

struct outcome_request {
	struct loop_msg msg;
	struct loop *loop; /* borrowed: the asker's */
	outcome_fn fn;     /* the asker's thread */
	void *arg;
	bool dropped; /* lock: mutex */
	struct outcome_mark mark;
	uint64_t deadline_us;
	enum commit_outcome outcome;
	STAILQ_ENTRY(outcome_request) link;
};
STAILQ_HEAD(request_list, outcome_request);

struct asker {
	struct dbconn conn;
	struct cluster *cluster;
	struct host *host;         /* borrowed from the cluster: whom it asks */
	struct request_list batch; /* whom the running query answers */
	LIST_ENTRY(asker) link;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(struct loop *) monitor_loop;

/* The rest belongs to the monitor's thread. */
static struct {
	struct monitor *m; /* borrowed; NULL: not running */
	struct request_list waiting;
	LIST_HEAD(, asker) askers;
	struct loop_timer timer;
} self;

static const char settings[] = "-c search_path=pg_catalog -c synchronous_commit=on -c statement_timeout=0 "
                               "-c default_transaction_isolation=read\\ committed -c default_transaction_read_only=off "
                               "-c default_transaction_deferrable=off -c jit=off -c DateStyle=ISO";

/* --- the verdict --- */

/* The id is of a history that this server shares. */
static bool vouches(const struct outcome_mark *mark, const struct outcome_witness *w)
{
	if (w->host == mark->host)
		return mark->instance != 0 && mark->instance == w->instance && mark->timeline == w->timeline;
	return w->followed == mark->host && w->followed_timeline == mark->timeline && w->timeline > mark->timeline &&
	       mark->xid < w->recovered_below;
}

enum commit_outcome outcome_judge(const struct outcome_mark *mark, const struct outcome_witness *w, const char *status)
{
	if (!status || mark->xid == 0 || mark->timeline == 0)
		return OUTCOME_UNKNOWN;
	if (strcmp(status, "committed") == 0)
		return vouches(mark, w) || RULE_BROKEN(A4) ? OUTCOME_COMMITTED : OUTCOME_UNKNOWN;
	if (strcmp(status, "aborted") == 0 || strcmp(status, "future") == 0)
		return OUTCOME_ABORTED;
	return strcmp(status, "in progress") == 0 ? OUTCOME_PENDING : OUTCOME_UNKNOWN;
}

/* --- requests --- */

static void on_answer(struct loop *loop, struct loop_msg *msg)
{
	struct outcome_request *r = CONTAINER_OF(msg, struct outcome_request, msg);
	(void)loop;
	if (r->fn)
		r->fn(r->arg, r->outcome);
	mem_free(r);
}

static void answer(struct outcome_request *r, enum commit_outcome outcome)
{
	r->outcome = outcome;
	r->msg.fn = on_answer;
	pthread_mutex_lock(&mutex);
	bool dropped = r->dropped;
	if (!dropped)
		loop_post(r->loop, &r->msg);
	pthread_mutex_unlock(&mutex);
	if (dropped)
		mem_free(r);
}

static void look_later(void)
{
	if (!loop_timer_is_running(&self.timer))
		loop_timer_start(&self.timer, LOOK_US);
}

static void pump(void);

static void on_ask(struct loop *loop, struct loop_msg *msg)
{
	struct outcome_request *r = CONTAINER_OF(msg, struct outcome_request, msg);
	(void)loop;
	if (!self.m) {
		answer(r, OUTCOME_UNKNOWN);
		return;
	}
	STAILQ_INSERT_TAIL(&self.waiting, r, link);
	pump();
	look_later();
}

struct outcome_request *outcome_ask(const struct outcome_mark *mark, uint64_t deadline_us, struct loop *loop,
                                    outcome_fn fn, void *arg)
{
	struct outcome_request *r = mem_zalloc(sizeof *r);
	struct loop *to = atomic_load(&monitor_loop);
	r->loop = loop;
	r->fn = fn;
	r->arg = arg;
	r->mark = *mark;
	r->deadline_us = deadline_us;
	r->msg.fn = on_ask;
	if (to)
		loop_post(to, &r->msg);
	else
		answer(r, OUTCOME_UNKNOWN);
	return r;
}

void outcome_cancel(struct outcome_request *r)
{
	if (!r)
		return;
	r->fn = NULL;
	pthread_mutex_lock(&mutex);
	r->dropped = true;
	pthread_mutex_unlock(&mutex);
}

/* --- asking --- */

static void asker_free(struct asker *k)
{
	LIST_REMOVE(k, link);
	STAILQ_CONCAT(&self.waiting, &k->batch);
	dbconn_close(&k->conn);
	mem_free(k);
}

static unsigned take_batch(struct asker *k)
{
	struct outcome_request *r;
	struct request_list rest = STAILQ_HEAD_INITIALIZER(rest);
	unsigned n = 0;
	while ((r = STAILQ_FIRST(&self.waiting))) {
		STAILQ_REMOVE_HEAD(&self.waiting, link);
		bool ours = r->mark.host->cluster == k->cluster;
		if (ours) {
			STAILQ_INSERT_TAIL(&k->batch, r, link);
			n++;
		} else {
			STAILQ_INSERT_TAIL(&rest, r, link);
		}
	}
	STAILQ_CONCAT(&self.waiting, &rest);
	return n;
}

/* Its own id is the next one that there is: whoever has it, or a later one, has it in another history. */
static void send_question(struct asker *k)
{
	const struct outcome_request *r;
	unsigned n = take_batch(k);
	size_t room = n * (XID_DIGITS + 1) + 1, used = 0;
	char *ids = mem_alloc(room);
	if (n == 0) {
		mem_free(ids);
		return;
	}
	STAILQ_FOREACH(r, &k->batch, link)
	used += (size_t)snprintf(ids + used, room - used, "%s%" PRIu64, used ? "," : "", r->mark.xid);
	char *sql = mem_printf("WITH own AS MATERIALIZED (SELECT pg_current_xact_id()::text::int8 AS id,"
	                       " pg_logical_emit_message(true, 'pgweir', '') AS lsn)"
	                       " SELECT CASE WHEN x >= own.id THEN 'future' ELSE pg_xact_status(x::text::xid8) END,"
	                       " " MONITOR_INSTANCE_SQL ", substr(pg_walfile_name(own.lsn), 1, 8)"
	                       " FROM own, unnest('{%s}'::int8[]) WITH ORDINALITY AS asked(x, at) ORDER BY at",
	                       ids);
	/* A synchronous standby that is away keeps it waiting; the requests have deadlines of their own. */
	dbconn_query(&k->conn, sql, 0);
	mem_free(sql);
	mem_free(ids);
}

static struct outcome_witness witness_of(const struct asker *k, const PGresult *res)
{
	const struct mon_cluster *mc = k->cluster->monitor;
	struct outcome_witness w = { .host = k->host };
	if (!PQgetisnull(res, 0, 1))
		w.instance = (uint64_t)strtoll(PQgetvalue(res, 0, 1), NULL, 10);
	w.timeline = (uint32_t)strtoul(PQgetvalue(res, 0, 2), NULL, 16);
	if (!mc)
		return w;
	const struct mon_recovered *past = &mc->hosts[k->host->index].recovered;
	w.followed = past->followed;
	w.followed_timeline = past->timeline;
	w.recovered_below = past->xmax;
	return w;
}

static void log_outcome(const struct outcome_request *r, const struct asker *k, enum commit_outcome outcome)
{
	static const char *const words[] = { "unknown", "committed", "aborted", "pending" };
	log_info(NULL, "transaction %" PRIu64 " of %s:%d, whose COMMIT got no answer: %s, says %s:%d", r->mark.xid,
	         r->mark.host->name, r->mark.host->port, words[outcome], k->host->name, k->host->port);
}

static void on_result(struct dbconn *conn, const PGresult *res)
{
	struct asker *k = CONTAINER_OF(conn, struct asker, conn);
	struct request_list batch = STAILQ_HEAD_INITIALIZER(batch);
	struct outcome_request *r;
	bool ok = PQresultStatus(res) == PGRES_TUPLES_OK && cluster_primary(k->cluster) == k->host;
	if (!ok) {
		asker_free(k); /* the batch waits again */
		return;
	}
	struct outcome_witness w = witness_of(k, res);
	STAILQ_CONCAT(&batch, &k->batch);
	for (int row = 0; (r = STAILQ_FIRST(&batch)); row++) {
		STAILQ_REMOVE_HEAD(&batch, link);
		const char *status = row >= PQntuples(res) || PQgetisnull(res, row, 0) ? NULL : PQgetvalue(res, row, 0);
		enum commit_outcome outcome = outcome_judge(&r->mark, &w, status);
		if (outcome == OUTCOME_PENDING) {
			STAILQ_INSERT_TAIL(&self.waiting, r, link);
			continue;
		}
		log_outcome(r, k, outcome);
		answer(r, outcome);
	}
}

static void on_ready(struct dbconn *conn) { send_question(CONTAINER_OF(conn, struct asker, conn)); }

static void on_failed(struct dbconn *conn) { asker_free(CONTAINER_OF(conn, struct asker, conn)); }

static const struct dbconn_ops ops = { .on_ready = on_ready, .on_result = on_result, .on_failed = on_failed };

static struct asker *find_asker(const struct cluster *c)
{
	struct asker *k;
	LIST_FOREACH(k, &self.askers, link)
	{
		if (k->cluster == c)
			break;
	}
	return k;
}

static void open_asker(struct cluster *c, struct host *primary)
{
	struct mon_cluster *mc = c->monitor;
	struct net_addr addr;
	uint32_t epoch;
	if (!mc || !host_address(primary, &addr, &epoch))
		return;
	struct asker *k = mem_zalloc(sizeof *k);
	k->cluster = c;
	k->host = primary;
	STAILQ_INIT(&k->batch);
	dbconn_init(&k->conn, self.m->loop, &ops);
	LIST_INSERT_HEAD(&self.askers, k, link);
	const struct dbconn_settings s = {
		.host = primary->name,
		.addr = &addr,
		.port = primary->port,
		.login = mon_host_login(&mc->hosts[primary->index]),
		.tls = self.m->identity.tls,
		.options = settings,
	};
	if (!dbconn_open(&k->conn, &s, mono_now_us() + CONNECT_TIMEOUT_US))
		asker_free(k);
}

/* Everybody who waits is asked for, where that is possible now. */
static void pump(void)
{
	struct outcome_request *r, *next;
	for (r = STAILQ_FIRST(&self.waiting); r; r = next) {
		struct cluster *c = r->mark.host->cluster;
		struct host *primary = cluster_primary(c);
		struct asker *k = find_asker(c);
		next = STAILQ_NEXT(r, link);
		if (k && k->host != primary)
			continue; /* on_timer() ends it */
		if (!k && primary) {
			open_asker(c, primary);
		} else if (k && k->conn.state == DBCONN_IDLE) {
			send_question(k);
			next = STAILQ_FIRST(&self.waiting);
		}
	}
}

/* --- time --- */

static void expire(struct request_list *list, uint64_t now_us)
{
	struct outcome_request *r;
	struct request_list rest = STAILQ_HEAD_INITIALIZER(rest);
	while ((r = STAILQ_FIRST(list))) {
		STAILQ_REMOVE_HEAD(list, link);
		if (now_us >= r->deadline_us)
			answer(r, OUTCOME_UNKNOWN);
		else
			STAILQ_INSERT_TAIL(&rest, r, link);
	}
	STAILQ_CONCAT(list, &rest);
}

static bool is_wanted(const struct asker *k)
{
	const struct outcome_request *r;
	STAILQ_FOREACH(r, &self.waiting, link)
	{
		if (r->mark.host->cluster == k->cluster)
			return true;
	}
	return !STAILQ_EMPTY(&k->batch);
}

/* While there is no primary each look of a standby may be the last one before its promotion: the more it has replayed
 * by then, the more can be said. */
static void hasten_probes(uint64_t now_us)
{
	struct monitor *m = self.m;
	struct mon_cluster *mc;
	LIST_FOREACH(mc, &m->clusters, link)
	{
		const struct outcome_request *r;
		STAILQ_FOREACH(r, &self.waiting, link)
		{
			if (r->mark.host->cluster == mc->c)
				break;
		}
		if (!r || mc->primary)
			continue;
		for (unsigned i = 0; i < mc->c->n_hosts; i++)
			mc->hosts[i].probe_us = now_us;
		mon_cluster_step(mc, now_us);
	}
	mon_arm(m);
}

/* A batch loses its order of rows when one of it expires, so a late answer is for nobody. */
static void look_at_asker(struct asker *k, uint64_t now_us)
{
	bool late = false;
	const struct outcome_request *r;
	STAILQ_FOREACH(r, &k->batch, link)
	late |= now_us >= r->deadline_us;
	if (late || k->host != cluster_primary(k->cluster) || !is_wanted(k))
		asker_free(k);
	else
		(void)dbconn_check_deadline(&k->conn, now_us);
}

static void on_timer(struct loop_timer *t)
{
	uint64_t now_us = mono_now_us();
	struct asker *k, *next;
	(void)t;
	for (k = LIST_FIRST(&self.askers); k; k = next) {
		next = LIST_NEXT(k, link);
		look_at_asker(k, now_us);
	}
	expire(&self.waiting, now_us);
	hasten_probes(now_us);
	pump();
	if (!STAILQ_EMPTY(&self.waiting) || !LIST_EMPTY(&self.askers))
		look_later();
}

/* --- the monitor's side --- */

void outcome_start(struct monitor *m)
{
	STAILQ_INIT(&self.waiting);
	LIST_INIT(&self.askers);
	self.m = m;
	loop_timer_init(&self.timer, m->loop, on_timer);
	atomic_store(&monitor_loop, m->loop);
}

void outcome_stop(void)
{
	struct outcome_request *r;
	atomic_store(&monitor_loop, NULL);
	while (!LIST_EMPTY(&self.askers))
		asker_free(LIST_FIRST(&self.askers));
	while ((r = STAILQ_FIRST(&self.waiting))) {
		STAILQ_REMOVE_HEAD(&self.waiting, link);
		answer(r, OUTCOME_UNKNOWN);
	}
	loop_timer_stop(&self.timer);
	self.m = NULL;
}
