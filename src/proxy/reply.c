/* proxy/reply.c - a server's bytes on their way back to the client.
 *
 *   read into the worker's scratch -> per message: forward, swallow or act -> one write to the client
 *
 * Only headers are read of rows and COPY data; a message larger than what is at hand streams through (server.raw_left).
 * Forwarded messages are kept contiguous in the scratch buffer: what is swallowed in front costs nothing, what is
 * swallowed in between costs a memmove.  What a standby answers is held until it is complete or large (A8, G1).
 *
 * The head of the request queue says which request a message answers (protocol section 55.2.3): after an error all of
 * them up to Sync are skipped, and their Parse and Close have not happened. */
#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include "base/log.h"
#include "base/mem.h"
#include "base/rules.h"
#include "cluster/dbfacts.h"
#include "proxy/afterstep.h"
#include "proxy/columns.h"
#include "proxy/consistency.h"
#include "proxy/database.h"
#include "proxy/emit.h"
#include "proxy/listens.h"
#include "proxy/lostcommit.h"
#include "proxy/measure.h"
#include "proxy/moving.h"
#include "proxy/notifiers.h"
#include "proxy/params.h"
#include "proxy/plan.h"
#include "proxy/pool.h"
#include "proxy/relay_priv.h"
#include "proxy/replay.h"
#include "proxy/settings.h"
#include "proxy/simple.h"
#include "proxy/sqlprep.h"
#include "proxy/worker.h"
#include "sql/shapes.h"
#include "wire/frame.h"
#include "wire/msg.h"

enum { WHOLE_BYTES_MAX = 32 * 1024 };

enum outcome {
	OUT_FORWARD,
	OUT_SWALLOW,
	OUT_STOP, /* the server or client has gone, or the server works for somebody else: touch nothing any more */
};

struct reply {
	struct server *s;
	struct worker *w;
	uint8_t *from, *to; /* what is to be forwarded, in the scratch buffer */
	uint8_t *p, *end;   /* what is still to look at */
	bool ready, own;    /* ReadyForQuery was seen; it answers something of ours */
	bool held;          /* it is to wait (listens.h) */
	char status;        /* its transaction status */
};

/* --- outcome of requests --- */

/* Another Close of it may be under way behind this one: that one has nothing to settle any more. */
static void remove_statement(struct server *s, struct sstmt *statement)
{
	for (uint32_t i = 0; i < requests_len(&s->reqs); i++) {
		struct request *r = requests_at(&s->reqs, i);
		if (r->flags & REQF_SERVER_STMT && r->sstmt == statement)
			r->flags &= ~(uint32_t)REQF_SERVER_STMT;
	}
	columns_forget_copy(s, statement);
	server_stmts_remove(&s->stmts, &s->pool->worker->texts, statement);
}

static void settle(struct server *s, struct request *r, bool ok)
{
	struct stmt_texts *t = &s->pool->worker->texts;
	struct client *c = s->client;
	if (r->flags & REQF_CLIENT_STMT && c) {
		if (r->kind == REQ_PARSE)
			client_stmts_parse_done(&c->stmts, t, r->cstmt, ok);
		else {
			columns_forget_told(s, r->cstmt);
			client_stmts_close_done(&c->stmts, t, r->cstmt, ok);
		}
	}
	if (r->flags & REQF_SQLNAME && ok)
		sqlprep_on_closed(s);
	if (r->flags & REQF_SERVER_STMT) {
		if (r->kind == REQ_CLOSE && ok && r->sstmt->closing)
			remove_statement(s, r->sstmt);
		else if (!ok && r->kind == REQ_PARSE)
			r->sstmt->present = false;
	}
	if (r->flags & REQF_SHARED && r->kind == REQ_PARSE && ok && c)
		client_stmts_set_unnamed(&c->stmts, t, r->sstmt->text);
	if (r->flags & REQF_UNNAMED && ok) {
		struct stmt_text *text = r->kind == REQ_PARSE ? r->text : NULL;
		if (c && !(r->flags & REQF_SWALLOW)) {
			client_stmts_set_unnamed(&c->stmts, t, text);
			c->stmts.large = r->kind == REQ_PARSE && !text;
		}
	}
	if (r->flags & REQF_UNNAMED && !ok)
		server_stmts_set_unnamed(&s->stmts, t,
		                         NULL); /* emitted, and then skipped: what it is now is not known */
	if (r->flags & REQF_UNNAMED && r->kind == REQ_PARSE)
		stmt_text_unref(t, r->text);
}

/* The Parse of an unnamed statement failed: there is none now. */
static void unnamed_failed(struct server *s, const struct request *r)
{
	struct stmt_texts *t = &s->pool->worker->texts;
	if (r->kind == REQ_PARSE && r->flags & REQF_SHARED && s->client)
		client_stmts_set_unnamed(&s->client->stmts, t, NULL);
	if (r->kind != REQ_PARSE || !(r->flags & REQF_UNNAMED))
		return;
	server_stmts_set_unnamed(&s->stmts, t, NULL);
	if (s->client && !(r->flags & REQF_SWALLOW))
		client_stmts_set_unnamed(&s->client->stmts, t, NULL);
}

static struct request *head(struct server *s)
{
	while (requests_len(&s->reqs) && requests_at(&s->reqs, 0)->kind == REQ_FLUSH)
		s->reqs.head++;
	return requests_len(&s->reqs) ? requests_at(&s->reqs, 0) : NULL;
}

static struct request pop(struct server *s) { return s->reqs.ring[s->reqs.head++ & (s->reqs.cap - 1)]; }

void reply_abandon(struct server *s)
{
	if (!s)
		return;
	if (requests_len(&s->reqs) && requests_at(&s->reqs, 0)->flags & REQF_HERE)
		s->reqs.head++; /* nobody will answer it */
	for (uint32_t i = 0; i < requests_len(&s->reqs); i++) {
		struct request *r = requests_at(&s->reqs, i);
		settle(s, r, false);
		r->flags = REQF_SWALLOW;
		r->cstmt = NULL;
	}
	buf_deinit(&s->hold);
	if (s->raw_left)
		s->raw_mode = RAW_DROP;
}

