/* proxy/relay.c - see proxy/relay.h: from a client's segment to a server, and what happens at its end.  The way back,
 * message by message, is reply.c. */
#include "proxy/relay.h"

#include <stdio.h>
#include "base/log.h"
#include "base/mem.h"
#include "base/mono.h"
#include "base/rules.h"
#include "cluster/dbfacts.h"
#include "proxy/afterstep.h"
#include "proxy/cancel.h"
#include "proxy/clearing.h"
#include "proxy/client_login.h"
#include "proxy/consistency.h"
#include "proxy/database.h"
#include "proxy/emit.h"
#include "proxy/listens.h"
#include "proxy/local.h"
#include "proxy/lostcommit.h"
#include "proxy/measure.h"
#include "proxy/moving.h"
#include "proxy/notifiers.h"
#include "proxy/params.h"
#include "proxy/pins.h"
#include "proxy/plan.h"
#include "proxy/pool.h"
#include "proxy/relay_priv.h"
#include "proxy/replay.h"
#include "proxy/scopes.h"
#include "proxy/settings.h"
#include "proxy/token.h"
#include "proxy/tracking.h"
#include "proxy/unnamed.h"
#include "proxy/worker.h"
#include "sql/shapes.h"
#include "wire/msg.h"

/* --- linking --- */

/* A kept server that is not at work is read only while no other one is: what it says of itself must not come in the
 * middle of an answer. */
static COLD void watch_each_kept(struct client *c, bool on)
{
	for (int i = 0; i < 2; i++) {
		if (c->kept[i] && c->kept[i] != c->srv)
			stream_want_read(&c->kept[i]->stream, on);
	}
}

static inline void watch_kept(struct client *c, bool on)
{
	if (UNLIKELY(c->kept[0] || c->kept[1]))
		watch_each_kept(c, on);
}

void relay_link(struct client *c, struct server *s)
{
	CHECK(c->srv == NULL && (s->client == NULL || s->client == c));
	c->srv = s;
	if (c->maybe_custom) /* a transaction that has moved here */
		tracking_note_names(c, s, c->maybe_custom);
	watch_kept(c, false);
	stream_want_read(&s->stream, true);
	if (s->client == c)
		return; /* kept from an earlier transaction */
	s->client = c;
	s->needs_reset_query |= c->du->config->server_reset_query_always;
	server_set_state(s, SERVER_LINKED);
	s->linked_us = loop_now_us(c->worker->loop);
	c->worker->stats.total.server_assignments++;
	c->du->stats.server_assignments++;
}

void relay_unlink(struct client *c)
{
	struct server *s = c->srv;
	CHECK(s && s->client == c);
	pool_note_use(s->pool, loop_now_us(c->worker->loop) - s->linked_us);
	c->srv = NULL;
	s->client = NULL;
	s->skipping = s->copy_sync = s->owes_sync = s->prelude_failed = false;
	buf_deinit(&s->hold);
	stream_want_read(&s->stream, true);
	watch_kept(c, true);
}

static enum server_role role_of(const struct server *s)
{
	return host_role(s->pool->host) == HOST_PRIMARY ? ROLE_PRIMARY : s->is_replica ? ROLE_REPLICA : ROLE_PRIMARY;
}

void relay_forget_kept(struct client *c, const struct server *s)
{
	for (int i = 0; i < 2; i++) {
		if (c->kept[i] == s)
			c->kept[i] = NULL;
	}
}

static bool keeps_servers(const struct client *c) { return c->pins || c->du->pool_mode == POOL_MODE_SESSION; }

void relay_give_back(struct client *c)
{
	struct server *s = c->srv;
	relay_forget_kept(c, s);
	relay_unlink(c);
	server_release(s);
}

/* The transaction is over: the server goes back, or stays with a client that may not let go of it. */
static void let_go(struct client *c)
{
	struct server *s = c->srv;
	enum server_role role = role_of(s);
	if (keeps_servers(c) && (c->kept[role] == s || !c->kept[role]) && s->state != SERVER_CLOSING) {
		c->kept[role] = s;
		c->srv = NULL;
		/* Values of sequences are forgotten in front of the next client's transaction (E3). */
		s->needs_reset_query |= c->pins != SQL_PIN_SEQUENCE;
		watch_kept(c, true);
		return;
	}
	relay_give_back(c);
}

/* --- asking for a server --- */

static void wait_for_primary(struct client *c)
{
	struct worker *w = c->worker;
	client_set_state(c, CLIENT_WAIT_PRIMARY);
	if (c->primary_deadline_us == 0)
		c->primary_deadline_us =
		    loop_now_us(w->loop) + config_failover_timeout_us(c->du->config, c->du->conf, c->du->conf_user);
	c->wait_since_us = loop_now_us(w->loop);
	TAILQ_INSERT_TAIL(&w->role_wait, c, wait);
}

static void to_primary(struct client *c)
{
	if (c->seg.role == ROLE_REPLICA && c->fresh_deadline_us)
		c->worker->stats.total.fresh_timeouts++;
	c->seg.role = ROLE_PRIMARY;
}

/* B1: to go on would show the client a state from before what it has read. */
static void fail_move(struct client *c)
{
	struct pgerr err;
	pgerr_set(&err, SQLSTATE_SERIALIZATION_FAILURE,
	          "the primary does not show yet what this transaction has read on a replica");
	pgerr_detail(&err, "A commit waits for its synchronous standby.");
	client_fail_segment(c, &err);
}

