/* proxy/server.c - see proxy/server.h: life of a server connection outside of login and relaying. */
#include "proxy/server.h"

#include <stdatomic.h>
#include <stdio.h>
#include "base/log.h"
#include "base/mem.h"
#include "base/rules.h"
#include "cluster/dbfacts.h"
#include "proxy/cancel.h"
#include "proxy/client.h"
#include "proxy/database.h"
#include "proxy/limits.h"
#include "proxy/notifiers.h"
#include "proxy/params.h"
#include "proxy/pool.h"
#include "proxy/relay.h"
#include "proxy/worker.h"
#include "wire/msg.h"

static _Atomic unsigned next_server_id = 1;

static const char *const state_names[SERVER_STATE_COUNT] = {
#define SERVER_STATE_NAME(id, doc) [SERVER_##id] = #id,
	SERVER_STATES(SERVER_STATE_NAME)
#undef SERVER_STATE_NAME
};
const char *server_state_name(enum server_state state) { return state_names[state]; }

#define BIT(id) (1u << SERVER_##id)
/* Which states may follow which; any may become CLOSING. */
static const unsigned legal_edges[SERVER_STATE_COUNT] = {
	[SERVER_CONNECTING] = BIT(TLS) | BIT(LOGIN),
	[SERVER_TLS] = BIT(LOGIN) | BIT(CONNECTING),
	[SERVER_LOGIN] = BIT(LINKED) | BIT(IDLE) | BIT(RESETTING),
	[SERVER_IDLE] = BIT(LINKED) | BIT(RESETTING),
	[SERVER_LINKED] = BIT(DRAINING) | BIT(RESETTING) | BIT(FENCED) | BIT(IDLE) | BIT(LINKED),
	[SERVER_DRAINING] = BIT(RESETTING) | BIT(FENCED) | BIT(IDLE) | BIT(LINKED),
	[SERVER_RESETTING] = BIT(IDLE) | BIT(LINKED) | BIT(FENCED) | BIT(RESETTING),
	[SERVER_FENCED] = BIT(IDLE) | BIT(LINKED) | BIT(RESETTING),
	[SERVER_CLOSING] = 0,
};

void server_set_state(struct server *s, enum server_state state)
{
	if (s->state == state)
		return;
	CHECK(state == SERVER_CLOSING || (legal_edges[s->state] >> state & 1u));
	log_debug(&((struct log_subject){ .kind = 'S', .id = s->id }), "%s -> %s", state_names[s->state],
	          state_names[state]);
	s->state = state;
}

/* --- request queue --- */

COLD bool requests_grow(struct request_queue *q)
{
	uint32_t cap = q->cap ? q->cap * 2 : 16, n = requests_len(q);
	struct request *ring = mem_try_alloc(cap * sizeof *ring);
	if (!ring)
		return false;
	for (uint32_t i = 0; i < n; i++)
		ring[i] = *requests_at(q, i);
	mem_free(q->ring);
	*q = (struct request_queue){ ring, 0, n, cap };
	return true;
}

/* --- events --- */

static void on_readable(struct stream *st)
{
	struct server *s = st->owner;
	if (s->state == SERVER_CONNECTING || s->state == SERVER_TLS || s->state == SERVER_LOGIN)
		server_login_readable(s);
	else
		relay_on_server_readable(s);
}

static void on_drained(struct stream *st)
{
	struct server *s = st->owner;
	relay_on_server_drained(s);
}

static void on_open(struct stream *st)
{
	struct server *s = st->owner;
	if (s->state == SERVER_CONNECTING)
		server_login_start(s);
	else
		server_login_tls_done(s);
}

static void on_failed(struct stream *st, const char *why)
{
	struct server *s = st->owner;
	char text[256];
	snprintf(text, sizeof text, "%s", why);
	server_close(s, text);
}

static const struct stream_ops server_ops = { on_readable, on_drained, on_open, on_failed };

/* --- opening --- */

/* What waits in the kernel for a busy backend the client believes to be sent: it would go on writing megabytes behind
 * an error that it could have read.  Enough for a backend that reads as fast as it can. */