void reply_orphan(struct server *s) { reply_abandon(s); }

/* --- towards the client --- */

static bool is_holding(const struct server *s)
{
	const struct client *c = s->client;
	return c && moving_is_repeatable(c, s) && !RULE_BROKEN(G1);
}

static bool show(struct client *c, const void *p, size_t n)
{
	if (n == 0)
		return true;
	c->seg.shown_msgs = c->seg.done_msgs;
	c->seg.shown_rows = c->seg.done_rows;
	return client_send(c, p, n);
}

/* Everything that was forwarded so far goes to the client. */
static bool flush(struct reply *r)
{
	struct server *s = r->s;
	struct client *c = s->client;
	size_t n = (size_t)(r->to - r->from);
	bool alive = true;
	if (!c)
		return true;
	if (buf_len(&s->hold)) {
		if (!buf_put(&s->hold, r->from, n))
			alive = false;
		else
			alive = show(c, buf_head(&s->hold), buf_len(&s->hold));
		buf_deinit(&s->hold);
		if (!alive && c->state != CLIENT_CLOSING)
			client_close(c, NULL, "out of memory");
	} else {
		alive = show(c, r->from, n);
	}
	r->from = r->to = r->p;
	return alive;
}

/* Keeps what was forwarded back for the time being. */
static bool hold(struct reply *r)
{
	struct server *s = r->s;
	size_t n = (size_t)(r->to - r->from);
	if (n && !buf_put(&s->hold, r->from, n)) {
		client_close(s->client, NULL, "out of memory");
		return false;
	}
	r->from = r->to = r->p;
	return true;
}

static void forward(struct reply *r, size_t n)
{
	if (r->from == r->to)
		r->from = r->to = r->p;
	if (r->to != r->p)
		memmove(r->to, r->p, n);
	r->to += n;
}

/* --- errors --- */

/* F1: what a standby may say although the primary would not.  Not 57014: the client has asked for that. */
static bool is_standby_error(const struct pgerr_fields *e)
{
	static const char *const classes[] = { "25006", "0A000", "55000", "XX000", "40001", "40P01", "57P0",
		                               "53",    "08",    "42",    "3F000", "3D000", "26000", "34000" };
	if (RULE_BROKEN(F1))
		return pgerr_is_class(e, "25006");
	for (size_t i = 0; i < ARRAY_LEN(classes); i++) {
		if (pgerr_is_class(e, classes[i]))
			return true;
	}
	return false;
}

static bool may_retry(const struct server *s, const struct pgerr_fields *e)
{
	const struct client *c = s->client;
	if (!c || RULE_BROKEN(A8) || c->state != CLIENT_ACTIVE)
		return false;
	/* The last words of a primary: only its loss is meant. */
	if (pgerr_is_fatal(e) && pgerr_is_class(e, "57P0") && moving_survives_loss(c, s))
		return true;
	return is_standby_error(e) && moving_is_repeatable(c, s);
}

/* D5: somebody has deallocated what we had prepared there; nothing has run yet. */
static bool is_our_statement_missing(const struct server *s, const struct request *r, const struct pgerr_fields *e)
{
	const struct client *c = s->client;
	if (!c || !r || !pgerr_is(e, SQLSTATE_INVALID_STATEMENT_NAME) || !c->seg.kept || c->seg.done_rows ||
	    c->seg.retried || (c->tx != CTX_NONE && c->tx != CTX_DEFERRED) || !e->message.p || RULE_BROKEN(D5))
		return false;
	bool named = r->kind == REQ_BIND || r->kind == REQ_DESCRIBE_STATEMENT;
	return (named && memmem(e->message.p, e->message.n, PSTMT_PREFIX, sizeof PSTMT_PREFIX - 1)) ||
	       (!c->pins && sqlprep_is_missing(s, e->message));
}

/* --- "cached plan must not change result type" ---
 *
 * DDL has changed the columns of what somebody had prepared.  Another Parse cures it, unless the client relies on what
 * it was told of the columns before; then the error is PostgreSQL's answer, which drivers know what to do about. */

static bool is_plan_outdated(const struct pgerr_fields *e)
{
	return pgerr_is(e, SQLSTATE_FEATURE_NOT_SUPPORTED) && str_eq(e->routine, STR(PGERR_ROUTINE_OF_OUTDATED_PLAN));
}

static bool may_prepare_anew(const struct server *s, const struct request *r)
{
	const struct client *c = s->client;
	return c && r && (r->kind == REQ_BIND || r->kind == REQ_DESCRIBE_STATEMENT) && c->seg.kept &&
	       !c->seg.done_rows && !c->seg.retried && (c->tx == CTX_NONE || c->tx == CTX_DEFERRED) &&
	       !columns_are_relied_on(c) && !RULE_BROKEN(D3);
}

/* D2: Bind was refused by a statement that was analysed earlier; a true Parse may see it differently.  Nothing has run
 * yet.  Not what ends the session, and not what the client has asked for. */
static bool is_shared_refused(const struct server *s, const struct request *r, const struct pgerr_fields *e)
{
	const struct client *c = s->client;
	if (!c || !r || r->kind != REQ_BIND || !(r->flags & REQF_SHARED) || RULE_BROKEN(D2))
		return false;
	return c->state == CLIENT_ACTIVE && c->seg.kept && !c->seg.done_rows && !c->seg.retried && c->tx == CTX_NONE &&
	       !pgerr_is_fatal(e) && !pgerr_is_class(e, "57") && !pgerr_is_class(e, "53");
}

/* Its error would not be that of the Query that the client has sent: that is run (simple.h).  Not what ends the
 * session, what the client has asked for, or what a second try would wait for once more. */
static bool is_simple_refused(const struct server *s, const struct request *r, const struct pgerr_fields *e)
{
	const struct client *c = s->client;
	if (!c || !r || !(r->flags & REQF_SIMPLE) || c->state != CLIENT_ACTIVE || RULE_BROKEN(D6))
		return false;
	return c->seg.kept && !c->seg.shown_rows && !c->seg.retried && !pgerr_is_fatal(e) && !pgerr_is_class(e, "57") &&
	       !pgerr_is_class(e, "53") && !pgerr_is_class(e, "55P03");
}