static struct host *pick_host(struct client *c, bool *waits)
{
	struct host *host = NULL;
	*waits = false;
	if (UNLIKELY(c->quiet != NULL) && clearing_waits(c)) {
		*waits = true;
		client_set_state(c, CLIENT_WAIT_QUIET);
		c->wait_since_us = loop_now_us(c->worker->loop);
		TAILQ_INSERT_TAIL(&c->worker->role_wait, c, wait);
		return NULL;
	}
	if (c->seg.role == ROLE_REPLICA) {
		switch (consistency_choose(c, &host)) {
		case CHOICE_HOST:
			return host;
		case CHOICE_WAIT:
			*waits = true;
			consistency_wait(c);
			return NULL;
		case CHOICE_NONE:
			to_primary(c);
		}
	}
	host = cluster_primary(c->du->db->cluster);
	if (!host) {
		*waits = true;
		wait_for_primary(c);
		return NULL;
	}
	switch (consistency_may_move(c, host)) {
	case CHOICE_HOST:
		break;
	case CHOICE_WAIT:
		*waits = true;
		consistency_wait(c);
		break;
	case CHOICE_NONE:
		*waits = true;
		fail_move(c);
	}
	return host;
}

/* A reload that changes the list of hosts makes another cluster of the same servers. */
static bool is_same_server(const struct host *a, const struct host *b)
{
	return a == b || (a->port == b->port && strcmp(a->name, b->name) == 0);
}

void relay_request(struct client *c)
{
	bool waits;
	struct host *host = pick_host(c, &waits);
	if (waits)
		return;
	struct server *kept = c->kept[c->seg.role];
	if (kept && (!is_same_server(kept->pool->host, host) || server_is_misplaced(kept)) && !RULE_BROKEN(C8)) {
		/* What it is linked to is the primary no more: its session state is lost with it. */
		server_close(kept, "another server is the primary now");
		if (c->state == CLIENT_CLOSING)
			return;
		kept = NULL;
	}
	if (kept) {
		(void)relay_server_ready(c, kept);
		return;
	}
	struct pool *p = pool_get(c->du, host);
	struct server *s = pool_take(p, c);
	if (!s)
		pool_wait(p, c);
	else if (!relay_server_ready(c, s))
		server_release(s);
}

/* --- a server is there --- */

static bool is_usable(struct client *c, struct server *s)
{
	if (c->seg.role == ROLE_REPLICA) {
		if (consistency_admits(c, s->pool->host, s->login_round))
			return true;
		if (mono_now_us() >= c->fresh_deadline_us) {
			to_primary(c);
			relay_request(c);
		} else {
			consistency_wait(c);
		}
		return false;
	}
	if (!s->is_replica)
		return true;
	/* The monitor is behind: this is a standby.  Not for writes; look again. */
	cluster_report_suspect(c->du->db->cluster, s->pool->host);
	s->close_needed = true;
	wait_for_primary(c);
	return false;
}

/* What has come meanwhile, and reading goes on. */
static void look_further(struct client *c)
{
	if (c->state == CLIENT_ACTIVE && (c->seg.open || c->raw_left || buf_len(&c->in) > c->emitted))
		client_process(c);
}

bool relay_server_ready(struct client *c, struct server *s)
{
	if (c->state == CLIENT_RAW) {
		relay_raw_ready(c, s);
		return true;
	}
	if (!is_usable(c, s))
		return false;
	relay_link(c, s);
	client_set_state(c, CLIENT_ACTIVE);
	relay_start(c, s);
	look_further(c);
	return true;
}

/* A welcome ends in one error for the client; other work waits or goes elsewhere where that makes sense. */
void relay_server_refused(struct client *c, const struct pgerr *err)
{
	struct pgerr copy = *err;
	bool unreachable = strncmp(err->sqlstate, "08", 2) == 0 || strncmp(err->sqlstate, "57P", 3) == 0;
	if (c->seg.role == ROLE_REPLICA) {
		to_primary(c);
		relay_request(c);
		return;
	}
	if (unreachable) {
		wait_for_primary(c);
		return;
	}
	copy.severity = PGERR_FATAL;
	client_close(c, &copy, copy.message);
}

struct segment *relay_scan(struct client *c)
{
	struct worker *w = c->worker;
	struct segment *seg = &w->scan.seg;
	if (w->segment_of == c)
		return seg;
	if (w->segment_of)
		relay_drop_scan(w->segment_of);
	size_t n = c->seg.checking ? c->seg.checking : buf_len(&c->in) - c->emitted;
	segment_scan(c, buf_head(&c->in) + c->emitted, n, plan_policy(c), seg);
	w->segment_of = c;
	return seg;
}

void relay_drop_scan(struct client *c)
{
	struct worker *w = c->worker;
	segment_forget(c);
	if (w->segment_of != c)
		return;
	segment_done(w, &w->scan.seg);
	w->segment_of = NULL;
}

/* The client waits for its server: what was found out about its segment waits with it. */
static void keep_scan(struct client *c)
{
	struct worker *w = c->worker;
	if (w->segment_of != c)
		return;
	segment_keep(c, &w->scan.seg);
	w->segment_of = NULL;
}

