/* proxy/replay.c - see proxy/replay.h.
 *
 * A kept segment goes the way of any other, from c->in through relay and emit, so that settings, prepared statements
 * and names are seen to as ever; only its answer ends in a hash.  To the rest it looks like a segment that is run again
 * and all of whose Parse and Bind messages have been answered.
 *
 * Rows and tags are hashed, nothing else: notices and columns may come or not when a statement is prepared anew. */
#include "proxy/replay.h"

#include <string.h>
#include <xxhash.h>
#include "base/mem.h"
#include "base/mono.h"
#include "proxy/database.h"
#include "proxy/moving.h"
#include "proxy/plan.h"
#include "proxy/pool.h"
#include "proxy/relay_priv.h"
#include "proxy/segment.h"
#include "proxy/server.h"
#include "proxy/unnamed.h"
#include "proxy/worker.h"
#include "sql/shapes.h"
#include "wire/frame.h"
#include "wire/msg.h"

enum replay_state { REPLAY_OFF, REPLAY_RECORDING, REPLAY_REPEATING };

/* In front of each kept segment. */
struct entry {
	uint32_t len;
	uint64_t results; /* hash */
	uint64_t texts;   /* hash of what its statement names meant */
};

struct replay {
	enum replay_state state;
	bool broken;            /* something was done that cannot be repeated */
	struct buf kept;        /* entries, each with its segment behind it */
	XXH64_state_t *results; /* owned */
	uint64_t texts;         /* of the segment under way */
	/* REPEATING */
	size_t at;
	uint64_t until_us;
	struct buf input;          /* owned: the client's own */
	struct client_segment seg; /* of the statement that was under way; with its reference to a shape */
	bool in_flight;            /* there was one */
	struct stmt_text *unnamed; /* owned reference: the client's unnamed statement */
};

bool replay_is_running(const struct client *c) { return c->replay && c->replay->state == REPLAY_REPEATING; }

/* --- what may be repeated --- */

static bool is_repeatable_verb(enum sql_verb verb)
{
	switch ((int)verb) {
	case SQL_SELECT:
	case SQL_INSERT:
	case SQL_UPDATE:
	case SQL_DELETE:
	case SQL_MERGE:
	case SQL_SAVEPOINT:
	case SQL_RELEASE:
	case SQL_ROLLBACK_TO:
	case SQL_LOCK:
	case SQL_SHOW:
		return true;
	default:
		return false;
	}
}

/* A7: it may do something that the end of the transaction does not undo.  Of what a writing statement calls only the
 * names are known (SQL_F_USER_CODE). */
static bool may_have_effects(enum route_reason reason)
{
	switch ((int)reason) {
	case REASON_SIDE_EFFECT:
	case REASON_UNTRUSTED_LANGUAGE:
	case REASON_SQL_TEXT:
	case REASON_SESSION_FUNCTION:
	case REASON_FOREIGN_TABLE:
	case REASON_UNKNOWN_FUNCTION:
	case REASON_UNPROVED_FUNCTION:
	case REASON_COLUMN_FUNCTION:
	case REASON_UNKNOWN_NODE:
	case REASON_MULTI:
		return true;
	default:
		return false;
	}
}

static bool is_repeatable(const struct client *c, const struct segment *seg)
{
	const uint32_t flags = SQL_F_TX_CONTROL_INSIDE | SQL_F_NO_TX_BLOCK | SQL_F_DDL | SQL_F_USER_CODE |
	                       SQL_F_DROPS_STATEMENTS | SQL_F_MAY_TOUCH_SESSION | SQL_F_SNAPSHOT | SQL_F_INTO |
	                       SQL_F_UNKNOWN_NODE | SQL_F_RESETS_SETTINGS | SQL_F_PREPARED_NAMES |
	                       SQL_F_SHOWS_PREPARED | SQL_F_SETS | SQL_F_CUSTOM_SETTING | SQL_F_ODD_PATH |
	                       SQL_F_DYNAMIC;
	if ((seg->end != SEGMENT_SYNC && seg->end != SEGMENT_QUERY) || seg->keeps_portal || seg->unknown ||
	    (seg->flags & flags) || seg->pins || c->pins || !seg->single || seg->n_executed != 1 ||
	    may_have_effects(seg->verdict.reason))
		return false;
	for (unsigned i = 0; i < seg->n; i++) {
		if (seg->msgs[i].type == MSG_CLOSE && seg->msgs[i].target == MSG_TARGET_STATEMENT)
			return false;
	}
	return is_repeatable_verb(sql_facts_verb(shape_facts(seg->shape)));
}

