/* proxy/client.c - see proxy/client.h: a client's events, input buffer, state and end. */
#include "proxy/client.h"

#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>
#include "base/mem.h"
#include "proxy/cancel.h"
#include "proxy/client_login.h"
#include "proxy/consistency.h"
#include "proxy/database.h"
#include "proxy/dormant.h"
#include "proxy/limits.h"
#include "proxy/listens.h"
#include "proxy/local.h"
#include "proxy/lostcommit.h"
#include "proxy/measure.h"
#include "proxy/params.h"
#include "proxy/plan.h"
#include "proxy/pool.h"
#include "proxy/relay_priv.h"
#include "proxy/replay.h"
#include "proxy/scopes.h"
#include "proxy/sqlprep.h"
#include "proxy/worker.h"
#include "sql/shapes.h"
#include "wire/msg.h"

enum { OUTPUT_PENDING_MAX = 64 * 1024 };

static _Atomic unsigned next_client_id = 1;

static const char *const state_names[CLIENT_STATE_COUNT] = {
#define CLIENT_STATE_NAME(id, doc) [CLIENT_##id] = #id,
	CLIENT_STATES(CLIENT_STATE_NAME)
#undef CLIENT_STATE_NAME
};
const char *client_state_name(enum client_state state) { return state_names[state]; }

#define BIT(id) (1u << CLIENT_##id)
#define WORKING                                                                                                        \
	(BIT(IDLE) | BIT(WAIT_FRESH) | BIT(WAIT_PRIMARY) | BIT(WAIT_QUIET) | BIT(WAIT_SERVER) | BIT(ACTIVE) |          \
	 BIT(WAIT_OUTCOME) | BIT(WAIT_LISTEN))
/* Which states may follow which; any may become CLOSING. */
static const unsigned legal_edges[CLIENT_STATE_COUNT] = {
	[CLIENT_STARTUP] = BIT(TLS) | BIT(AUTH) | BIT(CANCEL),
	[CLIENT_TLS] = BIT(STARTUP),
	[CLIENT_AUTH] = BIT(WELCOME) | BIT(IDLE) | BIT(LOCAL) | BIT(RAW),
	[CLIENT_WELCOME] = WORKING,
	[CLIENT_IDLE] = WORKING,
	[CLIENT_WAIT_FRESH] = WORKING,
	[CLIENT_WAIT_PRIMARY] = WORKING,
	[CLIENT_WAIT_QUIET] = WORKING,
	[CLIENT_WAIT_SERVER] = WORKING,
	[CLIENT_ACTIVE] = WORKING,
	[CLIENT_WAIT_OUTCOME] = BIT(IDLE),
	[CLIENT_WAIT_LISTEN] = BIT(IDLE),
};

void client_set_state(struct client *c, enum client_state state)
{
	if (c->state == state)
		return;
	CHECK(state == CLIENT_CLOSING || (legal_edges[c->state] >> state & 1u));
	c->state = state;
}

struct log_subject client_subject(const struct client *c)
{
	return (struct log_subject){ .kind = 'C',
		                     .id = c->id,
		                     .database = c->du ? c->du->database : NULL,
		                     .user = c->du ? c->du->user : NULL,
		                     .application = c->application };
}

/* --- input --- */

/* Room for one more read, or false: the buffer is as full as it may get. */
static bool make_room(struct client *c)
{
	size_t limit = c->emitted + SEGMENT_BYTES_MAX + FRAME_HEAD_BYTES;
	if (!c->in.data && !worker_block_get(c->worker, &c->in)) {
		client_close(c, NULL, "out of memory");
		return false;
	}
	if (buf_len(&c->in) >= limit)
		return false;
	bool streams = c->copy == COPY_IN || c->raw_left || c->state == CLIENT_RAW;
	size_t want = streams ? SEGMENT_BYTES_MAX : buf_room(&c->in) ? 1 : c->in.cap;
	if (buf_len(&c->in) + want > limit)
		want = limit - buf_len(&c->in);
	if (!buf_reserve(&c->in, want)) {
		client_close(c, NULL, "out of memory");
		return false;
	}
	return true;
}