static void note_dispatch(struct client *c, struct server *s)
{
	struct worker_stats *st = &c->worker->stats;
	c->seg.sent_us = loop_now_us(c->worker->loop);
	s->request_us = c->seg.sent_us;
	if (s->is_replica) {
		st->total.to_replica++;
		c->du->stats.to_replica++;
	} else {
		st->total.to_primary++;
		c->du->stats.to_primary++;
	}
}

static void note_ddl(struct client *c, uint32_t flags)
{
	if (LIKELY(!(flags & SQL_F_DDL)))
		return;
	c->made_code |= (flags & SQL_F_CODE_DDL) != 0;
	dbfacts_note_ddl(c->du->facts, flags & SQL_F_CODE_DDL ? DDL_OF_CODE : DDL_PLAIN);
}

/* Accounts for the bytes of what was sent. */
static void note_sent(struct client *c, const struct segment *seg)
{
	struct client_segment *cs = &c->seg;
	enum segment_end end = seg->end;
	size_t large_left = end == SEGMENT_LARGE ? seg->large_len - seg->msgs[seg->n - 1].len : 0;
	cs->open = end == SEGMENT_FLUSH || end == SEGMENT_OPEN || end == SEGMENT_LARGE;
	if (cs->large && end == SEGMENT_LARGE)
		cs->open = seg->msgs[seg->n - 1].type != MSG_QUERY && seg->msgs[seg->n - 1].type != MSG_FUNCTION_CALL;
	c->raw_left = large_left;
	/* Stray COPY data goes nowhere, its tail no more than its head. */
	c->raw_drop = large_left && seg->msgs[seg->n - 1].type == MSG_COPY_DATA_IN;
	c->emitted += seg->len;
	if (cs->large || c->emitted > SEGMENT_BYTES_MAX)
		cs->kept = false;
	if (!cs->kept) {
		buf_consume(&c->in, c->emitted);
		c->emitted = 0;
	}
}

/* Sends what the scan found. */
static void dispatch(struct client *c, struct server *s, struct segment *seg)
{
	struct client_segment *cs = &c->seg;
	if (UNLIKELY(c->replay || c->routing.transaction_replay))
		replay_note_sent(c, seg);
	cs->flags |= seg->flags;
	cs->pins |= seg->pins;
	if (c->tx != CTX_NONE) {
		cs->makes_state |= plan_makes_state(seg);
		cs->shows_time |= seg->shows_time;
	}
	if (tracking_is_due(seg->flags, seg->pins))
		tracking_note(c, s, seg);
	if (seg->shape && !cs->open) {
		shape_unref(cs->shape);
		cs->shape = shape_ref(seg->shape);
	}
	note_ddl(c, seg->flags);
	cs->awaits_copy |= seg->copies_in;
	cs->doubted |= seg->doubted;
	bool was_open = cs->open;
	cs->harmless = plan_is_harmless(seg) && (cs->harmless || !was_open);
	/* The state of the segment is set before the bytes leave: a connection that breaks at once calls back. */
	if (seg->end == SEGMENT_LARGE)
		cs->large = true;
	if (!s->is_replica)
		notifier_note(s->notifier, c->pid, seg);
	if (!was_open)
		note_dispatch(c, s);
	if (emit_segment(c, s, seg) == EMIT_SENT)
		note_sent(c, seg);
}

void relay_start(struct client *c, struct server *s)
{
	if (c->seg.welcome) {
		relay_start_welcome(c, s);
		return;
	}
	struct segment *seg = segment_kept(c);
	if (!seg)
		seg = relay_scan(c);
	if (LIKELY(!c->listens) || !listens_delays(c, s, seg))
		dispatch(c, s, seg);
	relay_drop_scan(c);
}

/* The server has said what columns the segment's statements have (columns.h): now its messages, or what is left of them
 * after an error. */
void relay_checked(struct client *c, struct server *s)
{
	if (s->skipping) {
		c->seg.checking = 0;
		c->seg.open = true; /* its messages up to Sync are skipped */
	} else {
		relay_drop_scan(c);
		struct segment *seg = relay_scan(c);
		c->seg.checking = 0;
		if (emit_checked(c, s, seg) == EMIT_SENT)
			note_sent(c, seg);
		relay_drop_scan(c);
	}
	look_further(c);
}

void relay_note_failure(struct client *c, const struct pgerr_fields *e)
{
	struct str code = pgerr_sqlstate(e);
	if (!c->failure)
		c->failure = mem_alloc(sizeof *c->failure);
	pgerr_set(c->failure, SQLSTATE_INTERNAL_ERROR, "%.*s", (int)e->message.n, e->message.p ? e->message.p : "");
	(void)str_copy(c->failure->sqlstate, sizeof c->failure->sqlstate, code);
	if (e->detail.p)
		pgerr_detail(c->failure, "%.*s", (int)e->detail.n, e->detail.p);
}

/* --- client input --- */

/* A start-up packet of ours has room for so many settings. */
static bool wants_own(const struct client *c, const struct segment *seg)
{
	enum { START_SETTINGS_MAX = 32 };
	return (seg->wants_own || c->shows_start) && c->base->n <= START_SETTINGS_MAX && !RULE_BROKEN(E7);
}