/* Alone, so that it is not seen before what stands in front of it. */
static bool is_commit(const struct segment *seg)
{
	return seg->single && !shape_facts(seg->shape)->stmts[0].chain &&
	       sql_facts_verb(shape_facts(seg->shape)) == SQL_COMMIT;
}

/* A name may mean another statement by the time that the segment is repeated. */
static uint64_t hash_texts(const struct segment *seg, uint64_t hash)
{
	for (unsigned i = 0; i < seg->n; i++) {
		const struct segment_msg *m = &seg->msgs[i];
		if ((m->type == MSG_BIND || m->type == MSG_DESCRIBE) && m->text)
			hash = XXH64(m->text->body, m->text->body_len, hash + 1);
	}
	return hash;
}

/* --- recording --- */

static bool has_snapshot_per_statement(const struct client *c)
{
	char isolation = plan_isolation(c);
	return isolation == 'c' || isolation == 'u';
}

static void note_segment(struct client *c, const struct segment *seg)
{
	struct replay *r = c->replay;
	if (r->state == REPLAY_OFF && c->tx == CTX_DEFERRED) {
		r->state = REPLAY_RECORDING;
		r->broken = !has_snapshot_per_statement(c);
		buf_clear(&r->kept);
	}
	if (r->state == REPLAY_OFF)
		return;
	if (!c->seg.open) {
		XXH64_reset(r->results, 0);
		r->texts = 0;
	}
	c->seg.recorded = true;
	r->texts = hash_texts(seg, r->texts);
	if (r->state == REPLAY_REPEATING)
		return;
	/* Parse and Describe alone leave nothing on the server that is not made there when it is needed. */
	bool idle = !seg->executes && !seg->keeps_portal && (seg->end == SEGMENT_SYNC || seg->end == SEGMENT_FLUSH);
	c->seg.kept_for_replay |= !idle;
	c->seg.ends = is_commit(seg);
	r->broken |= !c->routing.transaction_replay || (!idle && !c->seg.ends && !is_repeatable(c, seg));
}

void replay_note_sent(struct client *c, const struct segment *seg)
{
	if (!c->replay) {
		if (c->tx != CTX_DEFERRED)
			return;
		c->replay = mem_zalloc(sizeof *c->replay);
		c->replay->results = XXH64_createState();
		CHECK(c->replay->results);
	}
	note_segment(c, seg);
}

void replay_note_answer(struct client *c, uint8_t type, const uint8_t *p, size_t n)
{
	switch (type) {
	case 0:
	case MSG_DATA_ROW:
	case MSG_COMMAND_COMPLETE:
	case MSG_EMPTY_QUERY_RESPONSE:
		(void)XXH64_update(c->replay->results, p, n);
		return;
	default:
		return;
	}
}

/* Without Flush: it is one part then. */
static bool keep(struct replay *r, const uint8_t *p, size_t n)
{
	struct entry e = { .results = XXH64_digest(r->results), .texts = r->texts };
	size_t start = buf_len(&r->kept);
	const uint8_t *end = p + n;
	struct frame_head h;
	bool ok = buf_put(&r->kept, &e, sizeof e);
	for (; ok && p < end && frame_peek(p, (size_t)(end - p), &h) == FRAME_OK && h.len <= (size_t)(end - p);
	     p += h.len)
		ok = h.type == MSG_FLUSH || buf_put(&r->kept, p, h.len);
	if (!ok || p != end)
		return false;
	e.len = (uint32_t)(buf_len(&r->kept) - start - sizeof e);
	memcpy(buf_head(&r->kept) + start, &e, sizeof e);
	return true;
}