static void on_readable(struct stream *st)
{
	struct client *c = st->owner;
	if (UNLIKELY(c->state == CLIENT_STARTUP) && client_login_starts_with_tls(c))
		return;
	if (UNLIKELY(c->replay != NULL) && replay_is_running(c)) {
		stream_want_read(&c->stream, false);
		return;
	}
	if (!make_room(c)) {
		if (c->state != CLIENT_CLOSING)
			stream_want_read(&c->stream, false);
		return;
	}
	ssize_t n = stream_read(&c->stream, buf_tail(&c->in), buf_room(&c->in));
	if (n == STREAM_AGAIN)
		return;
	if (n <= 0) {
		client_close(c, NULL,
		             n == STREAM_EOF ? "client closed the connection" : "connection to the client was lost");
		return;
	}
	c->in.tail += (size_t)n;
	c->worker->stats.total.received_bytes += (uint64_t)n;
	if (c->du)
		c->du->stats.received_bytes += (uint64_t)n;
	client_process(c);
}

static void drop_raw(struct client *c)
{
	size_t n = buf_len(&c->in) < c->raw_left ? buf_len(&c->in) : (size_t)c->raw_left;
	buf_consume(&c->in, n);
	c->raw_left -= n;
}

static void pass_raw(struct client *c)
{
	size_t n = buf_len(&c->in);
	struct server *s = c->srv;
	if (!s || !n)
		return;
	enum stream_sent sent = stream_send(&s->stream, buf_head(&c->in), n);
	buf_consume(&c->in, n);
	if (sent == STREAM_BROKEN)
		server_close(s, "connection to the server was lost");
	else if (sent == STREAM_BLOCKED)
		stream_want_read(&c->stream, false);
}

bool client_has_session_server(const struct client *c)
{
	return c->du && c->du->pool_mode == POOL_MODE_SESSION && (c->kept[0] || c->kept[1]);
}

/* A request that has not begun is not begun any more: nothing of it has run. */
static bool must_leave(const struct client *c)
{
	return UNLIKELY(c->worker->draining) && c->state == CLIENT_IDLE && c->tx == CTX_NONE &&
	       !client_has_session_server(c);
}

static COLD void leave(struct client *c)
{
	struct pgerr err;
	pgerr_set_fatal(&err, SQLSTATE_ADMIN_SHUTDOWN, "terminating connection due to administrator command");
	client_close(c, &err, "shutting down");
}

static void process_idle(struct client *c)
{
	if (must_leave(c)) {
		leave(c);
		return;
	}
	while (c->state == CLIENT_IDLE && buf_len(&c->in)) {
		if (stream_pending(&c->stream) > OUTPUT_PENDING_MAX)
			return; /* on_drained looks again */
		if (c->raw_left && c->raw_drop)
			drop_raw(c);
		else if (!relay_next_segment(c) && c->state == CLIENT_IDLE && !c->raw_left)
			return;
	}
}

static void process_once(struct client *c)
{
	switch (c->state) {
	case CLIENT_STARTUP:
	case CLIENT_AUTH:
		client_login_process(c);
		process_idle(c);
		relay_continue(c);
		return;
	case CLIENT_IDLE:
		process_idle(c);
		relay_continue(c); /* an open segment's next part may be there already */
		return;
	case CLIENT_ACTIVE:
		relay_continue(c);
		return;
	case CLIENT_LOCAL:
		client_local_handler()->request(c);
		return;
	case CLIENT_RAW:
		pass_raw(c);
		return;
	case CLIENT_TLS:
	case CLIENT_WELCOME:
	case CLIENT_WAIT_FRESH:
	case CLIENT_WAIT_PRIMARY:
	case CLIENT_WAIT_QUIET:
	case CLIENT_WAIT_SERVER:
	case CLIENT_WAIT_OUTCOME:
	case CLIENT_WAIT_LISTEN:
	case CLIENT_CANCEL:
	case CLIENT_CLOSING:
	case CLIENT_STATE_COUNT:
		return;
	}
}