static void begin_segment(struct client *c, const struct plan *plan, const struct segment *seg)
{
	shape_unref(c->seg.shape);
	c->seg = (struct client_segment){ .role = plan->role,
		                          .reason = plan->reason,
		                          .proved = plan->proved,
		                          .kept = true,
		                          .wants_own = wants_own(c, seg) && plan->role == ROLE_PRIMARY,
		                          .consistency = seg->consistency };
	c->shows_start |= seg->wants_own && (seg->flags & SQL_F_SHOWS_SETTINGS);
	c->seg.started_us = loop_now_us(c->worker->loop);
	c->seg.sent_before = c->sent_bytes;
	c->segment_no++;
	c->arrived_round = cluster_round(c->du->db->cluster);
	client_stmts_clear_sent(&c->stmts, &c->worker->texts);
	c->fresh_deadline_us = 0;
	c->awaits = AWAIT_FRESH;
	c->primary_deadline_us = 0;
}

enum segment_end relay_discard_large(struct client *c, const struct segment *seg)
{
	if (seg->end != SEGMENT_LARGE)
		return seg->end;
	const struct segment_msg *m = &seg->msgs[seg->n - 1];
	c->raw_left = seg->large_len - m->len;
	c->raw_drop = true;
	/* Nobody sends a Sync for these two. */
	return m->type == MSG_QUERY || m->type == MSG_FUNCTION_CALL ? SEGMENT_QUERY : SEGMENT_LARGE;
}

/* True when the client may go on with its next segment at once. */
static bool answer_locally(struct client *c, struct segment *seg, const struct plan *plan)
{
	size_t len = seg->len;
	c->fail_next = false;
	enum segment_end end = relay_discard_large(c, seg);
	bool alive = plan->action == PLAN_LOCAL ? local_answer(c, seg) : local_reject(c, end, &plan->error);
	relay_drop_scan(c);
	if (alive)
		buf_consume(&c->in, len);
	return alive;
}

static bool is_full(const struct client *c, const struct segment *seg)
{
	return seg->n == SEGMENT_MESSAGES_MAX || buf_len(&c->in) - c->emitted >= SEGMENT_BYTES_MAX;
}

static void skip_to_sync(struct client *c)
{
	struct frame_head h;
	while (c->skip_to_sync && frame_peek(buf_head(&c->in), buf_len(&c->in), &h) == FRAME_OK) {
		if (h.type == MSG_SYNC) {
			c->skip_to_sync = false;
			return; /* the Sync itself is an empty segment: answered like any other */
		}
		if (h.len > buf_len(&c->in)) {
			c->raw_left = h.len - buf_len(&c->in);
			c->raw_drop = true;
			buf_consume(&c->in, buf_len(&c->in));
			return;
		}
		buf_consume(&c->in, h.len);
	}
}

/* COPY data that comes after the COPY has failed: PostgreSQL drops it too. */
static void drop_stray_copy(struct client *c)
{
	struct frame_head h;
	while (!c->raw_left && frame_peek(buf_head(&c->in), buf_len(&c->in), &h) == FRAME_OK &&
	       segment_is_copy_data(h.type)) {
		size_t have = buf_len(&c->in), n = h.len < have ? h.len : have;
		c->raw_left = h.len - n;
		c->raw_drop = true;
		buf_consume(&c->in, n);
	}
}

/* One segment of an idle client. False: nothing more can be done now. */
static bool is_simple_query(const struct segment *seg) { return seg->n && seg->msgs[seg->n - 1].type == MSG_QUERY; }

static void refuse_simple_query(struct client *c)
{
	struct pgerr err;
	relay_drop_scan(c);
	pgerr_set_fatal(&err, SQLSTATE_PROTOCOL_VIOLATION, "PQexec disallowed");
	client_close(c, &err, "PQexec disallowed");
}

bool relay_next_segment(struct client *c)
{
	struct plan plan;
	drop_stray_copy(c);
	if (c->skip_to_sync)
		skip_to_sync(c);
	if (c->skip_to_sync || buf_len(&c->in) == 0 || c->raw_left)
		return false;
	struct segment *seg = relay_scan(c);
	if (c->du->config->disable_pqexec && is_simple_query(seg)) {
		refuse_simple_query(c);
		return false;
	}
	plan_segment(c, seg, is_full(c, seg), &plan);
	switch (plan.action) {
	case PLAN_WAIT:
		relay_drop_scan(c);
		return false;
	case PLAN_TERMINATE:
		relay_drop_scan(c);
		client_close(c, NULL, "client closed the session");
		return false;
	case PLAN_PROTOCOL:
		relay_drop_scan(c);
		client_close(c, &plan.error, plan.error.message);
		return false;
	case PLAN_LOCAL:
		if (listens_waits(c, seg)) {
			relay_drop_scan(c);
			return false;
		}
		switch (token_look(c, seg, &plan.error)) {
		case CAUSAL_READY:
			break;
		case CAUSAL_WAIT:
			relay_drop_scan(c);
			consistency_wait(c);
			return false;
		case CAUSAL_BAD:
			plan.action = PLAN_REJECT;
		}
		return answer_locally(c, seg, &plan);
	case PLAN_REJECT:
		return answer_locally(c, seg, &plan);
	case PLAN_CONTINUE:
		begin_segment(c, &plan, seg);
		if (moving_is_fresh(c, seg)) {
			client_set_state(c, CLIENT_ACTIVE);
			relay_start(c, c->srv);
			return false;
		}
		moving_leave(c);
		break;
	case PLAN_MOVE:
		begin_segment(c, &plan, seg);
		c->worker->stats.total.moves++;
		c->du->stats.moves++;
		moving_leave(c);
		break;
	case PLAN_FORWARD:
		begin_segment(c, &plan, seg);
		if (UNLIKELY(seg->flags & (SQL_F_DDL | SQL_F_NO_TX_BLOCK)))
			clearing_begin(c, seg);
		break;
	}
	relay_request(c);
	keep_scan(c);
	return false;
}