void replay_note_done(struct client *c, bool good)
{
	struct replay *r = c->replay;
	if (r->state != REPLAY_RECORDING || r->broken)
		return;
	if (good && !c->seg.kept_for_replay)
		return;
	size_t limit = (size_t)c->du->config->transaction_replay_limit_bytes;
	bool fits = buf_len(&r->kept) + sizeof(struct entry) + c->emitted <= limit;
	r->broken = !good || !c->seg.kept || !fits || !keep(r, buf_head(&c->in), c->emitted);
	if (r->broken)
		buf_deinit(&r->kept);
}

void replay_reset(struct client *c)
{
	enum { KEEP_BYTES = 4096 };
	struct replay *r = c->replay;
	if (!r || r->state != REPLAY_RECORDING)
		return;
	r->state = REPLAY_OFF;
	if (r->kept.cap > KEEP_BYTES)
		buf_deinit(&r->kept);
}

/* --- repeating --- */

static void drop_input(struct client *c)
{
	relay_drop_scan(c);
	if (c->in.data)
		worker_block_put(c->worker, &c->in);
	c->emitted = 0;
}

static void put_aside(struct client *c, bool in_flight)
{
	struct replay *r = c->replay;
	const struct dbuser *du = c->du;
	r->in_flight = in_flight;
	r->input = c->in;
	r->seg = c->seg;
	r->unnamed = c->stmts.unnamed ? stmt_text_ref(c->stmts.unnamed) : NULL;
	r->until_us = loop_now_us(c->worker->loop) + config_failover_timeout_us(du->config, du->conf, du->conf_user);
	r->state = REPLAY_REPEATING;
	c->in = (struct buf){ 0 };
	c->emitted = 0;
	c->seg = (struct client_segment){ 0 };
	c->primary_deadline_us = 0;
	stream_want_read(&c->stream, false);
}

/* The client's own again. */
static void take_back(struct client *c)
{
	struct replay *r = c->replay;
	drop_input(c);
	c->in = r->input;
	r->input = (struct buf){ 0 };
	shape_unref(c->seg.shape);
	c->seg = r->seg;
	r->seg = (struct client_segment){ 0 };
	client_stmts_set_unnamed(&c->stmts, &c->worker->texts, r->unnamed);
	if (r->unnamed)
		stmt_text_unref(&c->worker->texts, r->unnamed);
	r->unnamed = NULL;
	r->state = REPLAY_RECORDING;
}

static void run(struct client *c)
{
	relay_drop_scan(c);
	client_stmts_clear_sent(&c->stmts, &c->worker->texts);
	c->seg.role = ROLE_PRIMARY;
	if (!c->srv) {
		client_set_state(c, CLIENT_IDLE);
		relay_request(c);
		return;
	}
	client_set_state(c, CLIENT_ACTIVE);
	relay_start(c, c->srv);
}

/* All is as it was: the statement that was under way is next, or the client's own next one. */
static void finish(struct client *c)
{
	struct replay *r = c->replay;
	take_back(c);
	c->worker->stats.total.retries++;
	c->du->stats.retries++;
	if (!r->in_flight) {
		client_set_state(c, CLIENT_IDLE);
		client_process(c);
		return;
	}
	c->seg.open = c->seg.asks_xid = c->seg.unseen = false;
	c->seg.kept = true;
	c->seg.unnamed = UNNAMED_PLAIN;
	c->seg.retried = true;
	c->seg.retried_us = loop_now_us(c->worker->loop);
	c->seg.checking = c->seg.check_no = 0;
	c->seg.next_msg = 0;
	if (c->seg.settled_msgs < c->seg.done_msgs)
		c->seg.settled_msgs = c->seg.done_msgs;
	c->seg.done_msgs = c->seg.shown_msgs;
	c->seg.done_rows = false;
	c->seg.flags = c->seg.pins = 0;
	run(c);
}