/* `everywhere`: it is the primary that says so. */
static void mark_refused(struct client *c, const struct request *r, const struct pgerr_fields *e, bool everywhere)
{
	char code[6];
	/* C2: a refusal of our own BEGIN or SET says nothing of the client's statement. */
	if (!c->seg.shape || (r && r->flags & REQF_PRELUDE))
		return;
	(void)str_copy(code, sizeof code, pgerr_sqlstate(e));
	if (everywhere ? shape_mark_refused_anywhere(c->seg.shape, code) : shape_mark_refused(c->seg.shape, code))
		workers_tell_refused(c->worker, c->seg.shape);
}

/* After an error the server skips all up to the next Sync. */
static void skip_requests(struct server *s)
{
	struct request *r = head(s);
	if (!r || r->kind == REQ_QUERY || r->kind == REQ_FCALL || r->kind == REQ_SYNC)
		return; /* simple query, or an error of Sync itself (a deferred constraint): ReadyForQuery comes anyway
		         */
	unnamed_failed(s, r);
	while (requests_len(&s->reqs)) {
		r = requests_at(&s->reqs, 0);
		if (r->kind == REQ_SYNC)
			return;
		settle(s, r, false);
		s->reqs.head++;
	}
}

/* The server skips on and no Sync is under way: the client's own comes later, or we must send one (A1). */
static enum outcome see_to_sync(struct server *s, bool query_skipped)
{
	if (requests_len(&s->reqs))
		return OUT_FORWARD;
	if (query_skipped && s->client && s->client->seg.next_msg > 1) {
		s->client->seg.open = true; /* a Query behind messages that fail is skipped with them */
		query_skipped = false;
	}
	if (query_skipped && s->client && s->client->raw_left && !s->client->raw_drop) {
		s->owes_sync = true; /* not into the middle of the client's large message */
		return OUT_FORWARD;
	}
	if (!query_skipped && s->client) {
		s->skipping = true;
		return OUT_FORWARD;
	}
	return emit_sync(s, false) == EMIT_SENT ? OUT_FORWARD : OUT_STOP;
}

static void retry(struct reply *r, bool needs_sync)
{
	struct server *s = r->s;
	struct client *c = s->client;
	enum server_role role = s->is_replica || c->txf.on_standby ? ROLE_PRIMARY : c->seg.role;
	r->from = r->to = r->p;
	if (needs_sync && emit_sync(s, true) == EMIT_BROKEN)
		return;
	relay_retry(c, role);
}

static void note_error(struct server *s, const struct pgerr_fields *e)
{
	s->error_seen = true;
	s->tx_spoiled = true;
	sqlprep_on_error(s);
	/* What runs says 42601 too (to_tsquery() of nonsense), but it has no position in the text. */
	s->last_error_syntax = pgerr_is(e, SQLSTATE_SYNTAX_ERROR) && e->position.p && !e->where.p &&
	                       !e->internal_query.p && !(s->client && s->client->seg.done_rows);
	if (pgerr_is_fatal(e))
		s->close_needed = true;
}

/* What a backend that dies sends may have no SQLSTATE at all. */
static const char *code_of(const struct pgerr_fields *e, char out[6])
{
	return str_copy(out, 6, pgerr_sqlstate(e)) && strlen(out) == 5 ? out : "?????";
}

/* In place of the server's error for a Bind that was made to fail (columns.h): what PostgreSQL says of a plan that
 * would give other columns. */
static enum outcome say_outdated(struct reply *r)
{
	struct client *c = r->s->client;
	struct wire_writer ww;
	struct buf *out = &r->w->reply;
	buf_clear(out);
	ww_init(&ww, out);
	msg_put_outdated_plan(&ww);
	return ww_finish(&ww) && flush(r) && show(c, buf_head(out), buf_len(out)) ? OUT_SWALLOW : OUT_STOP;
}

/* The client knows nothing of our names (A2). */
static bool show_with_own_name(struct reply *r, const uint8_t *body, size_t n, struct str name)
{
	struct client *c = r->s->client;
	struct buf *out = &r->w->reply;
	struct wire_writer ww;
	const uint8_t *ours = memmem(body, n, PSTMT_PREFIX, sizeof PSTMT_PREFIX - 1), *behind = ours;
	while (behind < body + n && (*behind == '_' || isalnum(*behind)))
		behind++;
	buf_clear(out);
	ww_init(&ww, out);
	ww_begin(&ww, MSG_ERROR_RESPONSE);
	ww_bytes(&ww, body, (size_t)(ours - body));
	ww_bytes(&ww, name.p, name.n);
	ww_bytes(&ww, behind, (size_t)(body + n - behind));
	ww_end(&ww);
	return ww_finish(&ww) && flush(r) && show(c, buf_head(out), buf_len(out));
}

static bool names_ours(const struct pgerr_fields *e)
{
	return e->message.p && memmem(e->message.p, e->message.n, PSTMT_PREFIX, sizeof PSTMT_PREFIX - 1);
}

/* Settings that were to be put back (E7).  In a transaction that has failed they will be by its end; behind one that
 * has ended they are asked for.  Any other is broken now, though its client's statement went well. */
static enum outcome on_put_back_failed(struct server *s)
{
	if (!s->held_ready || s->tx == MSG_TX_OPEN) {
		server_close(s, "a setting of its client's could not be put back");
		return OUT_STOP;
	}
	s->tx_spoiled = true;
	skip_requests(s);
	return OUT_SWALLOW;
}