/* --- the rest of an open segment, COPY, large messages --- */

static bool send_raw(struct client *c, size_t n)
{
	struct server *s = c->srv;
	enum stream_sent sent = STREAM_SENT;
	if (!c->raw_drop && s)
		sent = stream_send(&s->stream, buf_head(&c->in), n);
	buf_consume(&c->in, n);
	if (sent == STREAM_BROKEN) {
		char why[256];
		snprintf(why, sizeof why, "%s", stream_last_error());
		server_close(s, why);
		return false;
	}
	if (sent == STREAM_BLOCKED)
		stream_want_read(&c->stream, false);
	return sent == STREAM_SENT;
}

/* Bytes of a large message. True: it is through. */
bool relay_stream_rest(struct client *c)
{
	CHECK(c->emitted == 0);
	size_t n = buf_len(&c->in) < c->raw_left ? buf_len(&c->in) : (size_t)c->raw_left;
	if (n == 0)
		return false;
	c->raw_left -= n;
	bool flows = send_raw(c, n);
	if (c->raw_left == 0 && c->state == CLIENT_ACTIVE && c->srv && c->srv->owes_sync) {
		c->srv->owes_sync = false;
		return emit_sync(c->srv, false) == EMIT_SENT && false;
	}
	return flows && c->raw_left == 0;
}

/* A message of the client while the server reads COPY data. */
static bool copy_message(struct client *c)
{
	struct frame_head h;
	size_t have = buf_len(&c->in);
	enum frame_result r = frame_peek(buf_head(&c->in), have, &h);
	if (r == FRAME_MORE)
		return false;
	if (r == FRAME_BAD || h.type == MSG_TERMINATE) {
		client_close(c, NULL, "client left during COPY");
		return false;
	}
	if (h.type != MSG_COPY_DATA_IN && h.len > have && h.len <= SEGMENT_BYTES_MAX)
		return false;
	bool ends = h.type == MSG_COPY_DONE_IN || h.type == MSG_COPY_FAIL;
	size_t n = h.len < have ? h.len : have;
	/* In COPY the server ignores Flush and Sync (protocol section 55.2.7): they answer nothing. */
	c->raw_drop = h.type == MSG_SYNC || h.type == MSG_FLUSH;
	c->raw_left = h.len - n;
	if (ends)
		c->copy = COPY_NONE;
	return send_raw(c, n) && c->state == CLIENT_ACTIVE;
}

/* Whole CopyData messages leave together. */
static bool copy_run(struct client *c)
{
	const uint8_t *p = buf_head(&c->in);
	size_t have = buf_len(&c->in), n = 0;
	struct frame_head h;
	while (frame_peek(p + n, have - n, &h) == FRAME_OK && h.type == MSG_COPY_DATA_IN && h.len <= have - n)
		n += h.len;
	c->raw_drop = false;
	return n == 0 || send_raw(c, n);
}

static bool skip_open_segment(struct client *c)
{
	struct server *s = c->srv;
	struct frame_head h;
	while (frame_peek(buf_head(&c->in) + c->emitted, buf_len(&c->in) - c->emitted, &h) == FRAME_OK) {
		if (h.type == MSG_TERMINATE) {
			client_close(c, NULL, "client closed the session");
			return false;
		}
		if (c->emitted) { /* nothing of a failed segment is run again */
			buf_consume(&c->in, c->emitted);
			c->emitted = 0;
			c->seg.kept = false;
		}
		size_t have = buf_len(&c->in), n = h.len < have ? h.len : have;
		buf_consume(&c->in, n);
		if (h.type == MSG_SYNC) {
			s->skipping = false;
			c->seg.open = false;
			return emit_sync(s, false) == EMIT_SENT && false;
		}
		c->raw_left = h.len - n;
		c->raw_drop = true;
		if (c->raw_left)
			return false;
	}
	return false;
}

/* The segment began on a replica, nothing of it has executed, and now it needs the primary. */
static void reroute_open(struct client *c)
{
	struct server *s = c->srv;
	relay_drop_scan(c);
	if (emit_sync(s, true) == EMIT_BROKEN)
		return;
	relay_retry(c, ROLE_PRIMARY);
}

/* It has parsed a LISTEN for the client, and the rest is done here: it goes back as behind a Sync. */
static void take_from_server(struct client *c)
{
	struct server *s = c->srv;
	relay_drop_scan(c);
	if (emit_sync(s, true) == EMIT_BROKEN)
		return;
	reply_abandon(s);
	relay_unlink(c);
	server_release(s);
	buf_consume(&c->in, c->emitted);
	c->emitted = 0;
	c->seg.open = c->seg.kept = false;
	client_stmts_clear_sent(&c->stmts, &c->worker->texts);
	client_set_state(c, CLIENT_IDLE);
	c->look_again = true;
}