static void update_reading(struct client *c)
{
	if (c->state == CLIENT_CLOSING || c->state == CLIENT_TLS)
		return;
	if (buf_len(&c->in) == 0 && c->in.data)
		worker_block_put(c->worker, &c->in);
	bool full = buf_len(&c->in) >= c->emitted + SEGMENT_BYTES_MAX + FRAME_HEAD_BYTES;
	bool blocked = c->srv && stream_pending(&c->srv->stream) && c->state != CLIENT_IDLE;
	if (c->state == CLIENT_RAW && !(c->srv && c->srv->state == SERVER_LINKED))
		return;
	stream_want_read(&c->stream, !full && !blocked && !(c->replay && replay_is_running(c)));
}

void client_process(struct client *c)
{
	if (c->busy) {
		c->look_again = true;
		return;
	}
	c->busy = true;
	do {
		c->look_again = false;
		process_once(c);
	} while (c->look_again && c->state != CLIENT_CLOSING);
	c->busy = false;
	if (UNLIKELY(c->listens != NULL))
		listens_flush(c);
	update_reading(c);
}

/* --- output --- */

bool client_send(struct client *c, const void *p, size_t n)
{
	if (c->state == CLIENT_CLOSING)
		return false;
	c->sent_bytes += n;
	c->worker->stats.total.sent_bytes += n;
	if (c->du)
		c->du->stats.sent_bytes += n;
	if (stream_send(&c->stream, p, n) != STREAM_BROKEN)
		return true;
	client_close(c, NULL, "connection to the client was lost");
	return false;
}

static void on_drained(struct stream *st)
{
	struct client *c = st->owner;
	relay_on_client_drained(c);
	if (c->state == CLIENT_IDLE || c->state == CLIENT_LOCAL)
		client_process(c);
}

static void on_open(struct stream *st)
{
	struct client *c = st->owner;
	client_login_tls_done(c);
}

static void on_failed(struct stream *st, const char *why)
{
	struct client *c = st->owner;
	char text[256];
	snprintf(text, sizeof text, "%s", why);
	client_close(c, NULL, text);
}

static const struct stream_ops client_ops = { on_readable, on_drained, on_open, on_failed };

/* --- life --- */

struct client *client_accept(struct worker *w, int fd, const struct net_addr *peer, bool is_unix)
{
	struct client *c = client_memory_new(w, peer);
	c->id = atomic_fetch_add(&next_client_id, 1);
	c->startup = params_ref(w->params.empty);
	c->profile = params_ref(w->params.empty);
	c->view = params_ref(w->params.empty);
	c->sql_options.std_strings = true;
	c->connected_us = c->request_us = loop_now_us(w->loop);
	TAILQ_INSERT_TAIL(&w->clients, c, link);
	stream_init_accepted(&c->stream, w->loop, fd, &client_ops, c);
	client_login_start(c, is_unix);
	stream_want_read(&c->stream, true);
	return c;
}

void client_take_stream(struct client *c, struct stream *from) { stream_move(&c->stream, from, &client_ops, c); }

static void client_free(struct loop_grave *grave)
{
	struct client *c = CONTAINER_OF(grave, struct client, grave);
	mem_free(c->application);
	scopes_free(c);
	mem_free(c->failure);
	client_memory_free(grave);
}

static void leave_queue(struct client *c)
{
	switch ((int)c->state) {
	case CLIENT_WAIT_FRESH:
		consistency_unwait(c);
		return;
	case CLIENT_WAIT_PRIMARY:
	case CLIENT_WAIT_QUIET:
		TAILQ_REMOVE(&c->worker->role_wait, c, wait);
		return;
	case CLIENT_WAIT_SERVER:
		pool_unwait(c->pool, c);
		return;
	default:
		return;
	}
}

static void say_goodbye(struct client *c, const struct pgerr *err)
{
	struct wire_writer ww;
	struct buf out = { 0 };
	ww_init(&ww, &out);
	msg_put_error(&ww, err);
	if (ww_finish(&ww) && stream_send(&c->stream, buf_head(&out), buf_len(&out)) != STREAM_BROKEN)
		stream_discard_input(&c->stream);
	buf_deinit(&out);
}