enum { UNSENT_BYTES_MAX = 256 * 1024 };

static struct net_tuning tuning_of(const struct config *cfg)
{
	return (struct net_tuning){ .nodelay = true,
		                    .unsent_bytes = UNSENT_BYTES_MAX,
		                    .keepalive = cfg->tcp_keepalive,
		                    .keepidle_s = (int)(cfg->tcp_keepidle_us / 1000000),
		                    .keepintvl_s = (int)(cfg->tcp_keepintvl_us / 1000000),
		                    .keepcnt = cfg->tcp_keepcnt,
		                    .user_timeout_ms = cfg->tcp_user_timeout_ms };
}

static struct server *server_new(struct pool *p)
{
	struct server *s = mem_zalloc(sizeof *s);
	s->pool = p;
	s->id = atomic_fetch_add(&next_server_id, 1);
	s->state = SERVER_CONNECTING;
	s->tx = MSG_TX_IDLE;
	s->connected_us = loop_now_us(p->worker->loop);
	s->facts_no = dbfacts_open_no(p->du->facts);
	s->conn_epoch = p->conn_epoch;
	s->identity = p->du->identity;
	s->db_servers = limit_ref(p->du->db_servers);
	s->user_servers = limit_ref(p->du->user_servers);
	s->budget = p->budget;
	s->status = params_ref(p->worker->params.empty);
	s->profile = params_ref(p->worker->params.empty);
	s->base = params_ref(p->worker->params.empty);
	s->custom = params_ref(p->worker->params.empty);
	server_stmts_init(&s->stmts);
	sqlprep_init_server(s);
	TAILQ_INSERT_TAIL(&p->others, s, link);
	p->n_others++;
	p->n_connecting++;
	return s;
}

static void connect_now(struct server *s)
{
	struct pool *p = s->pool;
	struct net_addr addr;
	char why[256] = "the host's address is not known";
	if (!host_address(p->host, &addr, &s->address_epoch) ||
	    !stream_init_connect(&s->stream, p->worker->loop, &addr, &server_ops, s, why, sizeof why)) {
		server_close(s, why);
		return;
	}
	struct net_tuning tuning = tuning_of(p->du->config);
	net_tune(s->stream.fd, &tuning);
}

void server_open(struct pool *p) { connect_now(server_new(p)); }

struct server *server_open_dedicated(struct pool *p, struct client *c)
{
	struct server *s = server_new(p);
	p->n_connecting--;
	s->dedicated = true;
	s->client = c;
	connect_now(s);
	return s->state == SERVER_CLOSING ? NULL : s;
}

void server_note_status(struct server *s, struct str name, struct str value)
{
	params_set(&s->pool->worker->params, &s->status, name, value);
	if (str_ieq(name, STR("in_hot_standby")))
		s->is_replica = str_eq(value, STR("on"));
}

const char *server_status(const struct server *s, const char *name) { return params_get(s->status, name); }

/* --- closing --- */

static void server_free(struct loop_grave *grave)
{
	struct server *s = CONTAINER_OF(grave, struct server, grave);
	mem_free(s->reqs.ring);
	buf_deinit(&s->part);
	buf_deinit(&s->hold);
	explicit_bzero(s->cancel_key, sizeof s->cancel_key);
	notifier_remove(s->notifier);
	mem_free(s);
}

static void drop_worker_state(struct server *s)
{
	struct worker *w = s->pool->worker;
	server_stmts_clear(&s->stmts, &w->texts);
	sqlprep_clear_server(s);
	params_unref(&w->params, s->status);
	params_unref(&w->params, s->profile);
	params_unref(&w->params, s->pending);
	params_unref(&w->params, s->base);
	params_unref(&w->params, s->custom);
	s->status = s->profile = s->pending = s->base = s->custom = NULL;
}

static bool is_logging_in(const struct server *s)
{
	return s->state == SERVER_CONNECTING || s->state == SERVER_TLS || s->state == SERVER_LOGIN;
}