static bool open_part(struct client *c)
{
	struct server *s = c->srv;
	struct plan plan;
	if (s->skipping)
		return skip_open_segment(c);
	if (buf_len(&c->in) == c->emitted)
		return false;
	if (UNLIKELY(c->seg.awaits_copy) && segment_is_copy_data(buf_head(&c->in)[c->emitted]))
		return false;
	struct segment *seg = relay_scan(c);
	plan_segment(c, seg, true, &plan);
	if (plan.action == PLAN_PROTOCOL || plan.action == PLAN_TERMINATE || plan.action == PLAN_WAIT) {
		relay_drop_scan(c);
		if (plan.action == PLAN_PROTOCOL)
			client_close(c, &plan.error, plan.error.message);
		else if (plan.action == PLAN_TERMINATE)
			client_close(c, NULL, "client closed the session");
		return false;
	}
	if (listens_takes_over(c, seg)) {
		take_from_server(c);
		return false;
	}
	c->arrived_round = cluster_round(c->du->db->cluster);
	bool leaves = plan_part_leaves(c, seg) || !moving_is_fresh(c, seg);
	if (leaves && !c->seg.done_rows && moving_is_repeatable(c, s)) {
		reroute_open(c);
		return false;
	}
	dispatch(c, s, seg);
	relay_drop_scan(c);
	return c->state == CLIENT_ACTIVE && c->srv == s && (c->seg.open || c->raw_left);
}

void relay_continue(struct client *c)
{
	bool more = true;
	while (more && c->state == CLIENT_ACTIVE && c->srv && !stream_pending(&c->srv->stream)) {
		if (c->seg.welcome || c->seg.after || c->seg.checking || listens_is_waiting(c))
			return;
		if (c->raw_left)
			more = relay_stream_rest(c);
		else if (c->copy == COPY_IN)
			more = copy_run(c) && c->state == CLIENT_ACTIVE && c->copy == COPY_IN && copy_message(c);
		else if (c->seg.open)
			more = open_part(c);
		else
			return;
	}
}

/* --- repetition --- */

/* The segment runs again on a server of that role.  Nothing that the client has not seen is lost, nothing that it has
 * seen comes twice. */
void relay_retry(struct client *c, enum server_role role)
{
	struct server *s = c->srv;
	relay_drop_scan(c);
	reply_abandon(s);
	if (s) {
		/* What has run there before its error stays: a lock of the session does. */
		if (c->seg.pins)
			pins_mark_server(s, c->seg.pins);
		relay_forget_kept(c, s);
		relay_unlink(c);
		server_release(s);
	}
	if (c->tx == CTX_OPEN)
		moving_defer(c);
	client_stmts_clear_sent(&c->stmts, &c->worker->texts);
	if (c->seg.settled_msgs < c->seg.done_msgs)
		c->seg.settled_msgs = c->seg.done_msgs;
	c->emitted = 0;
	c->raw_left = 0;
	c->copy = COPY_NONE;
	c->seg.role = role;
	if (!c->seg.retried)
		c->seg.retried_us = loop_now_us(c->worker->loop);
	c->seg.retried = true;
	c->seg.unnamed = UNNAMED_PLAIN;
	c->seg.open = c->seg.awaits_copy = false;
	c->seg.checking = c->seg.check_no = 0;
	c->seg.next_msg = 0;
	c->seg.done_msgs = c->seg.shown_msgs;
	c->seg.done_rows = c->seg.shown_rows;
	c->seg.flags = c->seg.pins = 0; /* the server that was left has been told of them */
	c->worker->stats.total.retries++;
	c->du->stats.retries++;
	client_set_state(c, CLIENT_IDLE);
	relay_request(c);
}

/* --- the end of a segment --- */

static bool rolls_back(const struct client *c)
{
	return c->seg.shape && sql_facts_verb(shape_facts(c->seg.shape)) == SQL_ROLLBACK;
}

static void end_of_transaction(struct client *c, struct server *s, bool committed)
{
	server_settle_profile(s);
	if (UNLIKELY(c->made_code))
		c->made_code = !dbfacts_code_is_proved(c->du->facts);
	note_ddl(c, c->tx_flags);
	c->tx_flags = 0;
	c->txf = (struct client_tx_facts){ 0 };
	c->odd_key = 0;
	c->begin = (struct sql_begin){ 0 };
	scopes_end(c, committed);
	replay_reset(c);
	if (UNLIKELY(c->listens != NULL))
		listens_end_transaction(c, committed);
	c->worker->stats.total.xacts++;
	c->du->stats.xacts++;
	if (c->xact_us) {
		uint64_t us = loop_now_us(c->worker->loop) - c->xact_us;
		c->worker->stats.total.xact_us += us;
		c->du->stats.xact_us += us;
	}
	c->xact_us = 0;
}

static void take_pins(struct client *c, struct server *s, bool failed)
{
	relay_pin(c, s, pins_that_last(c, s, tracking_take(c, c->seg.flags, c->seg.pins), failed));
	if (c->state != CLIENT_CLOSING)
		pins_note_segment(c, s);
}

void relay_pin(struct client *c, struct server *s, uint32_t pins)
{
	if (!pins || c->du->pool_mode == POOL_MODE_SESSION) {
		c->pins |= pins;
		return;
	}
	if (!c->pins && !pool_pin(s)) {
		struct pgerr err;
		s->dirty = true;
		pgerr_set_fatal(&err, SQLSTATE_TOO_MANY_CONNECTIONS,
		                "too many clients keep session state on their server connection (max_pinned)");
		client_close(c, &err, "max_pinned");
		return;
	}
	measure_pins(c, pins & ~c->pins);
	if (!c->pins)
		c->pinned_us = loop_now_us(c->worker->loop);
	c->pins |= pins;
	pins_mark_server(s, pins);
}