static void log_close(const struct client *c, const struct pgerr *err, const char *why)
{
	struct log_subject about = client_subject(c);
	const struct config *cfg = c->worker->runtime->config;
	/* PgBouncer's words, which log analysers look for. */
	unsigned long long age_s = (loop_now_us(c->worker->loop) - c->connected_us) / 1000000;
	if (err && cfg->log_pooler_errors)
		log_warning(&about, "closing because: %s (age=%llus)", err->message, age_s);
	else if (why && cfg->log_disconnections && c->du)
		log_info(&about, "closing because: %s (age=%llus)", why, age_s);
}

void client_close(struct client *c, const struct pgerr *err, const char *why)
{
	struct worker *w = c->worker;
	if (c->state == CLIENT_CLOSING)
		return;
	log_close(c, err, why);
	if (err && (stream_is_open(&c->stream))) {
		measure_error(c, err->sqlstate);
		say_goodbye(c, err);
	}
	leave_queue(c);
	relay_on_client_gone(c);
	if (c->state == CLIENT_LOCAL)
		client_local_handler()->close(c);
	client_set_state(c, CLIENT_CLOSING);
	cancel_unregister(c);
	measure_client_gone(c);
	if (c->counted) {
		limit_give_back(c->du->db_clients);
		limit_give_back(c->du->user_clients);
		dbuser_client_left(c->du);
	}
	stream_close(&c->stream);
	client_login_free(c);
	lostcommit_free(c);
	replay_free(c);
	listens_free(c);
	client_stmts_deinit(&c->stmts, &w->texts);
	sqlprep_clear_client(c);
	shape_unref(c->seg.shape);
	c->seg.shape = NULL;
	relay_drop_scan(c);
	params_unref(&w->params, c->profile);
	params_unref(&w->params, c->startup);
	params_unref(&w->params, c->home);
	params_unref(&w->params, c->base);
	params_unref(&w->params, c->session);
	params_unref(&w->params, c->asked);
	params_unref(&w->params, c->custom);
	params_unref(&w->params, c->maybe_custom);
	params_unref(&w->params, c->view);
	if (c->in.data)
		worker_block_put(w, &c->in);
	TAILQ_REMOVE(&w->clients, c, link);
	atomic_fetch_sub(&w->n_clients, 1);
	c->grave.free_fn = client_free;
	loop_bury(w->loop, &c->grave);
}

/* Where the failed segment ends in the input, and whether its Sync is still to come. */
static void drop_failed_segment(struct client *c, const struct pgerr *err)
{
	struct worker *w = c->worker;
	bool begun = c->emitted || !c->seg.kept || c->seg.open || c->raw_left;
	enum segment_end end = c->seg.open ? SEGMENT_OPEN : SEGMENT_SYNC;
	if (c->raw_left)
		c->raw_drop = true;
	relay_drop_scan(c);
	if (begun) {
		buf_consume(&c->in, c->emitted);
	} else {
		struct segment *seg = relay_scan(c);
		end = relay_discard_large(c, seg);
		buf_consume(&c->in, seg->len);
		relay_drop_scan(c);
	}
	c->emitted = 0;
	c->seg.checking = 0;
	c->seg.open = c->seg.kept = false;
	c->copy = COPY_NONE;
	client_stmts_clear_sent(&c->stmts, &w->texts);
	(void)!local_reject(c, end, err);
}

void client_fail_segment(struct client *c, const struct pgerr *err)
{
	if (c->state != CLIENT_IDLE) {
		leave_queue(c);
		client_set_state(c, CLIENT_IDLE);
	}
	if (replay_is_running(c)) {
		replay_fail(c, err);
		return;
	}
	if (c->tx == CTX_OPEN || c->tx == CTX_FAILED)
		c->tx = CTX_LOST;
	drop_failed_segment(c, err);
	client_process(c);
}

/* --- time-outs --- */

void client_notify_waiting(struct client *c)
{
	struct pgerr notice;
	struct wire_writer ww;
	struct buf out = { 0 };
	if (c->wait_notified || c->seg.welcome)
		return;
	c->wait_notified = true;
	pgerr_set(&notice, SQLSTATE_SUCCESSFUL_COMPLETION,
	          "No server connection available in postgres backend, client being queued");
	notice.severity = PGERR_NOTICE;
	ww_init(&ww, &out);
	msg_put_error(&ww, &notice);
	if (ww_finish(&ww))
		(void)!client_send(c, buf_head(&out), buf_len(&out));
	buf_deinit(&out);
}