static enum outcome on_error(struct reply *r, const uint8_t *body, size_t have)
{
	struct server *s = r->s;
	struct pgerr_fields e;
	char code[6];
	pgerr_parse(body, have, &e);
	struct request *first = head(s);
	struct client *c = s->client;
	bool outdated_here = first && first->flags & REQF_OUTDATED && c && !(first->flags & REQF_SWALLOW);
	bool missing = !outdated_here && is_our_statement_missing(s, first, &e), outdated = is_plan_outdated(&e);
	bool refused = outdated ? may_prepare_anew(s, first) : may_retry(s, &e);
	if (outdated) {
		r->w->texts.epoch++;
		server_stmts_set_unnamed(&s->stmts, &r->w->texts, NULL);
	}
	if (first && (first->flags & REQF_FAILS)) {
		s->tx_spoiled = true;
		return OUT_SWALLOW;
	}
	if (first && (first->flags & REQF_BACK))
		return on_put_back_failed(s);
	bool shared_refused = is_shared_refused(s, first, &e);
	if (shared_refused)
		first->sstmt->facts_id = 0; /* parsed anew before its next use */
	if (is_simple_refused(s, first, &e)) {
		shared_refused = true;
		if (!outdated)
			simple_refused(c, first);
	}
	struct str own = { 0 };
	if (first && c && c->seg.kept && (first->kind == REQ_BIND || first->kind == REQ_DESCRIBE_STATEMENT) &&
	    !(first->flags & REQF_SWALLOW) && names_ours(&e))
		own = segment_name_in_message(c, first->msg);
	note_error(s, &e);
	bool was_query = first && (first->kind == REQ_QUERY || first->kind == REQ_FCALL);
	bool query_skipped = false;
	for (uint32_t i = 0; !was_query && i < requests_len(&s->reqs); i++) {
		query_skipped |=
		    requests_at(&s->reqs, i)->kind == REQ_QUERY || requests_at(&s->reqs, i)->kind == REQ_FCALL;
		if (requests_at(&s->reqs, i)->kind == REQ_SYNC)
			break;
	}
	if (first && first->flags & REQF_PRELUDE) {
		s->prelude_failed = true;
		s->sequences_of = UINT_MAX; /* perhaps not discarded */
	}
	if (c && refused && !outdated && !shared_refused)
		mark_refused(c, first, &e, false);
	else if (c && !refused && !shared_refused && !outdated && !outdated_here && !s->is_replica &&
	         c->state == CLIENT_ACTIVE)
		mark_refused(c, first, &e, true);
	bool ends = c && pgerr_is_fatal(&e) && pgerr_is_class(&e, "57P0");
	bool lost_commit = ends && lostcommit_note_fatal(c, s);
	skip_requests(s);
	if (!c && pgerr_is_fatal(&e)) {
		server_close(s, "the server ended the connection");
		return OUT_STOP;
	}
	if (!c)
		return requests_len(&s->reqs) || !first || was_query ? OUT_SWALLOW : see_to_sync(s, true);
	if (missing) {
		server_stmts_doubt(&s->stmts);
		sqlprep_doubt(s);
	}
	if (missing || refused || shared_refused) {
		retry(r, requests_len(&s->reqs) == 0 && !pgerr_is_fatal(&e));
		return OUT_SWALLOW; /* the rest of what it sends, up to ReadyForQuery, is for nobody */
	}
	if (c->seg.after)
		return OUT_SWALLOW; /* the client has its answer already */
	if (c->seg.welcome) {
		relay_note_failure(c, &e);
		return OUT_SWALLOW;
	}
	bool renewable = s->is_replica || (c->tx == CTX_OPEN && plan_may_begin_anew(c));
	if (pgerr_is_fatal(&e) && c->state == CLIENT_IDLE && renewable)
		return OUT_SWALLOW; /* C4: a conflict with recovery between two statements; the end of the connection
		                       follows */
	/* Its loss is what counts. */
	if (ends && (lost_commit || replay_is_possible(c)))
		return OUT_SWALLOW;
	if (pgerr_is_fatal(&e))
		s->fatal_shown = true;
	measure_error(c, outdated_here ? "0A000" : code_of(&e, code));
	c->seg.done_rows = true;
	if (c->copy == COPY_IN)
		c->copy = COPY_NONE; /* what more the client sends of it is dropped */
	enum outcome out = was_query || !first ? OUT_FORWARD : see_to_sync(s, query_skipped);
	if (c->seg.repeats)
		return out;
	if (out == OUT_FORWARD && outdated_here)
		return say_outdated(r);
	if (!own.p || out != OUT_FORWARD)
		return out;
	return show_with_own_name(r, body, have, own) ? OUT_SWALLOW : OUT_STOP;
}

/* --- other messages --- */

/* Done with a request that was answered well. */
static enum outcome answered(struct reply *r, bool rows)
{
	struct server *s = r->s;
	if (!head(s)) {
		server_close(s, "unexpected message from server");
		return OUT_STOP;
	}
	struct request done = pop(s);
	settle(s, &done, true);
	if (done.flags & REQF_SETTLES)
		server_settle_profile(s);
	if (done.flags & REQF_SWALLOW || !s->client)
		return OUT_SWALLOW;
	if (done.msg + 1 > s->client->seg.done_msgs)
		s->client->seg.done_msgs = (uint16_t)(done.msg + 1);
	if (rows)
		s->client->seg.done_rows = true;
	return OUT_FORWARD;
}

/* --- what is said here in front of an answer (unnamed.h) --- */

static const uint8_t parse_complete[] = { MSG_PARSE_COMPLETE, 0, 0, 0, 4 };

/* Behind what is to be forwarded so far; there is head room for one in each read, and no segment has more. */
static void insert_parse_complete(struct reply *r)
{
	size_t n = (size_t)(r->to - r->from);
	if (n == 0)
		r->from = r->to = r->p;
	CHECK(r->from - sizeof parse_complete >= r->w->scratch - WORKER_SCRATCH_HEAD);
	r->from -= sizeof parse_complete;
	memmove(r->from, r->from + sizeof parse_complete, n);
	memcpy(r->from + n, parse_complete, sizeof parse_complete);
}

/* The server has come to what stands behind such a Parse. */
static void answer_here(struct reply *r)
{
	struct request *first = head(r->s);
	if (LIKELY(!first || !(first->flags & REQF_HERE)))
		return;
	struct request done = pop(r->s);
	settle(r->s, &done, true);
	if (done.flags & REQF_SWALLOW || !r->s->client)
		return;
	if (done.msg + 1 > r->s->client->seg.done_msgs)
		r->s->client->seg.done_msgs = (uint16_t)(done.msg + 1);
	insert_parse_complete(r);
}