static void log_close(const struct server *s, const char *why, bool failed_login)
{
	struct log_subject about = {
		.kind = 'S', .id = s->id, .database = s->pool->du->database, .user = s->pool->du->server_user
	};
	/* PgBouncer's words, which log analysers look for. */
	unsigned long long age_s = (loop_now_us(s->pool->worker->loop) - s->connected_us) / 1000000;
	const char *host = s->pool->host->name;
	int port = s->pool->host->port;
	if (failed_login)
		log_warning(&about, "closing because: %s failed (age=%llus) for %s:%d: %s",
		            s->state == SERVER_CONNECTING ? "connect" : "login", age_s, host, port, why);
	else if (s->pool->du->config->log_disconnections)
		log_info(&about, "closing because: %s (age=%llus) for %s:%d", why, age_s, host, port);
}

static void say_terminate(struct server *s)
{
	static const uint8_t terminate[] = { MSG_TERMINATE, 0, 0, 0, 4 };
	(void)!stream_send(&s->stream, terminate, sizeof terminate);
}

void server_close(struct server *s, const char *why)
{
	if (s->state == SERVER_CLOSING)
		return;
	struct pool *p = s->pool;
	bool login = is_logging_in(s);
	struct pgerr err;
	log_close(s, why, login);
	if (login && !s->login_error_set)
		pgerr_set_fatal(&err, SQLSTATE_CONNECTION_FAILURE, "cannot connect to server %s:%d: %s", p->host->name,
		                p->host->port, why);
	else
		err = s->login_error;
	bool unexpected = stream_is_open(&s->stream) && !s->expected_close;
	if (s->state == SERVER_IDLE && !unexpected)
		say_terminate(s);
	stream_close(&s->stream);
	if (s->client)
		relay_on_server_lost(s, why);
	pool_on_server_gone(s);
	server_set_state(s, SERVER_CLOSING);
	server_login_free(s);
	if (s->cancels)
		cancel_forget_server(s);
	if (login && !s->dedicated) {
		p->n_connecting--;
		pool_on_server_failed(s, &err);
	}
	if (login || unexpected)
		cluster_report_suspect(p->du->db->cluster, p->host);
	drop_worker_state(s);
	s->grave.free_fn = server_free;
	loop_bury(p->worker->loop, &s->grave);
	if (!login && p->n_waiters)
		pool_grow(p);
}

void server_abandon(struct server *s, const char *why)
{
	if (s->state != SERVER_CLOSING && !is_logging_in(s))
		cancel_server(s, NULL);
	s->expected_close = true;
	server_close(s, why);
}

/* --- between clients --- */

void server_run_reset(struct server *s, enum reset_kind kind, const char *sql)
{
	struct buf out = { 0 };
	struct wire_writer ww;
	struct request *r = requests_push(&s->reqs);
	server_set_state(s, SERVER_RESETTING);
	s->resetting = kind;
	server_stmts_set_unnamed(&s->stmts, &s->pool->worker->texts, NULL); /* a simple Query drops it */
	ww_init(&ww, &out);
	msg_put_query(&ww, str_of(sql));
	if (!r || !ww_finish(&ww)) {
		buf_deinit(&out);
		server_close(s, "out of memory");
		return;
	}
	*r = (struct request){ .kind = REQ_QUERY, .flags = REQF_SWALLOW };
	s->error_seen = false;
	enum stream_sent sent = stream_send(&s->stream, buf_head(&out), buf_len(&out));
	buf_deinit(&out);
	if (sent == STREAM_BROKEN)
		server_close(s, stream_last_error());
}

bool server_is_misplaced(const struct server *s)
{
	return s->close_needed ||
	       s->address_epoch != atomic_load_explicit(&s->pool->host->address_epoch, memory_order_acquire);
}

bool server_is_outdated(const struct server *s)
{
	return server_is_misplaced(s) || s->conn_epoch != s->pool->conn_epoch || s->identity != s->pool->du->identity;
}

