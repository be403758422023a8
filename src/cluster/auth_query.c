/* cluster/auth_query.c - see cluster/auth_query.h.
 *
 *   asker --post--> waiting --(a connection is free)--> batch of that connection --> answered --post--> asker
 *
 * A request that its asker has dropped is freed by whoever meets it next: `mutex` settles that between the two threads,
 * and lets nothing be posted to a loop whose owner has dropped all its requests before it ended. */
#include "cluster/auth_query.h"

#include <string.h>
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "cluster/dbconn.h"
#include "cluster/topology.h"
#include "monitor_priv.h"

enum {
	CONNECTIONS_MAX = 8,
	TRIES_MAX = 3, /* reading is repeated when a connection breaks */
	REQUEST_TIMEOUT_US = 10 * MONO_SEC,
	COMMAND_TIMEOUT_US = 5 * MONO_SEC,
	LOOK_US = 100 * MONO_MS,
	IDLE_US = 2 * MONO_SEC,
	LOG_GAP_US = MONO_SEC,
};

struct auth_request {
	struct loop_msg msg;
	struct loop *loop; /* borrowed: the asker's */
	auth_query_fn fn;  /* the asker's thread */
	void *arg;
	bool dropped; /* lock: mutex */
	struct cluster *cluster;
	struct dbconn_identity identity; /* login only */
	char *sql, *user;                /* owned */
	uint64_t deadline_us;
	unsigned tries;
	enum auth_query_result result;
	char *secret; /* owned or NULL */
	STAILQ_ENTRY(auth_request) link;
};
STAILQ_HEAD(request_list, auth_request);