static bool is_asynchronous(uint8_t type)
{
	return type == MSG_PARAMETER_STATUS || type == MSG_NOTICE_RESPONSE || type == MSG_NOTIFICATION_RESPONSE;
}

/* Part of the answer of the request at the head, which goes on. */
static enum outcome partial(struct reply *r, bool rows)
{
	struct request *first = head(r->s);
	if (!r->s->client || (first && first->flags & (REQF_SWALLOW | REQF_TAG_SEEN)))
		return OUT_SWALLOW;
	if (rows)
		r->s->client->seg.done_rows = true;
	return OUT_FORWARD;
}

static enum outcome on_parameter_status(struct reply *r, const uint8_t *body, size_t n)
{
	struct server *s = r->s;
	struct client *c = s->client;
	struct msg_parameter m;
	bool was_replica = s->is_replica;
	if (!msg_parse_parameter_status(body, n, &m)) {
		server_close(s, "malformed ParameterStatus");
		return OUT_STOP;
	}
	server_note_status(s, m.name, m.value);
	if (was_replica != s->is_replica)
		cluster_report_suspect(s->pool->du->db->cluster, s->pool->host);
	if (!c || c->state == CLIENT_RAW || str_ieq(m.name, STR("in_hot_standby")))
		return c && c->state == CLIENT_RAW ? OUT_FORWARD : OUT_SWALLOW;
	if (c->seg.welcome)
		return OUT_SWALLOW;
	if (RULE_BROKEN(E6)) {
		client_note_status(c, m.name, m.value);
		return OUT_FORWARD;
	}
	s->news = true;
	return OUT_SWALLOW;
}

/* E6: a server reports what has changed since it last did, for whomever that was.  So a client is told what differs
 * from what it has been told, wherever it comes from; just before ReadyForQuery, where PostgreSQL says it too. */
static enum outcome tell_status(struct reply *r)
{
	struct server *s = r->s;
	struct client *c = s->client;
	struct wire_writer ww;
	struct buf *out = &r->w->reply;
	buf_clear(out);
	ww_init(&ww, out);
	s->news = false;
	for (unsigned i = 0; i < s->status->n; i++) {
		const struct param *p = &s->status->items[i];
		const char *known = params_get(c->view, p->name), *value = settings_as_told(c, p);
		if (!value || (known && strcmp(known, value) == 0))
			continue;
		msg_put_parameter_status(&ww, str_of(params_display_name(p->name)), str_of(value));
		client_note_status(c, str_of(p->name), str_of(value));
	}
	if (buf_len(out) == 0)
		return OUT_FORWARD;
	return ww_finish(&ww) && flush(r) && show(c, buf_head(out), buf_len(out)) ? OUT_FORWARD : OUT_STOP;
}

/* "INSERT 0 5", "SELECT 12": the number at the end; a tag without one has no rows. */
static uint64_t rows_of_tag(const uint8_t *body, size_t n)
{
	uint64_t rows = 0, unit = 1;
	for (size_t i = n < 2 ? 0 : n - 1; i > 0 && body[i - 1] >= '0' && body[i - 1] <= '9' && unit < UINT64_MAX / 100;
	     i--, unit *= 10)
		rows += (uint64_t)(body[i - 1] - '0') * unit;
	return rows;
}

/* PREPARE, DEALLOCATE, DISCARD */
static bool is_about_names(const uint8_t *tag, size_t n)
{
	return n > 7 &&
	       (memcmp(tag, "PREPARE", 8) == 0 || memcmp(tag, "DEALLOC", 7) == 0 || memcmp(tag, "DISCARD", 7) == 0);
}

static enum outcome on_command_complete(struct reply *r, const uint8_t *body, size_t n)
{
	struct server *s = r->s;
	struct request *first = head(s);
	struct str tag;
	if (is_about_names(body, n) && !(first && first->flags & REQF_PRELUDE) &&
	    msg_parse_command_complete(body, n, &tag))
		sqlprep_on_complete(s, tag);
	if (s->client && !(first && first->flags & REQF_SWALLOW))
		s->client->seg.rows += rows_of_tag(body, n);
	if (first && first->kind == REQ_EXECUTE)
		return answered(r, true);
	enum outcome out = partial(r, true);
	if (first && (first->flags & REQF_ONE_TAG))
		first->flags |= REQF_TAG_SEEN;
	return out;
}

/* The server reads COPY data now.  Sync and Flush that we have sent behind the Execute are ignored by it. */
static enum outcome on_copy_in(struct reply *r)
{
	struct server *s = r->s;
	struct client *c = s->client;
	struct request *first = head(s);
	if (!c) {
		server_close(s, "COPY for nobody");
		return OUT_STOP;
	}
	c->copy = COPY_IN;
	c->seg.awaits_copy = c->seg.kept = false;
	buf_consume(&c->in, c->emitted);
	c->emitted = 0;
	if (first && first->kind == REQ_EXECUTE) {
		while (requests_len(&s->reqs) > 1) {
			s->copy_sync |= requests_at(&s->reqs, requests_len(&s->reqs) - 1)->kind == REQ_SYNC;
			settle(s, requests_at(&s->reqs, requests_len(&s->reqs) - 1), false);
			s->reqs.tail--;
		}
		c->seg.open = true;
	}
	return partial(r, true);
}

/* What follows ReadyForQuery in the same read can only be asynchronous; it is passed on before anything is done about
 * the end of the segment, because then the server may work for somebody else. */