/* With server_lifetime = 0 each connection is used once. */
static bool lived_long_enough(const struct server *s)
{
	const struct dbuser *du = s->pool->du;
	return loop_now_us(s->pool->worker->loop) - s->connected_us >=
	       config_server_lifetime_us(du->config, du->conf, du->pool_user);
}

static bool must_close(const struct server *s)
{
	/* base: opened with one client's settings, to which RESET would lead the next one. */
	return s->dirty || s->doubted || s->dedicated || (s->base->n > 1 && s->needs_reset_query) ||
	       server_is_outdated(s) || lived_long_enough(s);
}

void server_settle_profile(struct server *s)
{
	struct params_table *t = &s->pool->worker->params;
	if (s->pending) {
		/* After an error it is what it was before. */
		if (!s->tx_spoiled || RULE_BROKEN(C7)) {
			params_unref(t, s->profile);
			s->profile = params_ref(s->pending);
		}
		params_unref(t, s->pending);
		s->pending = NULL;
	}
	s->tx_spoiled = false;
}

void server_reset_done(struct server *s)
{
	struct params_table *t = &s->pool->worker->params;
	bool failed = s->error_seen;
	s->error_seen = false;
	if (failed || s->tx != MSG_TX_IDLE) {
		server_close(s, "reset failed");
		return;
	}
	if (s->checking)
		pool_check_done(s);
	if (s->resetting == RESET_ROLLBACK || s->resetting == RESET_COMMIT) {
		s->tx_spoiled |= s->resetting == RESET_ROLLBACK;
		server_settle_profile(s);
	} else if (s->resetting == RESET_FULL || s->resetting == RESET_QUERY) {
		bool unknown = s->resetting == RESET_QUERY;
		params_unref(t, s->pending);
		s->pending = NULL;
		params_unref(t, s->profile);
		s->profile = unknown ? NULL : params_ref(s->base);
		s->suspect = s->tx_spoiled = s->needs_reset_query = false;
		s->sequences_of = unknown ? s->sequences_of : 0;
		/* The query may have dropped the statements or not: each is closed before it is prepared again. */
		server_stmts_doubt(&s->stmts);
		sqlprep_note_left(s);
		server_stmts_set_unnamed(&s->stmts, &s->pool->worker->texts, NULL);
	}
	s->resetting = RESET_NOTHING;
	server_release(s);
}

static enum reset_kind reset_kind_of(const char *sql)
{
	struct str text = str_trim(str_of(sql));
	if (text.n && text.p[text.n - 1] == ';')
		text.n--;
	return str_ieq(text, STR("DISCARD ALL")) ? RESET_FULL : RESET_QUERY;
}

/* E4: the next client's random() must not be what the last one has made of it. */
static void seed(struct server *s)
{
	char sql[80];
	double r = (double)(worker_random(s->pool->worker) >> 11) / (double)(1ull << 52) - 1;
	snprintf(sql, sizeof sql, "SELECT pg_catalog.setseed(%.17f)", r);
	server_run_reset(s, RESET_SEED, sql);
}

/* Every way back to the pool leads through here, as often as it takes: each step ends in this function again. */
void server_release(struct server *s)
{
	const struct dbuser *du = s->pool->du;
	CHECK(s->client == NULL);
	if (s->state == SERVER_CLOSING)
		return;
	if (s->ended) {
		server_close(s, "the server ended the connection");
		return;
	}
	if (requests_len(&s->reqs)) {
		server_set_state(s, SERVER_DRAINING);
		return;
	}
	if (must_close(s) || (s->pinned && !pool_unpin(s))) {
		s->expected_close = true;
		server_close(s, s->dirty || s->doubted || s->pinned ? "its client's session state went with it"
		                                                    : "database configuration changed");
		return;
	}
	if (s->cancels && !RULE_BROKEN(G3)) {
		server_set_state(s, SERVER_FENCED);
		return;
	}
	bool commits = s->only_read && s->tx == MSG_TX_OPEN;
	s->only_read = false;
	if (s->tx != MSG_TX_IDLE) {
		server_run_reset(s, commits ? RESET_COMMIT : RESET_ROLLBACK, commits ? "COMMIT" : "ROLLBACK");
		return;
	}
	if (s->profile == NULL || s->suspect) {
		server_run_reset(s, RESET_FULL, "DISCARD ALL");
		return;
	}
	if (s->seeded && !RULE_BROKEN(E4)) {
		s->seeded = false;
		seed(s);
		return;
	}
	if (s->needs_reset_query && *du->config->server_reset_query) {
		s->needs_reset_query = false;
		server_run_reset(s, reset_kind_of(du->config->server_reset_query), du->config->server_reset_query);
		return;
	}
	pool_put(s->pool, s);
}