static void note_time(struct client *c)
{
	uint64_t now = loop_now_us(c->worker->loop), us = now - c->seg.sent_us;
	struct stats_block *a = &c->worker->stats.total, *b = &c->du->stats;
	a->queries++;
	b->queries++;
	a->query_us += us;
	b->query_us += us;
}

static void set_tx(struct client *c, char status)
{
	switch (status) {
	case MSG_TX_IDLE:
		c->tx = CTX_NONE;
		return;
	case MSG_TX_OPEN:
		if (c->tx != CTX_OPEN && !c->xact_us)
			c->xact_us = c->seg.sent_us;
		c->tx = CTX_OPEN;
		return;
	default:
		c->tx = CTX_FAILED;
	}
}

/* The client's ReadyForQuery has been sent on its way. */
void relay_segment_done(struct client *c, struct server *s, char status)
{
	bool failed = s->error_seen;
	s->error_seen = false;
	client_stmts_clear_sent(&c->stmts, &c->worker->texts);
	note_time(c);
	measure_segment(c, s, failed);
	if (c->seg.unnamed != UNNAMED_PLAIN)
		unnamed_note_done(c, failed);
	if (UNLIKELY(c->seg.recorded) && !c->seg.repeats)
		replay_note_done(c, !failed && status == MSG_TX_OPEN);
	if (c->seg.kept)
		buf_consume(&c->in, c->emitted);
	c->emitted = 0;
	c->seg.kept = c->seg.open = false;
	c->copy = COPY_NONE;
	s->copy_sync = s->owes_sync = false;
	bool torn = c->raw_left && !c->raw_drop;
	if (torn) {
		/* The server has answered before it had the whole message: it cannot be used on. */
		s->dirty = true;
		c->raw_drop = true;
	}
	c->tx_flags |= c->seg.flags;
	moving_note_done(c);
	if (UNLIKELY(c->seg.doubted))
		s->doubted = true; /* names with a point may have been set, and cannot be taken away (E1) */
	if (c->seg.flags & SQL_F_DROPS_STATEMENTS)
		server_stmts_doubt(&s->stmts);
	if (UNLIKELY(c->listens != NULL))
		listens_note_done(c, failed);
	take_pins(c, s, failed);
	if (c->state == CLIENT_CLOSING)
		return;
	client_set_state(c, CLIENT_IDLE);
	c->request_us = loop_now_us(c->worker->loop);
	/* BEGIN was answered here and then failed on the server: the client is inside a failed transaction. */
	bool begin_failed = s->prelude_failed;
	s->prelude_failed = false;
	if (UNLIKELY(c->seg.repeats)) {
		set_tx(c, status);
		replay_step_done(c, !failed && status == MSG_TX_OPEN);
		return;
	}
	if (c->tx == CTX_DEFERRED && status == MSG_TX_IDLE && begin_failed) {
		c->tx = CTX_LOST;
		server_settle_profile(s);
		let_go(c);
		return;
	}
	bool committed = c->tx != CTX_FAILED && !failed && !rolls_back(c);
	if (!failed && status == MSG_TX_OPEN && c->seg.shape)
		scopes_note_done(c, shape_facts(c->seg.shape));
	set_tx(c, status);
	if (torn && status != MSG_TX_IDLE) {
		/* The server waits for bytes that go nowhere; the transaction has failed anyway. */
		bool pinned = c->pins != 0;
		relay_forget_kept(c, s);
		relay_unlink(c);
		c->tx = CTX_LOST;
		server_release(s);
		if (pinned)
			client_close(c, NULL, "its server connection was lost in the middle of COPY");
		return;
	}
	if (status != MSG_TX_IDLE) {
		if (c->du->pool_mode == POOL_MODE_STATEMENT) {
			struct pgerr err;
			pgerr_set_fatal(&err, SQLSTATE_FEATURE_NOT_SUPPORTED,
			                "transaction blocks not allowed in statement pooling mode");
			client_close(c, &err, err.message);
		}
		return;
	}
	end_of_transaction(c, s, committed);
	pins_end_transaction(c, s);
	if (!afterstep_start(c))
		let_go(c);
}

/* Our question behind the transaction has been answered. */
void relay_after_done(struct client *c, bool failed)
{
	struct server *s = c->srv;
	if (!afterstep_ready(c, s, failed) || c->state == CLIENT_CLOSING)
		return;
	client_set_state(c, CLIENT_IDLE);
	let_go(c);
	client_process(c);
}

/* --- loss --- */

static void lost_error(const struct client *c, const struct server *s, const char *why, struct pgerr *err)
{
	bool wrote = !s->is_replica && c->state == CLIENT_ACTIVE;
	/* A5: between CommandComplete and ReadyForQuery too, nobody knows whether it was committed. */
	if (wrote && !RULE_BROKEN(A5))
		pgerr_set(err, SQLSTATE_TRANSACTION_UNKNOWN,
		          "connection to the server was lost; the outcome of the statement is unknown");
	else
		pgerr_set(err, SQLSTATE_CONNECTION_FAILURE, "connection to the server was lost");
	pgerr_detail(err, "Server %s:%d: %s.", s->pool->host->name, s->pool->host->port, why);
}

static bool may_run_again(const struct client *c, const struct server *s)
{
	return c->state == CLIENT_ACTIVE && moving_survives_loss(c, s);
}