static enum outcome take_ready(struct reply *r, uint8_t *body)
{
	struct server *s = r->s;
	struct client *c = s->client;
	struct request *first = head(s);
	if (!first && s->copy_sync && s->skipping && c && !r->ready) {
		/* COPY failed before the server read any data: it has answered the Sync that was sent ahead. */
		sqlprep_on_ready(s);
		s->copy_sync = s->skipping = false;
		r->status = s->tx = (char)*body;
		r->ready = true;
		return OUT_FORWARD;
	}
	if (first && first->flags & REQF_NOT_READY) {
		struct request held = pop(s);
		s->tx = (char)*body;
		s->held_ready = !(held.flags & REQF_FAILS);
		return OUT_SWALLOW;
	}
	if (!first || r->ready || (first->kind != REQ_SYNC && first->kind != REQ_QUERY && first->kind != REQ_FCALL)) {
		server_close(s, "unexpected ReadyForQuery");
		return OUT_STOP;
	}
	struct request done = pop(s);
	s->held_ready = false;
	sqlprep_on_ready(s);
	r->status = s->tx = (char)*body;
	r->ready = true;
	r->own = !c || done.flags & REQF_SWALLOW;
	if (r->own)
		return OUT_SWALLOW;
	/* A prelude that was rolled back leaves the settings of somebody else. */
	bool rolled_back = s->pending && s->tx_spoiled;
	if (s->news && !rolled_back && !c->seg.repeats && tell_status(r) == OUT_STOP)
		return OUT_STOP;
	/* The client was told that it is in a transaction, which its first statement's prelude did not survive. */
	if (c->tx == CTX_DEFERRED && r->status == MSG_TX_IDLE && s->prelude_failed)
		*body = MSG_TX_FAILED;
	return OUT_FORWARD;
}

static enum outcome on_ready(struct reply *r, uint8_t *body)
{
	enum outcome out = take_ready(r, body);
	const struct client *c = out == OUT_FORWARD ? r->s->client : NULL;
	r->held = c && UNLIKELY(c->listens != NULL) && !c->seg.repeats && listens_holds(c, (char)*body);
	return r->held ? OUT_SWALLOW : out;
}

static void finish_own(struct server *s)
{
	struct client *c = s->client;
	bool failed = s->error_seen;
	if (!c && s->state == SERVER_RESETTING) {
		server_reset_done(s);
		return;
	}
	s->error_seen = false;
	if (!c) {
		if (s->tx == MSG_TX_IDLE)
			server_settle_profile(s);
		server_release(s);
	} else if (c->seg.after) {
		relay_after_done(c, failed);
	} else if (c->seg.welcome) {
		relay_welcome_done(c, s, failed ? c->failure : NULL);
	}
}

static void finish_segment(struct reply *r)
{
	struct server *s = r->s;
	struct client *c = s->client;
	if (r->own) {
		/* A notification may have come with it. */
		if (r->from != r->to && !flush(r))
			return;
		if (requests_len(&s->reqs) == 0)
			finish_own(s);
		return;
	}
	if (!flush(r))
		return;
	if (r->held) {
		listens_hold(c);
		return;
	}
	relay_segment_done(c, s, r->status);
	if (c->state == CLIENT_IDLE)
		client_process(c);
}

static bool must_be_whole(const struct server *s, uint8_t type)
{
	switch (type) {
	case MSG_DATA_ROW:
		return s->client &&
		       (s->client->seg.after || (requests_len(&s->reqs) && requests_at(&s->reqs, 0)->flags & REQF_XID));
	case MSG_ROW_DESCRIPTION:
		return s->client && requests_len(&s->reqs) &&
		       requests_at(&s->reqs, 0)->flags & (REQF_COLUMNS | REQF_TELLS);
	case MSG_COPY_DATA_OUT:
	case MSG_PARAMETER_DESCRIPTION:
	case MSG_FUNCTION_CALL_RESPONSE:
		return false;
	default:
		return true;
	}
}

static bool is_describe(const struct request *r)
{
	return r && (r->kind == REQ_DESCRIBE_STATEMENT || r->kind == REQ_DESCRIBE_PORTAL);
}

/* The columns of a statement or portal; body is NULL when it has none. */
static enum outcome described(struct reply *r, const uint8_t *body, size_t have, size_t len)
{
	const struct request *first = head(r->s);
	if (first && first->flags & REQF_COLUMNS)
		columns_learn(r->s, first, columns_hash(body, have, len));
	/* Of a Query the columns are part of the answer, and not to be shown twice. */
	return answered(r, first && first->flags & REQF_SIMPLE);
}

static enum outcome on_row_description(struct reply *r, const uint8_t *body, size_t have, size_t len)
{
	const struct request *first = head(r->s);
	struct client *c = r->s->client;
	if (UNLIKELY(first && first->flags & REQF_TELLS && c) && !simple_told(c, first, body, have, len) &&
	    !c->seg.retried && !c->seg.shown_rows && !RULE_BROKEN(D6)) {
		(void)pop(r->s);
		retry(r, false);
		return OUT_SWALLOW; /* with the rest of this answer */
	}
	return is_describe(first) ? described(r, body, have, len) : partial(r, true);
}

static enum outcome on_data_row(struct reply *r, const uint8_t *body, size_t have, size_t len)
{
	struct client *c = r->s->client;
	const struct request *first = head(r->s);
	if (c && first && (first->flags & REQF_AFTER))
		afterstep_row(c, r->s, body, have, len);
	else if (c && first && (first->flags & REQF_XID))
		lostcommit_note_xid(c, body, have, len);
	return partial(r, true);
}

/* The other client is known by the pid that it was told. */
static enum outcome on_notification(struct reply *r, uint8_t *body, size_t have)
{
	const struct client *c = r->s->client;
	if (!c || (UNLIKELY(c->listens != NULL) && listens_has(c, body, have)))
		return OUT_SWALLOW;
	if (have >= sizeof(uint32_t)) {
		uint32_t pid = htobe32(notifier_find(r->s->pool->host, frame_load_u32(body)));
		memcpy(body, &pid, sizeof pid);
	}
	return OUT_FORWARD;
}