static void time_out(struct client *c, enum sqlstate id, const char *text)
{
	struct pgerr err;
	pgerr_set_fatal(&err, id, "%s", text);
	client_close(c, &err, text);
}

static void give_up_waiting(struct client *c)
{
	struct pgerr err;
	pgerr_set(&err, SQLSTATE_CANNOT_CONNECT_NOW, "there is no primary server");
	pgerr_detail(&err, "None appeared within failover_timeout.");
	if (c->seg.welcome) {
		err.severity = PGERR_FATAL;
		client_close(c, &err, err.message);
	} else {
		client_fail_segment(c, &err);
	}
}

static bool keeps_outdated(const struct client *c)
{
	for (int i = 0; i < 2; i++) {
		if (c->kept[i] && server_is_outdated(c->kept[i]))
			return true;
	}
	return false;
}

static bool is_waiting(const struct client *c)
{
	return c->state == CLIENT_WAIT_SERVER || c->state == CLIENT_WAIT_PRIMARY || c->state == CLIENT_WAIT_FRESH ||
	       c->state == CLIENT_WAIT_QUIET || c->state == CLIENT_WAIT_LISTEN;
}

/* When what the client waits for was asked for: the answer to a query is due by then, wherever the time goes; its
 * greeting too.  A causal token is no segment: it waits in WAIT_FRESH, as reads do for a moment. */
static uint64_t asked_us(const struct client *c)
{
	return c->state == CLIENT_WAIT_FRESH ? c->wait_since_us : c->seg.started_us;
}

void client_tick(struct client *c, uint64_t now_us)
{
	if (client_login_is_too_old(c, now_us)) {
		time_out(c, SQLSTATE_CONNECTION_REJECTED, "client_login_timeout");
		return;
	}
	if (!c->du)
		return;
	const struct dbuser *du = c->du;
	uint64_t limit;
	if (c->state == CLIENT_RAW) {
		relay_try_raw(c, now_us);
		return;
	}
	if (UNLIKELY(c->listens != NULL) && listens_is_elsewhere(c)) {
		time_out(c, SQLSTATE_ADMIN_SHUTDOWN, "database configuration changed");
		return;
	}
	limit = config_query_timeout_us(du->config, du->conf, du->conf_user, c->conf_app);
	if (limit && (c->state == CLIENT_ACTIVE || is_waiting(c)) && now_us - asked_us(c) >= limit) {
		time_out(c, SQLSTATE_QUERY_CANCELED, is_waiting(c) ? "query_timeout" : "query timeout");
		return;
	}
	if (c->state == CLIENT_WAIT_PRIMARY && now_us >= c->primary_deadline_us) {
		give_up_waiting(c);
		return;
	}
	limit = config_transaction_timeout_us(du->config, du->conf, du->conf_user, c->conf_app);
	if (limit && c->tx != CTX_NONE && c->xact_us && now_us - c->xact_us >= limit) {
		time_out(c, SQLSTATE_TRANSACTION_TIMEOUT, "transaction timeout");
		return;
	}
	if (c->state != CLIENT_IDLE)
		return;
	if (du->config->server_fast_close && c->tx == CTX_NONE && keeps_outdated(c)) {
		time_out(c, SQLSTATE_ADMIN_SHUTDOWN, "database configuration changed");
		return;
	}
	limit = config_idle_transaction_timeout_us(du->config, du->conf, du->conf_user, c->conf_app);
	if (limit && c->tx != CTX_NONE && now_us - c->request_us >= limit) {
		time_out(c, SQLSTATE_IDLE_IN_TRANSACTION_TIMEOUT, "idle transaction timeout");
		return;
	}
	limit = config_client_idle_timeout_us(du->config, du->conf, du->conf_user, c->conf_app);
	if (limit && c->tx == CTX_NONE && now_us - c->request_us >= limit)
		time_out(c, SQLSTATE_IDLE_SESSION_TIMEOUT, "client_idle_timeout");
}