struct auth_conn {
	struct dbconn conn;
	struct cluster *cluster;
	struct host *host; /* borrowed from the cluster */
	struct dbconn_identity identity;
	struct request_list batch; /* whom the running query answers */
	uint64_t idle_since_us;
	LIST_ENTRY(auth_conn) link;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(struct loop *) monitor_loop;

/* The rest belongs to the monitor's thread. */
static struct {
	struct monitor *m; /* borrowed; NULL: not running */
	struct request_list waiting;
	LIST_HEAD(, auth_conn) conns;
	unsigned n_conns;
	struct loop_timer timer;
	uint64_t logged_us;
} self;

/* The role's own settings may put a schema of somebody else's before pg_catalog. */
static const char settings[] = "-c search_path=pg_catalog,public -c default_transaction_read_only=on -c "
                               "statement_timeout=5s -c lock_timeout=5s -c jit=off";

static void pump(bool from_timer);

/* --- requests --- */

static void request_free(struct auth_request *r)
{
	dbconn_identity_free(&r->identity);
	mem_free_secret(r->secret, r->secret ? strlen(r->secret) : 0);
	mem_free(r->sql);
	mem_free(r->user);
	mem_free(r);
}

static void on_answer(struct loop *loop, struct loop_msg *msg)
{
	struct auth_request *r = CONTAINER_OF(msg, struct auth_request, msg);
	(void)loop;
	if (r->fn)
		r->fn(r->arg, r->result, r->secret);
	request_free(r);
}

static void answer(struct auth_request *r, enum auth_query_result result, const char *secret)
{
	r->result = result;
	r->secret = secret ? mem_strdup(secret) : NULL;
	r->msg.fn = on_answer;
	pthread_mutex_lock(&mutex);
	bool dropped = r->dropped;
	if (!dropped)
		loop_post(r->loop, &r->msg);
	pthread_mutex_unlock(&mutex);
	if (dropped)
		request_free(r);
}

static void answer_all(struct request_list *list, enum auth_query_result result, const char *secret)
{
	struct auth_request *r;
	while ((r = STAILQ_FIRST(list))) {
		STAILQ_REMOVE_HEAD(list, link);
		answer(r, result, secret);
	}
}

static void on_ask(struct loop *loop, struct loop_msg *msg)
{
	struct auth_request *r = CONTAINER_OF(msg, struct auth_request, msg);
	(void)loop;
	if (!self.m) {
		answer(r, AUTH_QUERY_FAILED, NULL);
		return;
	}
	r->deadline_us = mono_now_us() + REQUEST_TIMEOUT_US;
	STAILQ_INSERT_TAIL(&self.waiting, r, link);
	pump(false);
}

struct auth_request *auth_query_ask(const struct auth_query *q, struct loop *loop, auth_query_fn fn, void *arg)
{
	struct auth_request *r = mem_zalloc(sizeof *r);
	struct loop *to = atomic_load(&monitor_loop);
	r->loop = loop;
	r->fn = fn;
	r->arg = arg;
	r->cluster = q->cluster;
	r->sql = mem_strdup(q->sql);
	r->user = mem_strdup(q->user);
	dbconn_identity_set(&r->identity, &q->login, NULL);
	r->msg.fn = on_ask;
	if (to)
		loop_post(to, &r->msg);
	else
		answer(r, AUTH_QUERY_FAILED, NULL);
	return r;
}

void auth_query_cancel(struct auth_request *r)
{
	if (!r)
		return;
	r->fn = NULL;
	pthread_mutex_lock(&mutex);
	r->dropped = true;
	pthread_mutex_unlock(&mutex);
}

/* --- connections --- */

static bool serves(const struct auth_conn *k, const struct auth_request *r)
{
	return k->cluster == r->cluster && dbconn_identity_equal(&k->identity, &r->identity);
}

static void conn_free(struct auth_conn *k)
{
	LIST_REMOVE(k, link);
	self.n_conns--;
	dbconn_close(&k->conn);
	dbconn_identity_free(&k->identity);
	mem_free(k);
}

/* Says once in a while what is wrong: who knocks must not be able to fill the log. */
static void complain(const struct auth_conn *k, const char *why)
{
	uint64_t now_us = mono_now_us();
	if (self.logged_us && now_us - self.logged_us < LOG_GAP_US)
		return;
	self.logged_us = now_us;
	log_warning(NULL, "auth_query as \"%s\" in database \"%s\" failed: %s", k->identity.login.user,
	            k->identity.login.dbname, why);
}

/* Back to the others for another try, or answered. */
static void give_up(struct auth_conn *k, bool may_repeat, enum auth_query_result result)
{
	struct auth_request *r;
	struct request_list batch = STAILQ_HEAD_INITIALIZER(batch);
	STAILQ_CONCAT(&batch, &k->batch);
	while ((r = STAILQ_FIRST(&batch))) {
		STAILQ_REMOVE_HEAD(&batch, link);
		if (may_repeat && ++r->tries < TRIES_MAX)
			STAILQ_INSERT_TAIL(&self.waiting, r, link);
		else
			answer(r, result, NULL);
	}
}

/* Everybody in the list who asks the same as `r`, which stands in it. */
static void take_batch(struct auth_conn *k, const struct auth_request *like)
{
	struct auth_request *r;
	struct request_list rest = STAILQ_HEAD_INITIALIZER(rest);
	while ((r = STAILQ_FIRST(&self.waiting))) {
		STAILQ_REMOVE_HEAD(&self.waiting, link);
		if (serves(k, r) && strcmp(r->user, like->user) == 0 && strcmp(r->sql, like->sql) == 0)
			STAILQ_INSERT_TAIL(&k->batch, r, link);
		else
			STAILQ_INSERT_TAIL(&rest, r, link);
	}
	STAILQ_CONCAT(&self.waiting, &rest);
}

static void send_query(struct auth_conn *k, const struct auth_request *like)
{
	take_batch(k, like);
	const struct auth_request *r = STAILQ_FIRST(&k->batch);
	dbconn_query_with(&k->conn, r->sql, r->user, mono_now_us() + COMMAND_TIMEOUT_US);
}

static void on_ready(struct dbconn *conn)
{
	struct auth_conn *k = CONTAINER_OF(conn, struct auth_conn, conn);
	struct auth_request *r = STAILQ_FIRST(&k->batch), *next = r;
	/* The request that had it opened may by now be one of many. */
	while ((r = STAILQ_FIRST(&k->batch))) {
		STAILQ_REMOVE_HEAD(&k->batch, link);
		STAILQ_INSERT_HEAD(&self.waiting, r, link);
	}
	k->idle_since_us = mono_now_us();
	if (next)
		send_query(k, next);
}

/* Name and secret.  The name must be the one that was asked for: a query that finds somebody else (PostgreSQL cuts long
 * names off, for one) must not let him in, nor say that there is such a name. */
static enum auth_query_result read_row(const PGresult *res, const char *user, const char **secret, const char **why)
{
	*why = "expected one row with the user's name and secret";
	if (PQnfields(res) < 2 || PQntuples(res) > 1)
		return AUTH_QUERY_FAILED;
	if (PQntuples(res) == 0 || PQgetisnull(res, 0, 0))
		return AUTH_QUERY_UNKNOWN;
	*secret = PQgetvalue(res, 0, 1);
	if (strcmp(PQgetvalue(res, 0, 0), user) != 0)
		return AUTH_QUERY_UNKNOWN;
	return PQgetisnull(res, 0, 1) || !**secret ? AUTH_QUERY_NO_SECRET : AUTH_QUERY_FOUND;
}

static void on_result(struct dbconn *conn, const PGresult *res)
{
	struct auth_conn *k = CONTAINER_OF(conn, struct auth_conn, conn);
	const struct auth_request *r = STAILQ_FIRST(&k->batch);
	const char *secret = NULL, *why = "";
	char line[256];
	enum auth_query_result result = AUTH_QUERY_FAILED;
	if (PQresultStatus(res) == PGRES_TUPLES_OK) {
		result = read_row(res, r->user, &secret, &why);
	} else {
		dbconn_one_line(PQresultErrorMessage(res), line, sizeof line);
		why = line;
	}
	if (result == AUTH_QUERY_FAILED)
		complain(k, why);
	answer_all(&k->batch, result, result == AUTH_QUERY_FOUND ? secret : NULL);
	k->idle_since_us = mono_now_us();
	pump(false);
}

static void on_failed(struct dbconn *conn)
{
	struct auth_conn *k = CONTAINER_OF(conn, struct auth_conn, conn);
	/* Whether a database exists is not told to who has not logged in. */
	bool no_database = strcmp(conn->sqlstate, "3D000") == 0;
	if (!no_database)
		complain(k, conn->error);
	give_up(k, !dbconn_was_refused(conn), no_database ? AUTH_QUERY_UNKNOWN : AUTH_QUERY_FAILED);
	conn_free(k);
	/* Not at once: what has just failed would fail again. */
	loop_timer_start(&self.timer, LOOK_US);
}

static const struct dbconn_ops ops = { .on_ready = on_ready, .on_result = on_result, .on_failed = on_failed };

/* The primary, or whoever is there: roles are the same on a replica.  Later tries go to other hosts. */
static struct host *pick_host(struct cluster *c, unsigned tries, struct net_addr *addr)
{
	struct host *primary = cluster_primary(c);
	uint32_t epoch;
	if (tries == 0 && primary && host_address(primary, addr, &epoch))
		return primary;
	for (unsigned i = 0; i < c->n_hosts; i++) {
		struct host *h = &c->hosts[(i + tries) % c->n_hosts];
		enum host_role role = host_role(h);
		if ((role == HOST_REPLICA || role == HOST_PRIMARY) && host_address(h, addr, &epoch))
			return h;
	}
	return NULL;
}

/* False: there is nowhere to go yet, and nothing has changed. */
static bool open_conn(struct auth_request *r)
{
	struct net_addr addr;
	struct host *h = pick_host(r->cluster, r->tries, &addr);
	if (!h)
		return false;
	struct auth_conn *k = mem_zalloc(sizeof *k);
	k->cluster = r->cluster;
	k->host = h;
	dbconn_identity_set(&k->identity, &r->identity.login, NULL);
	STAILQ_INIT(&k->batch);
	dbconn_init(&k->conn, self.m->loop, &ops);
	LIST_INSERT_HEAD(&self.conns, k, link);
	self.n_conns++;
	take_batch(k, r);
	const struct dbconn_settings s = {
		.host = h->name,
		.addr = &addr,
		.port = h->port,
		.login = k->identity.login,
		.tls = self.m->identity.tls,
		.options = settings,
	};
	if (dbconn_open(&k->conn, &s, mono_now_us() + COMMAND_TIMEOUT_US))
		return true;
	complain(k, k->conn.error);
	give_up(k, false, AUTH_QUERY_FAILED);
	conn_free(k);
	return true;
}

/* --- who is next --- */

static struct auth_conn *find_conn(const struct auth_request *r)
{
	struct auth_conn *k;
	LIST_FOREACH(k, &self.conns, link)
	{
		if (serves(k, r))
			return k;
	}
	return NULL;
}

/* Makes room for another database's connection; false: all are at work. */
static bool make_room(void)
{
	struct auth_conn *k;
	if (self.n_conns < CONNECTIONS_MAX)
		return true;
	LIST_FOREACH(k, &self.conns, link)
	{
		if (k->conn.state == DBCONN_IDLE) {
			conn_free(k);
			return true;
		}
	}
	return false;
}

/* Opened while there was no primary, or another one: what it says may be old. */
static bool is_second_best(const struct auth_conn *k, const struct auth_request *r)
{
	const struct host *primary = cluster_primary(k->cluster);
	return r->tries == 0 && primary && primary != k->host;
}

/* One step for the first request that something can be done for; false: there is none.  Second and later tries begin
 * from the timer only, a moment after the failure. */
static bool step(bool from_timer)
{
	struct auth_request *r;
	STAILQ_FOREACH(r, &self.waiting, link)
	{
		struct auth_conn *k = find_conn(r);
		if (k && k->conn.state == DBCONN_IDLE && is_second_best(k, r)) {
			conn_free(k);
			k = NULL;
		}
		if (k && k->conn.state == DBCONN_IDLE) {
			send_query(k, r);
			return true;
		}
		if (!k && (r->tries == 0 || from_timer) && make_room() && open_conn(r))
			return true;
	}
	return false;
}

static void pump(bool from_timer)
{
	while (step(from_timer))
		;
	if ((!STAILQ_EMPTY(&self.waiting) || self.n_conns) && !loop_timer_is_running(&self.timer))
		loop_timer_start(&self.timer, LOOK_US);
}

static void expire_waiting(uint64_t now_us)
{
	struct auth_request *r;
	struct request_list rest = STAILQ_HEAD_INITIALIZER(rest);
	while ((r = STAILQ_FIRST(&self.waiting))) {
		STAILQ_REMOVE_HEAD(&self.waiting, link);
		if (now_us >= r->deadline_us)
			answer(r, AUTH_QUERY_FAILED, NULL);
		else
			STAILQ_INSERT_TAIL(&rest, r, link);
	}
	STAILQ_CONCAT(&self.waiting, &rest);
}

static void on_timer(struct loop_timer *t)
{
	uint64_t now_us = mono_now_us();
	struct auth_conn *k, *next;
	(void)t;
	for (k = LIST_FIRST(&self.conns); k; k = next) {
		next = LIST_NEXT(k, link);
		if (k->conn.state == DBCONN_IDLE && now_us - k->idle_since_us >= IDLE_US)
			conn_free(k);
		else if (dbconn_check_deadline(&k->conn, now_us))
			break; /* k has gone, with others perhaps; the rest next time */
	}
	expire_waiting(now_us);
	pump(true);
}

/* --- the monitor's side --- */

void auth_query_start(struct monitor *m)
{
	STAILQ_INIT(&self.waiting);
	LIST_INIT(&self.conns);
	self.m = m;
	loop_timer_init(&self.timer, m->loop, on_timer);
	atomic_store(&monitor_loop, m->loop);
}

void auth_query_stop(void)
{
	atomic_store(&monitor_loop, NULL);
	while (!LIST_EMPTY(&self.conns)) {
		struct auth_conn *k = LIST_FIRST(&self.conns);
		answer_all(&k->batch, AUTH_QUERY_FAILED, NULL);
		conn_free(k);
	}
	answer_all(&self.waiting, AUTH_QUERY_FAILED, NULL);
	loop_timer_stop(&self.timer);
	self.m = NULL;
}