static enum outcome on_message(struct reply *r, uint8_t type, uint8_t *body, size_t have, size_t len)
{
	switch (type) {
	case MSG_DATA_ROW:
		return on_data_row(r, body, have, len);
	case MSG_COPY_DATA_OUT:
	case MSG_COPY_DONE_OUT:
	case MSG_COPY_OUT_RESPONSE:
	case MSG_FUNCTION_CALL_RESPONSE:
		return partial(r, true);
	case MSG_ROW_DESCRIPTION:
		return on_row_description(r, body, have, len);
	case MSG_NO_DATA:
		return described(r, NULL, 0, 0);
	case MSG_PARAMETER_DESCRIPTION:
		return partial(r, false);
	case MSG_PARSE_COMPLETE:
	case MSG_BIND_COMPLETE:
	case MSG_CLOSE_COMPLETE:
		return answered(r, false);
	case MSG_COMMAND_COMPLETE:
		return on_command_complete(r, body, have);
	case MSG_EMPTY_QUERY_RESPONSE:
	case MSG_PORTAL_SUSPENDED:
		return head(r->s) && head(r->s)->kind == REQ_EXECUTE ? answered(r, true) : partial(r, true);
	case MSG_COPY_IN_RESPONSE:
		return on_copy_in(r);
	case MSG_READY_FOR_QUERY:
		return on_ready(r, body);
	case MSG_ERROR_RESPONSE:
		return on_error(r, body, have);
	case MSG_NOTICE_RESPONSE:
		return partial(r, head(r->s) && head(r->s)->flags & REQF_SIMPLE);
	case MSG_PARAMETER_STATUS:
		return on_parameter_status(r, body, have);
	case MSG_NOTIFICATION_RESPONSE:
		return on_notification(r, body, have);
	default:
		server_close(r->s, "unexpected message type from server");
		return OUT_STOP;
	}
}

/* --- the loop --- */

static enum outcome take_raw(struct reply *r)
{
	struct server *s = r->s;
	size_t n = (size_t)(r->end - r->p);
	n = n < s->raw_left ? n : (size_t)s->raw_left;
	if (s->raw_mode == RAW_FORWARD && s->client && replay_shows(s->client, 0, r->p, n))
		forward(r, n);
	r->p += n;
	s->raw_left -= n;
	return OUT_SWALLOW;
}

static enum outcome take_message(struct reply *r, const struct frame_head *h)
{
	size_t avail = (size_t)(r->end - r->p), n = h->len < avail ? h->len : avail;
	if (!is_asynchronous(h->type))
		answer_here(r);
	enum outcome out =
	    on_message(r, h->type, r->p + FRAME_HEAD_BYTES, n - FRAME_HEAD_BYTES, h->len - FRAME_HEAD_BYTES);
	if (out == OUT_STOP)
		return out;
	if (h->len > n) {
		r->s->raw_left = h->len - n;
		r->s->raw_mode = out == OUT_FORWARD ? RAW_FORWARD : RAW_DROP;
	}
	if (out == OUT_FORWARD && (!r->s->client || replay_shows(r->s->client, h->type, r->p, n)))
		forward(r, n);
	r->p += n;
	return OUT_SWALLOW;
}

static bool keep_part(struct reply *r)
{
	size_t n = (size_t)(r->end - r->p);
	buf_clear(&r->s->part);
	if (n && !buf_put(&r->s->part, r->p, n)) {
		server_close(r->s, "out of memory");
		return false;
	}
	return true;
}

/* What this read brought goes out, or waits with the rest of a standby's answer. */
static void deliver(struct reply *r)
{
	struct server *s = r->s;
	struct client *c = s->client;
	if (!c || r->from == r->to)
		return;
	struct request *first = requests_len(&s->reqs) ? requests_at(&s->reqs, 0) : NULL;
	bool wanted = !first || first->kind == REQ_FLUSH; /* all that the client's Flush asks for is here */
	if (is_holding(s) && !wanted && buf_len(&s->hold) + (size_t)(r->to - r->from) < HOLD_BYTES_MAX) {
		hold(r);
		return;
	}
	if (flush(r) && stream_pending(&c->stream) && s->client == c)
		stream_want_read(&s->stream, false);
}

/* --- the common case: all of an answer that goes well, in one read ---
 *
 * Only types and lengths are looked at, and nothing is changed until the last message has turned out to be the
 * ReadyForQuery that ends the read.  Whatever else comes is left to the loop above, from its first byte on. */

static const uint8_t *skip_one(const uint8_t *p, const uint8_t *end, uint8_t type)
{
	struct frame_head h;
	if (frame_peek(p, (size_t)(end - p), &h) != FRAME_OK || h.type != type || h.len > (size_t)(end - p))
		return NULL;
	return p + h.len;
}

/* Adds what the tag says to *rows. */
static const uint8_t *skip_rows(const uint8_t *p, const uint8_t *end, uint64_t *rows)
{
	const uint8_t *next;
	while (p < end && *p == MSG_DATA_ROW && (next = skip_one(p, end, MSG_DATA_ROW)))
		p = next;
	next = skip_one(p, end, MSG_COMMAND_COMPLETE);
	p += FRAME_HEAD_BYTES;
	if (!next || is_about_names(p, (size_t)(next - p)))
		return NULL;
	*rows += rows_of_tag(p, (size_t)(next - p));
	return next;
}

/* Behind the good answer of one request; NULL: something else stands there, or not all of it. */
static const uint8_t *skip_answer(const uint8_t *p, const uint8_t *end, enum request_kind kind, uint64_t *rows)
{
	switch (kind) {
	case REQ_PARSE:
		return skip_one(p, end, MSG_PARSE_COMPLETE);
	case REQ_BIND:
		return skip_one(p, end, MSG_BIND_COMPLETE);
	case REQ_DESCRIBE_PORTAL:
		return skip_one(p, end, p < end && *p == MSG_NO_DATA ? MSG_NO_DATA : MSG_ROW_DESCRIPTION);
	case REQ_EXECUTE:
		return skip_rows(p, end, rows);
	case REQ_QUERY:
		if (p < end && *p == MSG_ROW_DESCRIPTION)
			p = skip_one(p, end, MSG_ROW_DESCRIPTION);
		return p ? skip_rows(p, end, rows) : NULL;
	case REQ_SYNC:
		return p;
	case REQ_DESCRIBE_STATEMENT:
	case REQ_CLOSE:
	case REQ_FCALL:
	case REQ_FLUSH:
		break;
	}
	return NULL;
}