/* Between two statements of a transaction: nobody waits for an answer now.  A READ COMMITTED transaction that has only
 * read on a standby begins anew with its next statement; any other is over, and its next statement says so (C4). */
static void lost_while_idle(struct client *c, const struct server *s, const struct pgerr *err)
{
	bool renewable = c->tx == CTX_OPEN && plan_may_begin_anew(c);
	relay_unlink(c);
	if (renewable && !RULE_BROKEN(C4)) {
		moving_defer(c);
		return;
	}
	if (replay_begin(c, s))
		return;
	c->tx = CTX_LOST;
	c->fail_next = true;
	if (!c->failure)
		c->failure = mem_alloc(sizeof *c->failure);
	*c->failure = *err;
	if (s->is_replica)
		pgerr_set(c->failure, SQLSTATE_SERIALIZATION_FAILURE,
		          "the transaction's replica was lost or cancelled it");
}

/* What a replication client is told: before its login is through it has had no word yet; later it reads the server's
 * own. */
static void lose_raw(struct client *c, const struct server *s, const char *why)
{
	struct pgerr err;
	if (s->state == SERVER_LINKED) {
		client_close(c, NULL, "server closed the replication connection");
		return;
	}
	pgerr_set_fatal(&err, SQLSTATE_CONNECTION_FAILURE, "cannot connect to server %s:%d: %s", s->pool->host->name,
	                s->pool->host->port, why);
	const struct pgerr *told = s->login_error_set ? &s->login_error : &err;
	client_close(c, told, told->message);
}

void relay_on_server_lost(struct server *s, const char *why)
{
	struct client *c = s->client;
	struct pgerr err;
	for (int i = 0; i < 2; i++) {
		if (c->kept[i] == s)
			c->kept[i] = NULL;
	}
	if (c->state == CLIENT_RAW || c->state == CLIENT_CLOSING) {
		s->client = NULL;
		c->srv = c->srv == s ? NULL : c->srv;
		if (c->state == CLIENT_RAW)
			lose_raw(c, s, why);
		return;
	}
	if (c->srv != s) {
		s->client = NULL;
		if (s->fatal_shown) {
			client_close(c, NULL, why);
		} else if (c->pins) {
			pgerr_set_fatal(&err, SQLSTATE_ADMIN_SHUTDOWN,
			                "connection to the server with the session's state was lost");
			client_close(c, &err, why);
		}
		return;
	}
	if (UNLIKELY(c->listens != NULL) && listens_on_server_lost(c, why))
		return;
	bool again = may_run_again(c, s);
	if (s->raw_left && s->raw_mode == RAW_FORWARD && buf_len(&s->hold) == 0 && !c->seg.repeats) {
		/* Half a message has gone out: nothing more can be said on this connection. */
		reply_abandon(s);
		relay_unlink(c);
		client_close(c, NULL, why);
		return;
	}
	lost_error(c, s, why, &err);
	reply_abandon(s);
	if (c->seg.after) {
		/* What the session has become nobody knows. */
		relay_unlink(c);
		pgerr_set_fatal(&err, SQLSTATE_ADMIN_SHUTDOWN,
		                "connection to the server with the session's state was lost");
		client_close(c, &err, why);
		return;
	}
	bool idle = c->state == CLIENT_IDLE || (c->state == CLIENT_WAIT_FRESH && c->awaits == AWAIT_SAMPLE);
	if (idle && !c->pins && !s->fatal_shown) {
		lost_while_idle(c, s, &err);
		return;
	}
	relay_unlink(c);
	if (again) {
		c->srv = NULL;
		relay_retry(c, ROLE_PRIMARY);
		return;
	}
	if (replay_begin(c, s) || lostcommit_begin(c, s, &err))
		return;
	if (c->seg.welcome || c->pins || s->fatal_shown) {
		err.severity = PGERR_FATAL;
		client_close(c, s->fatal_shown ? NULL : &err, why);
		return;
	}
	client_fail_segment(c, &err);
}

void relay_on_client_gone(struct client *c)
{
	struct server *held[3] = { c->srv, c->kept[0], c->kept[1] };
	bool asks = c->seg.after;
	if (asks)
		afterstep_orphan(c, c->srv);
	bool busy = c->state == CLIENT_ACTIVE && !asks;
	for (int i = 0; i < 3; i++) {
		struct server *s = held[i];
		if (!s || s->client != c)
			continue;
		if (c->srv == s) {
			reply_orphan(s);
			relay_unlink(c);
		} else {
			s->client = NULL;
		}
		if (s->state == SERVER_CLOSING)
			continue;
		if (c->state == CLIENT_RAW || s->dedicated) {
			s->expected_close = true;
			server_close(s, "client has gone");
		} else if (busy && held[0] == s && requests_len(&s->reqs)) {
			server_abandon(s, "client has gone while its request was running");
		} else if (busy && held[0] == s) {
			s->expected_close = true;
			server_close(s, "client has gone in the middle of a request");
		} else {
			server_release(s);
		}
	}
	c->kept[0] = c->kept[1] = NULL;
}

void relay_on_server_drained(struct server *s)
{
	struct client *c = s->client;
	if (!c || c->srv != s)
		return;
	stream_want_read(&c->stream, true);
	client_process(c);
}

void relay_on_client_drained(struct client *c)
{
	if (c->srv && c->srv->state != SERVER_CLOSING)
		stream_want_read(&c->srv->stream, !listens_is_waiting(c));
	else if (!c->srv)
		watch_kept(c, true);
}