static void next(struct client *c)
{
	struct replay *r = c->replay;
	struct entry e;
	if (r->at == buf_len(&r->kept)) {
		finish(c);
		return;
	}
	memcpy(&e, buf_head(&r->kept) + r->at, sizeof e);
	drop_input(c);
	if (!buf_put(&c->in, buf_head(&r->kept) + r->at + sizeof e, e.len)) {
		client_close(c, NULL, "out of memory");
		return;
	}
	shape_unref(c->seg.shape);
	/* As one that has been answered but for its rows, and is run again for the last time. */
	c->seg = (struct client_segment){ .role = ROLE_PRIMARY,
		                          .reason = REASON_IN_TRANSACTION,
		                          .kept = true,
		                          .consistency = -1,
		                          .retried = true,
		                          .repeats = true,
		                          .shown_msgs = UINT16_MAX };
	c->seg.started_us = loop_now_us(c->worker->loop);
	c->segment_no++;
	c->arrived_round = cluster_round(c->du->db->cluster);
	c->fresh_deadline_us = 0;
	c->awaits = AWAIT_FRESH;
	run(c);
}

static bool may_begin(const struct client *c, bool idle)
{
	const struct replay *r = c->replay;
	if (!r || r->state == REPLAY_OFF || r->broken || c->pins)
		return false;
	if (r->state == REPLAY_REPEATING)
		return mono_now_us() < r->until_us;
	if (idle)
		return c->tx == CTX_OPEN;
	return c->state == CLIENT_ACTIVE && (c->tx == CTX_OPEN || c->tx == CTX_DEFERRED) && c->seg.recorded &&
	       c->seg.kept && !c->seg.open && !c->raw_left && !c->seg.shown_rows && (!c->seg.ends || c->seg.unseen);
}

bool replay_is_possible(const struct client *c) { return may_begin(c, c->state == CLIENT_IDLE); }

static void fail(struct client *c, const char *text)
{
	struct pgerr err;
	pgerr_set(&err, SQLSTATE_SERIALIZATION_FAILURE, "%s", text);
	pgerr_hint(&err, "The transaction can be tried again.");
	replay_fail(c, &err);
}

bool replay_begin(struct client *c, const struct server *s)
{
	bool idle = c->state == CLIENT_IDLE;
	if (s->fatal_shown || !may_begin(c, idle)) {
		if (!replay_is_running(c))
			return false;
		fail(c, "the transaction's server was lost, and so were those that it was to be repeated on");
		return true;
	}
	if (!replay_is_running(c))
		put_aside(c, !idle);
	moving_defer(c);
	c->replay->at = 0;
	next(c);
	return true;
}

void replay_step_done(struct client *c, bool good)
{
	struct replay *r = c->replay;
	struct entry e;
	memcpy(&e, buf_head(&r->kept) + r->at, sizeof e);
	if (good && e.results == XXH64_digest(r->results) && e.texts == r->texts) {
		r->at += sizeof e + e.len;
		next(c);
		return;
	}
	fail(c, "the transaction's server was lost, and it cannot be repeated with the same results");
}

void replay_fail(struct client *c, const struct pgerr *err)
{
	struct server *s = c->srv;
	struct pgerr copy = *err;
	bool in_flight = c->replay->in_flight;
	if (s) {
		reply_abandon(s);
		relay_forget_kept(c, s);
		relay_unlink(c);
		server_release(s);
	}
	take_back(c);
	replay_reset(c);
	client_set_state(c, CLIENT_IDLE);
	if (in_flight) {
		c->tx = CTX_OPEN; /* and is LOST now */
		c->seg.kept = true;
		c->seg.open = false;
		client_fail_segment(c, &copy);
		return;
	}
	c->tx = CTX_LOST;
	c->fail_next = true;
	if (!c->failure)
		c->failure = mem_alloc(sizeof *c->failure);
	*c->failure = copy;
	client_process(c);
}

void replay_free(struct client *c)
{
	struct replay *r = c->replay;
	if (!r)
		return;
	if (r->state == REPLAY_REPEATING)
		take_back(c);
	buf_deinit(&r->kept);
	XXH64_freeState(r->results);
	mem_free(r);
	c->replay = NULL;
}