static bool is_whole_answer(const struct reply *r, uint64_t *rows)
{
	const struct server *s = r->s;
	const uint8_t *p = r->p, *end = r->end;
	for (uint32_t i = 0; i < requests_len(&s->reqs) && p; i++) {
		const struct request *q = requests_at(&s->reqs, i);
		/* The BindComplete in front of a Query's answer is left out. */
		bool ours = i == 0 && q->kind == REQ_BIND && q->flags & REQF_SIMPLE;
		if (!ours && q->flags & (REQF_SWALLOW | REQF_COLUMNS | REQF_NOT_READY | REQF_TELLS))
			return false;
		if (q->flags & REQF_HERE)
			continue;
		p = skip_answer(p, end, (enum request_kind)q->kind, rows);
		if (q->kind == REQ_SYNC || q->kind == REQ_QUERY)
			return p && end - p == FRAME_HEAD_BYTES + 1 && skip_one(p, end, MSG_READY_FOR_QUERY) == end;
	}
	return false;
}

/* What ends a connection may come right behind ReadyForQuery, in the same read.  The client's segment is over then, and
 * only behind its end it is known whom this concerns. */
static bool is_behind_ready(const struct reply *r, const struct frame_head *h)
{
	return r->ready && h->type == MSG_ERROR_RESPONSE && requests_len(&r->s->reqs) == 0;
}

static bool take_whole_answer(struct reply *r)
{
	struct server *s = r->s;
	struct client *c = s->client;
	uint64_t rows = 0;
	enum request_kind last;
	/* Not with a prelude of ours, and not with news of settings: of these more depends on the outcome. */
	if (!c || c->state != CLIENT_ACTIVE || s->raw_left || c->seg.recorded || c->listens || s->pending || s->news ||
	    buf_len(&s->hold) || s->plain.n_tentative || !STAILQ_EMPTY(&s->plain.effects) || !is_whole_answer(r, &rows))
		return false;
	r->to = r->end;
	if (requests_at(&s->reqs, 0)->flags & REQF_SIMPLE)
		r->from += FRAME_HEAD_BYTES;
	if (requests_at(&s->reqs, 0)->flags & REQF_HERE) {
		r->from -= sizeof parse_complete;
		memcpy(r->from, parse_complete, sizeof parse_complete);
	}
	do {
		struct request *done = requests_at(&s->reqs, 0);
		last = (enum request_kind)done->kind;
		if (done->flags)
			settle(s, done, true);
		s->reqs.head++;
	} while (last != REQ_SYNC && last != REQ_QUERY);
	c->seg.rows += rows;
	r->p = r->end;
	r->status = s->tx = (char)r->end[-1];
	r->ready = true;
	return true;
}

static void take_rest(struct server *s);

static void process(struct reply *r)
{
	struct server *s = r->s;
	if (take_whole_answer(r)) {
		finish_segment(r);
		return;
	}
	while (r->p < r->end && s->state != SERVER_CLOSING) {
		struct frame_head h;
		if (s->raw_left) {
			take_raw(r);
			continue;
		}
		size_t avail = (size_t)(r->end - r->p);
		enum frame_result f = frame_peek(r->p, avail, &h);
		if (f == FRAME_BAD) {
			server_close(s, "malformed message from server");
			return;
		}
		if (f == FRAME_MORE || (h.len > avail && must_be_whole(s, h.type) && avail < WHOLE_BYTES_MAX))
			break;
		if (is_behind_ready(r, &h)) {
			s->ended = true;
			break;
		}
		if (take_message(r, &h) == OUT_STOP)
			return;
	}
	if (s->state == SERVER_CLOSING || !keep_part(r))
		return;
	if (r->ready) {
		/* Read before: a server that goes back to its pool may be another worker's by then.  One that has ended
		 * does not move, it is closed or stays with its client. */
		bool ended = s->ended;
		finish_segment(r);
		if (ended && !r->held)
			take_rest(s);
		return;
	}
	deliver(r);
	if (s->client && s->client->seg.checking && requests_len(&s->reqs) == 0)
		relay_checked(s->client, s);
	/* What the client has sent meanwhile is COPY data, or stands behind an error and is skipped. */
	if (s->client && (s->client->copy == COPY_IN || s->skipping) && s->client->state == CLIENT_ACTIVE)
		client_process(s->client);
}

/* The FATAL that was left behind ReadyForQuery, if the server's client still has it (see is_behind_ready). */
static void take_rest(struct server *s)
{
	struct worker *w = s->pool->worker;
	size_t n = buf_len(&s->part);
	if (s->state == SERVER_CLOSING || !s->client || n == 0)
		return;
	memcpy(w->scratch, buf_head(&s->part), n);
	buf_clear(&s->part);
	struct reply r = {
		.s = s, .w = w, .from = w->scratch, .to = w->scratch, .p = w->scratch, .end = w->scratch + n
	};
	process(&r);
}

void reply_ready(struct client *c)
{
	struct server *s = c->srv;
	bool ended = s->ended; /* read before, as in process() */
	stream_want_read(&s->stream, true);
	relay_segment_done(c, s, MSG_TX_IDLE);
	if (c->state == CLIENT_IDLE)
		client_process(c);
	if (ended)
		take_rest(s);
}

static void pass_raw(struct server *s, const uint8_t *p, size_t n)
{
	struct client *c = s->client;
	if (client_send(c, p, n) && stream_pending(&c->stream) && s->client == c)
		stream_want_read(&s->stream, false);
}

void relay_on_server_readable(struct server *s)
{
	struct worker *w = s->pool->worker;
	size_t part = buf_len(&s->part);
	CHECK(part < WORKER_SCRATCH_BYTES);
	if (part)
		memcpy(w->scratch, buf_head(&s->part), part);
	ssize_t n = stream_read(&s->stream, w->scratch + part, WORKER_SCRATCH_BYTES - part);
	if (n == STREAM_AGAIN)
		return;
	if (n <= 0) {
		char why[256];
		snprintf(why, sizeof why, "%s", n == STREAM_EOF ? "server closed the connection" : stream_last_error());
		server_close(s, why);
		return;
	}
	buf_clear(&s->part);
	struct client *c = s->client;
	if (c && c->state == CLIENT_RAW) {
		pass_raw(s, w->scratch, part + (size_t)n);
		return;
	}
	if (c)
		consistency_note_answer(c, s->pool->host, !s->is_replica);
	struct reply r = { .s = s,
		           .w = w,
		           .from = w->scratch,
		           .to = w->scratch,
		           .p = w->scratch,
		           .end = w->scratch + part + (size_t)n };
	process(&r);
}