/* --- changing worker --- */

struct server_move {
	struct loop_msg msg;
	struct server *s;
	struct worker *to;
	struct host *host;
	struct pool_budget *budget; /* owned reference: the pool that it leaves may be forgotten meanwhile */
	char *status;               /* owned: key of a params set, portable between workers */
	size_t status_len;
	char *base; /* owned: the same of server.base */
	size_t base_len;
	char *custom; /* owned: the same of server.custom */
	size_t custom_len;
	char *key; /* owned: the pool's */
	size_t key_len;
};

static void move_free(struct server_move *m)
{
	pool_budget_unref(m->budget);
	mem_free(m->status);
	mem_free(m->base);
	mem_free(m->custom);
	mem_free(m->key);
	mem_free(m);
}

/* The statements and settings of the other worker's tables mean nothing here: one DISCARD ALL makes it as new. */
static void on_move(struct loop *loop, struct loop_msg *msg)
{
	struct server_move *m = CONTAINER_OF(msg, struct server_move, msg);
	struct server *s = m->s;
	struct pool *p;
	HASH_FIND(hh, m->to->pools, m->key, m->key_len, p);
	if (!p) {
		/* Only a worker that waits in this pool is given a server: it has shut down, or forgotten the pool. */
		stream_close(&s->stream);
		pool_uncount(s);
		server_free(&s->grave);
		move_free(m);
		return;
	}
	s->pool = p;
	s->conn_epoch = p->conn_epoch;
	s->status = params_from_key(&m->to->params, m->status, m->status_len);
	s->base = params_from_key(&m->to->params, m->base, m->base_len);
	s->custom = params_from_key(&m->to->params, m->custom, m->custom_len);
	s->profile = params_ref(s->base);
	if (!s->is_replica && p->du->primary_isolation == 0)
		p->du->primary_isolation = s->default_isolation; /* this worker has not logged in itself yet (C2) */
	TAILQ_INSERT_TAIL(&p->others, s, link);
	p->n_others++;
	s->move = NULL;
	move_free(m);
	stream_attach(&s->stream, loop);
	server_run_reset(s, RESET_FULL, "DISCARD ALL");
}

static char *copy_of(const char *p, size_t n)
{
	char *copy = mem_alloc(n);
	memcpy(copy, p, n);
	return copy;
}

void server_move_to(struct server *s, struct worker *target)
{
	struct pool *p = s->pool;
	struct server_move *m = mem_zalloc(sizeof *m);
	*m = (struct server_move){
		.msg.fn = on_move, .s = s, .to = target, .host = p->host, .budget = pool_budget_ref(s->budget)
	};
	m->status_len = s->status->key_len;
	m->status = copy_of(s->status->key, m->status_len);
	m->base_len = s->base->key_len;
	m->base = copy_of(s->base->key, m->base_len);
	m->custom_len = s->custom->key_len;
	m->custom = copy_of(s->custom->key, m->custom_len);
	m->key_len = p->key_len;
	m->key = copy_of(p->key, m->key_len);
	TAILQ_REMOVE(&p->others, s, link);
	p->n_others--;
	drop_worker_state(s);
	server_stmts_init(&s->stmts);
	sqlprep_init_server(s);
	s->move = m;
	stream_detach(&s->stream);
	loop_post(target->loop, &m->msg);
}
