/* proxy/emit.c - see proxy/emit.h. */
#include "proxy/emit.h"

#include <errno.h>
#include <stdio.h>
#include "base/rules.h"
#include "emit_priv.h"
#include "proxy/columns.h"
#include "proxy/database.h"
#include "proxy/lostcommit.h"
#include "proxy/params.h"
#include "proxy/pins.h"
#include "proxy/plan.h"
#include "proxy/pstmt.h"
#include "proxy/settings.h"
#include "proxy/simple.h"
#include "proxy/sqlprep.h"
#include "proxy/tracking.h"
#include "proxy/unnamed.h"
#include "proxy/worker.h"
#include "sql/facts.h"
#include "sql/shapes.h"
#include "wire/msg.h"

/* A name that no statement has. */
#define NO_STATEMENT PSTMT_PREFIX "none"

void emit_begin(struct emit *e, struct client *c, struct server *s)
{
	struct buf *out = &s->pool->worker->out;
	*e = (struct emit){ .c = c, .s = s, .unnamed = s->stmts.unnamed };
	buf_clear(out);
	ww_init(&e->ww, out);
}

enum emit_result emit_finish(struct emit *e)
{
	struct server *s = e->s;
	struct buf *out = e->ww.out;
	if (!ww_finish(&e->ww) || e->failed) {
		server_close(s, "out of memory");
		return EMIT_BROKEN;
	}
	bool is_first = !stream_is_tls(&s->stream) && stream_pending(&s->stream) == 0;
	if (stream_send(&s->stream, buf_head(out), buf_len(out)) == STREAM_BROKEN) {
		char why[256];
		/* Nothing of it has left. */
		if (e->c && is_first && (errno == EPIPE || errno == ECONNRESET))
			e->c->seg.unseen = true;
		snprintf(why, sizeof why, "%s", stream_last_error());
		server_close(s, why);
		return EMIT_BROKEN;
	}
	return EMIT_SENT;
}

static struct request *push(struct emit *e, enum request_kind kind, unsigned flags)
{
	static struct request spare; /* written and forgotten once memory has run out */
	struct request *r = requests_push(&e->s->reqs);
	if (!r) {
		e->failed = true;
		r = &spare;
	}
	*r = (struct request){ .kind = (uint8_t)kind, .flags = flags };
	return r;
}

struct request *emit_push(struct emit *e, enum request_kind kind, unsigned flags) { return push(e, kind, flags); }

/* --- prepared statements on the server --- */

static void put_close(struct emit *e, const struct stmt_text *text, struct sstmt *settle)
{
	struct request *r = push(e, REQ_CLOSE, REQF_SWALLOW | (settle ? REQF_SERVER_STMT : 0u));
	r->sstmt = settle;
	msg_put_close(&e->ww, MSG_TARGET_STATEMENT, stmt_text_server_name(text));
}

static void make_room(struct emit *e)
{
	struct server *s = e->s;
	int max = s->pool->du->config->max_prepared_statements;
	struct sstmt *victim;
	for (int bound = 0; bound < 8; bound++) {
		victim = server_stmts_victim(&s->stmts, max > 0 ? (unsigned)max : 1u, e->c->segment_no);
		if (!victim)
			return;
		victim->present = false;
		victim->closing = true;
		victim->used_in = e->c->segment_no;
		put_close(e, victim->text, victim);
	}
}

/* Every statement of ours that the server has. */
static void close_ours(struct emit *e)
{
	struct sstmt *at;
	TAILQ_FOREACH(at, &e->s->stmts.lru, lru)
	{
		at->present = false;
		at->closing = true;
		put_close(e, at->text, at);
	}
}

/* The server's entry for the text, with whatever stands under its name there closed first. */
struct sstmt *emit_fresh_entry(struct emit *e, struct stmt_text *text, uint64_t made_for)
{
	struct server_stmts *stmts = &e->s->stmts;
	struct sstmt *at = server_stmts_find(stmts, text, e->c->segment_no);
	if (at) {
		columns_forget_copy(e->s, at);
		put_close(e, text, NULL);
	} else {
		make_room(e);
		at = server_stmts_add(stmts, text, e->c->segment_no);
		if (!at) {
			e->failed = true;
			return NULL;
		}
	}
	at->present = true;
	at->closing = false;
	at->made_for = made_for;
	at->columns = 0;
	at->epoch = e->s->pool->worker->texts.epoch;
	at->facts_id = 0;
	return at;
}

static void put_parse(struct emit *e, struct str name, const struct stmt_text *text)
{
	ww_begin(&e->ww, MSG_PARSE);
	ww_str(&e->ww, name);
	ww_bytes(&e->ww, text->body, text->body_len);
	ww_end(&e->ww);
	e->s->pool->worker->stats.total.server_parses++;
	e->c->du->stats.server_parses++;
}

void emit_put_parse(struct emit *e, struct str name, const struct stmt_text *text) { put_parse(e, name, text); }

/* D1: constants in a statement are read when it is parsed, by the settings of then; so it is shared only between
 * clients of the same settings, and by nobody when a transaction has settings of its own. */
uint64_t emit_settings(const struct client *c) { return RULE_BROKEN(D1) ? 0 : c->odd_key ? c->odd_key : c->parse_key; }

/* The statement is on the server, or its Parse is put before what is about to use it. */
static struct sstmt *find_ready(struct emit *e, struct stmt_text *text, uint64_t made_for)
{
	struct sstmt *at = server_stmts_find(&e->s->stmts, text, e->c->segment_no);
	/* In this very segment: not once more. */
	bool checked = at && e->c->seg.check_no && at->checked_in == e->c->seg.check_no;
	return at && at->present && at->made_for == made_for &&
	               (checked || at->epoch == e->s->pool->worker->texts.epoch)
	           ? at
	           : NULL;
}

/* NULL: out of memory. */
static struct sstmt *put_statement(struct emit *e, struct stmt_text *text, uint64_t made_for, unsigned flags)
{
	struct sstmt *at = emit_fresh_entry(e, text, made_for);
	struct request *r = push(e, REQ_PARSE, REQF_SWALLOW | REQF_SERVER_STMT | flags);
	r->sstmt = at;
	put_parse(e, stmt_text_server_name(text), text);
	return at;
}

static void ensure_statement(struct emit *e, struct stmt_text *text, uint64_t made_for, unsigned flags)
{
	if (!find_ready(e, text, made_for))
		(void)put_statement(e, text, made_for, flags);
}

/* --- prelude --- */

void emit_inject(struct emit *e, struct stmt_text *text, unsigned flags)
{
	char portal_name[PSTMT_NAME_MAX];
	ensure_statement(e, text, 0, flags);
	int len = snprintf(portal_name, sizeof portal_name, PSTMT_PREFIX "p%x", e->s->portal_seq++);
	struct str portal = { portal_name, (size_t)len };
	if (RULE_BROKEN(A2)) {
		portal.n = 0;
		push(e, REQ_PARSE, REQF_SWALLOW | flags);
		put_parse(e, STR(""), text);
		msg_put_bind(&e->ww, portal, STR(""), NULL, 0);
	} else {
		msg_put_bind(&e->ww, portal, stmt_text_server_name(text), NULL, 0);
	}
	push(e, REQ_BIND, REQF_SWALLOW | flags);
	msg_put_execute(&e->ww, portal, 0);
	push(e, REQ_EXECUTE, REQF_SWALLOW | flags);
	/* Left open it would show in the client's pg_cursors until the transaction ends. */
	msg_put_close(&e->ww, MSG_TARGET_PORTAL, portal);
	push(e, REQ_CLOSE, REQF_SWALLOW | flags);
}

/* sql: with its NUL.  flags: those of its Execute and its helpers besides REQF_SWALLOW. */
static void inject(struct emit *e, struct buf *sql, unsigned flags)
{
	struct worker *w = e->s->pool->worker;
	/* A Parse body: text, NUL, no parameter types. */
	struct stmt_text *text = NULL;
	if (buf_put(sql, "\0", 2))
		text = stmt_texts_intern(&w->texts, buf_head(sql), buf_len(sql));
	if (!text) {
		e->failed = true;
		return;
	}
	emit_inject(e, text, flags);
	stmt_text_unref(&w->texts, text);
}

static void inject_text(struct emit *e, const char *text, unsigned flags)
{
	struct buf *sql = &e->s->pool->worker->reply;
	buf_clear(sql);
	if (buf_put(sql, text, strlen(text) + 1))
		inject(e, sql, flags);
	else
		e->failed = true;
}

/* `alone`: committed before the client's statement begins. */
static void put_settings(struct emit *e, bool alone)
{
	struct server *s = e->s;
	struct params_table *t = &s->pool->worker->params;
	struct settings_diff d = { .from = s->profile ? s->profile : s->base,
		                   .to = e->c->profile,
		                   .base = s->base,
		                   .reset_all = s->profile == NULL };
	struct buf *sql = &s->pool->worker->reply;
	while (settings_diff_next(&d, sql))
		inject(e, sql, REQF_PRELUDE);
	tracking_note_names(e->c, s, e->c->custom);
	s->news = true;
	/* A COMMIT that stands alone makes a warning. */
	if (alone) {
		inject_text(e, "BEGIN", REQF_PRELUDE);
		inject_text(e, "COMMIT", REQF_PRELUDE | REQF_SETTLES);
	}
	/* C7: until then it rolls back with the client's statement. */
	params_unref(t, s->pending);
	s->pending = params_ref(e->c->profile);
	if (RULE_BROKEN(C7)) {
		params_unref(t, s->profile);
		s->profile = params_ref(e->c->profile);
	}
}

static const char *isolation_words(enum sql_isolation isolation)
{
	switch (isolation) {
	case SQL_ISO_UNSET:
		break;
	case SQL_ISO_READ_UNCOMMITTED:
		return " ISOLATION LEVEL READ UNCOMMITTED";
	case SQL_ISO_READ_COMMITTED:
		return " ISOLATION LEVEL READ COMMITTED";
	case SQL_ISO_REPEATABLE_READ:
		return " ISOLATION LEVEL REPEATABLE READ";
	case SQL_ISO_SERIALIZABLE:
		return " ISOLATION LEVEL SERIALIZABLE";
	}
	return "";
}

/* The client's BEGIN.  On a standby every mode is said aloud, because defaults may differ there (C2), but not READ
 * WRITE, which a standby refuses. */
static void put_begin(struct emit *e)
{
	struct sql_begin *b = &e->c->begin;
	char sql[160];
	bool standby = e->s->is_replica && !RULE_BROKEN(C2);
	/* Wherever it goes on, it is what it was when it began. */
	if (standby)
		b->isolation = plan_isolation_level(e->c);
	const char *access = b->read_only == SQL_YES              ? " READ ONLY"
	                     : b->read_only == SQL_NO && !standby ? " READ WRITE"
	                                                          : "";
	e->c->txf.on_standby = e->s->is_replica;
	const char *deferrable = b->deferrable == SQL_YES  ? " DEFERRABLE"
	                         : b->deferrable == SQL_NO ? " NOT DEFERRABLE"
	                                                   : "";
	snprintf(sql, sizeof sql, "BEGIN%s%s%s", isolation_words(b->isolation), access, deferrable);
	inject_text(e, sql, REQF_PRELUDE);
}

/* A transaction that has run statements elsewhere and begins anew: SET TRANSACTION must find that it comes too late
 * (25001), now or after a statement that takes no snapshot. */
static void put_snapshot(struct emit *e, const struct segment *seg)
{
	if (e->c->txf.ran && !plan_takes_snapshot(seg) && !RULE_BROKEN(C2))
		inject_text(e, "SELECT 1", REQF_PRELUDE);
}

static bool settings_differ(const struct client *c, const struct server *s) { return s->profile != c->profile; }

/* These end with their segment, for better or worse, and do nothing to settings on the way. */
static bool is_plain_verb(const struct sql_shape *shape)
{
	switch ((int)sql_facts_verb(shape_facts(shape))) {
	case SQL_SELECT:
	case SQL_INSERT:
	case SQL_UPDATE:
	case SQL_DELETE:
	case SQL_MERGE:
	case SQL_COPY_TO:
	case SQL_COPY_FROM:
	case SQL_SHOW:
	case SQL_TRUNCATE:
		return true;
	default:
		return false;
	}
}

/* C7: the prelude may share the transaction of one plain statement, which commits or rolls back both.  Everything else
 * may end its transaction in its middle, refuse to run behind another statement, or count on what the session's
 * settings are when it fails; then the prelude is committed first, in the same write. */
static bool may_share(const struct client *c, const struct params *from, const struct segment *seg)
{
	const uint32_t flags = SQL_F_NO_TX_BLOCK | SQL_F_TX_CONTROL_INSIDE | SQL_F_MAY_TOUCH_SESSION;
	if (RULE_BROKEN(C7))
		return true;
	return c->tx == CTX_NONE && (seg->end == SEGMENT_QUERY || seg->end == SEGMENT_SYNC) && seg->n_executed == 1 &&
	       seg->shape && !(seg->flags & flags) && !seg->pins && is_plain_verb(seg->shape) &&
	       !settings_differ_in_defaults(from, c->profile);
}

static void put_prelude(struct emit *e, const struct segment *seg)
{
	struct server *s = e->s;
	/* Inside a transaction the server has been ours since its first statement. */
	if (s->tx != MSG_TX_IDLE || e->c->seg.open || !settings_differ(e->c, s))
		return;
	/* Before a greeting there is nothing to share with: a Sync follows. */
	put_settings(e, seg && !may_share(e->c, s->profile ? s->profile : s->base, seg));
}

/* --- the client's messages --- */

static struct stmt_text *parsed_text(const struct segment_msg *m) { return m->text; }

/* A name that means nothing to us goes as it is, for the server's own error; one that looks like ours must not hit a
 * statement of somebody else. */
static void put_unknown_name(struct emit *e, struct str name)
{
	if (str_has_prefix(name, STR(PSTMT_PREFIX)))
		ww_bytes(&e->ww, "?", 1);
	ww_str(&e->ww, name);
}

/* A Parse of a name that the client has: the server must fail here, in order, so that it skips up to Sync.  It has the
 * name too then, and says so. */
static void put_duplicate(struct emit *e, const struct segment_msg *m, uint16_t msg)
{
	if (e->s->tx != MSG_TX_FAILED) /* there it fails anyway, for what stands in it */
		(void)sqlprep_put_name(e, m->name);
	push(e, REQ_PARSE, 0)->msg = msg;
	put_parse(e, m->name, m->text);
}

/* From here on the server's unnamed statement is this one; if that fails, reply.c says that it is unknown. */
static void note_unnamed(struct emit *e, struct stmt_text *text)
{
	server_stmts_set_unnamed(&e->s->stmts, &e->s->pool->worker->texts, text);
	e->s->stmts.unnamed_for = emit_settings(e->c);
	e->unnamed = text;
}

/* The backend is this client's alone and may have statements that only it knows: of such a name it must be asked. */
static bool is_asked_by_name(const struct emit *e) { return e->own_names || (e->c->pins & SQL_PIN_PREPARED); }

static void emit_parse(struct emit *e, const struct segment_msg *m, uint16_t index, bool repeated)
{
	struct stmt_text *text = parsed_text(m);
	struct worker *w = e->s->pool->worker;
	w->stats.total.client_parses++;
	e->c->du->stats.client_parses++;
	if (m->name.n == 0) {
		struct request *r = push(e, REQ_PARSE, REQF_UNNAMED | (repeated ? REQF_SWALLOW : 0u));
		r->text = stmt_text_ref(text);
		r->msg = index;
		put_parse(e, STR(""), text);
		note_unnamed(e, text);
		client_stmts_set_sent(&e->c->stmts, &w->texts, text);
		return;
	}
	bool plain = is_asked_by_name(e) && !repeated && !client_stmts_find(&e->c->stmts, m->name);
	if (plain)
		(void)sqlprep_put_name(e, m->name); /* closes somebody else's */
	struct cstmt *named = repeated ? NULL : client_stmts_find(&e->c->stmts, m->name);
	if (named && e->c->seg.retried && index < e->c->seg.settled_msgs && named->text == text) {
		named->state = CSTMT_PARSING; /* its first answer was never shown */
	} else if (named || (!repeated && sqlprep_find(e->c, m->name))) {
		put_duplicate(e, m, index);
		return;
	} else if (!repeated) {
		named = client_stmts_parse(&e->c->stmts, m->name, text);
	}
	if (plain && named) {
		sqlprep_expect_parse(e, m->name, text);
		struct request *r = push(e, REQ_PARSE, REQF_CLIENT_STMT);
		r->cstmt = named;
		r->msg = index;
		put_parse(e, m->name, text);
		return;
	}
	struct sstmt *at = emit_fresh_entry(e, text, emit_settings(e->c));
	if (!repeated && !named)
		e->failed = true;
	struct request *r =
	    push(e, REQ_PARSE, REQF_SERVER_STMT | (named ? REQF_CLIENT_STMT : 0u) | (repeated ? REQF_SWALLOW : 0u));
	r->cstmt = named;
	r->sstmt = at;
	r->msg = index;
	put_parse(e, stmt_text_server_name(text), text);
}

/* The name under which the server knows the statement of a Bind or Describe, prepared now if need be. */
static void put_statement_name(struct emit *e, const struct segment_msg *m)
{
	if (m->name.n == 0)
		ww_str(&e->ww, STR(""));
	else if (m->text)
		ww_str(&e->ww, e->own_names ? m->name : stmt_text_server_name(m->text));
	else
		put_unknown_name(e, m->name);
}

/* C3: the backend's unnamed statement may be another client's.  Close of it never fails, and PostgreSQL says the rest.
 */
static void have_no_unnamed(struct emit *e)
{
	if ((e->c->stmts.large && (e->c->pins | e->c->seg.pins) & SQL_PIN_PREPARED) || RULE_BROKEN(C3))
		return;
	push(e, REQ_CLOSE, REQF_SWALLOW);
	msg_put_close(&e->ww, MSG_TARGET_STATEMENT, STR(""));
	note_unnamed(e, NULL);
}

static void put_unnamed(struct emit *e, struct stmt_text *text)
{
	struct request *r = push(e, REQ_PARSE, REQF_SWALLOW | REQF_UNNAMED);
	r->text = stmt_text_ref(text);
	put_parse(e, STR(""), text);
	note_unnamed(e, text);
}

static bool has_unnamed(const struct emit *e, const struct stmt_text *text)
{
	return e->unnamed == text && e->s->stmts.unnamed_for == emit_settings(e->c);
}

/* In a failed transaction PostgreSQL says 25P02 of a statement that PREPARE has made.  The backend, which need not have
 * it and cannot be given it now, is asked for something else then. */
static void put_aborted(struct emit *e)
{
	static const char body[] = "SELECT FROM " NO_STATEMENT "\0\0"; /* and the NUL of the string */
	push(e, REQ_PARSE, REQF_SWALLOW);
	ww_begin(&e->ww, MSG_PARSE);
	ww_str(&e->ww, STR(NO_STATEMENT));
	ww_bytes(&e->ww, body, sizeof body);
	ww_end(&e->ww);
}

static void prepare_for(struct emit *e, const struct segment_msg *m)
{
	if (!m->text) {
		if (m->name.n == 0)
			have_no_unnamed(e);
		else if (e->s->tx == MSG_TX_FAILED && sqlprep_lacks_name(e->c, e->s, m->name))
			put_aborted(e);
		return;
	}
	if (m->name.n && e->own_names) {
		(void)sqlprep_put_name(e, m->name);
	} else if (m->name.n) {
		ensure_statement(e, m->text, emit_settings(e->c), 0);
	} else if (!has_unnamed(e, m->text)) {
		put_unnamed(e, m->text); /* prepared in an earlier segment, on another server perhaps */
	}
}

/* --- columns (D3, columns.h) --- */

/* Those of the statement of a Bind on this server; 0: not known. */
static uint64_t columns_of(struct emit *e, const struct segment_msg *m)
{
	const struct sstmt *at = m->name.n ? server_stmts_find(&e->s->stmts, m->text, e->c->segment_no) : NULL;
	return m->name.n == 0 ? e->s->stmts.unnamed_columns : at ? at->columns : 0;
}

static void put_question(struct emit *e, struct str name, struct sstmt *at)
{
	unsigned flags = REQF_SWALLOW | REQF_COLUMNS | (at ? 0u : (unsigned)REQF_OF_UNNAMED);
	struct request *r = push(e, REQ_DESCRIBE_STATEMENT, flags);
	if (at)
		r->sstmt = at;
	else
		r->unnamed_no = e->s->stmts.unnamed_no;
	ww_begin(&e->ww, MSG_DESCRIBE);
	ww_u8(&e->ww, MSG_TARGET_STATEMENT);
	ww_str(&e->ww, name);
	ww_end(&e->ww);
}

/* The statement is made anew and its columns are asked for, unless they are known to be those.  True: so it is. */
static bool put_check(struct emit *e, const struct segment_msg *m, uint64_t relied_on)
{
	struct server_stmts *stmts = &e->s->stmts;
	uint32_t check = e->c->seg.check_no;
	if (m->name.n == 0) {
		bool there = has_unnamed(e, m->text);
		if (there && (stmts->unnamed_columns == relied_on || stmts->unnamed_checked == check))
			return false;
		put_unnamed(e, m->text);
		stmts->unnamed_checked = check;
		put_question(e, STR(""), NULL);
		return true;
	}
	struct sstmt *at = find_ready(e, m->text, emit_settings(e->c));
	if (at && (at->columns == relied_on || at->checked_in == check))
		return false;
	at = put_statement(e, m->text, emit_settings(e->c), 0);
	if (!at)
		return false;
	at->checked_in = check;
	put_question(e, stmt_text_server_name(m->text), at);
	return true;
}

static bool put_checks(struct emit *e, const struct segment *seg)
{
	bool asks = false;
	for (unsigned i = 0; i < seg->n && e->s->tx != MSG_TX_FAILED; i++) {
		uint64_t relied_on = columns_relied_on(e->c, seg, i);
		const struct segment_msg *m = &seg->msgs[i];
		e->c->stmts.keeps_unnamed |= m->type == MSG_BIND && m->text && m->name.n == 0 && !seg->parses;
		if (!relied_on)
			continue;
		if (!e->c->seg.check_no)
			e->c->seg.check_no = ++e->s->pool->worker->texts.checks;
		asks |= put_check(e, m, relied_on);
	}
	if (asks) {
		ww_begin(&e->ww, MSG_FLUSH); /* no entry in the queue: it is not the client's */
		ww_end(&e->ww);
	}
	return asks;
}

/* A Bind with the wrong number of values, of a name that the backend cannot be given now. */
static bool put_stand_in(struct emit *e, const uint8_t *p, const struct segment_msg *m, size_t whole_len)
{
	struct msg_bind_rest rest;
	return !m->text && m->name.n && e->s->tx == MSG_TX_FAILED && whole_len == m->len &&
	       sqlprep_lacks_name(e->c, e->s, m->name) &&
	       msg_parse_bind_rest(p + m->off + m->rest, m->len - m->rest, &rest) &&
	       sqlprep_put_stand_in(e, m->name, rest.value_count);
}

static void emit_bind(struct emit *e, const uint8_t *p, const struct segment *seg, unsigned i, uint16_t index,
                      bool repeated)
{
	const struct segment_msg *m = &seg->msgs[i];
	size_t whole_len = seg->end == SEGMENT_LARGE && i + 1 == seg->n ? seg->large_len : m->len;
	if (!put_stand_in(e, p, m, whole_len))
		prepare_for(e, m);
	uint64_t relied_on = columns_relied_on(e->c, seg, i), columns = relied_on ? columns_of(e, m) : 0;
	bool outdated = columns && columns != relied_on && e->s->tx != MSG_TX_FAILED;
	struct request *r = push(e, REQ_BIND, (repeated ? REQF_SWALLOW : 0u) | (outdated ? REQF_OUTDATED : 0u));
	r->msg = index;
	e->s->pool->worker->stats.total.binds++;
	e->c->du->stats.binds++;
	size_t start = buf_len(e->ww.out);
	ww_begin(&e->ww, MSG_BIND);
	ww_str(&e->ww, m->portal);
	if (outdated)
		ww_str(&e->ww, STR(NO_STATEMENT));
	else
		put_statement_name(e, m);
	size_t names = buf_len(e->ww.out) - start;
	ww_bytes(&e->ww, p + m->off + m->rest, m->len - m->rest);
	ww_end(&e->ww);
	if (whole_len == m->len || e->ww.failed)
		return;
	/* A large Bind: its rest streams through behind, so the length word tells of all of it. */
	uint32_t length = htobe32((uint32_t)(names + (whole_len - m->rest) - 1));
	memcpy(buf_head(e->ww.out) + start + 1, &length, sizeof length);
}

/* The Bind of the segment that makes the portal which its i-th message describes. */
static const struct segment_msg *bind_of(const struct segment *seg, unsigned i)
{
	struct str portal = seg->msgs[i].name;
	while (i-- > 0) {
		if (seg->msgs[i].type == MSG_BIND && str_eq(seg->msgs[i].portal, portal))
			return &seg->msgs[i];
	}
	return NULL;
}

/* The answer says of which columns a statement is, and that is not known yet. */
static void note_columns(struct emit *e, struct request *r, const struct segment_msg *m)
{
	if (!m || !m->text)
		return;
	if (m->name.n == 0) {
		/* Few bind it in another segment than its Parse; the others are not to pay for that. */
		if (r->kind == REQ_DESCRIBE_PORTAL && !e->c->stmts.keeps_unnamed)
			return;
		r->flags |= REQF_COLUMNS | REQF_OF_UNNAMED;
		r->unnamed_no = e->s->stmts.unnamed_no;
		return;
	}
	struct sstmt *at = server_stmts_find(&e->s->stmts, m->text, e->c->segment_no);
	struct cstmt *named = client_stmts_find(&e->c->stmts, m->name);
	if (!at || !named || (at->columns && at->columns == named->told))
		return;
	r->flags |= REQF_COLUMNS;
	r->sstmt = at;
	r->cstmt = named;
}

static void emit_describe(struct emit *e, const struct segment *seg, unsigned i, uint16_t index, bool repeated)
{
	const struct segment_msg *m = &seg->msgs[i];
	bool statement = m->target == MSG_TARGET_STATEMENT;
	if (statement)
		prepare_for(e, m);
	struct request *r =
	    push(e, statement ? REQ_DESCRIBE_STATEMENT : REQ_DESCRIBE_PORTAL, repeated ? REQF_SWALLOW : 0u);
	r->msg = index;
	note_columns(e, r, statement ? m : bind_of(seg, i));
	ww_begin(&e->ww, MSG_DESCRIBE);
	ww_u8(&e->ww, m->target);
	if (statement)
		put_statement_name(e, m);
	else
		ww_str(&e->ww, m->name);
	ww_end(&e->ww);
}

/* Close of a statement is ours to do; the server gets one that means nothing and answers it in its place. */
static void emit_close(struct emit *e, const struct segment_msg *m, uint16_t index, bool repeated)
{
	bool statement = m->target == MSG_TARGET_STATEMENT, own = false;
	struct cstmt *known = statement && m->name.n && !repeated ? client_stmts_find(&e->c->stmts, m->name) : NULL;
	unsigned flags = repeated ? REQF_SWALLOW : 0u;
	if (statement && m->name.n == 0) {
		flags |= REQF_UNNAMED;
		note_unnamed(e, NULL);
		client_stmts_set_sent(&e->c->stmts, &e->c->worker->texts, NULL);
	}
	if (known)
		flags |= REQF_CLIENT_STMT;
	else if (statement && !repeated)
		own = sqlprep_find(e->c, m->name) != NULL;
	if (own)
		flags |= REQF_SQLNAME;
	struct request *r = push(e, REQ_CLOSE, flags);
	r->msg = index;
	r->cstmt = known;
	if (known)
		client_stmts_close(known);
	ww_begin(&e->ww, MSG_CLOSE);
	ww_u8(&e->ww, m->target);
	/* A backend of its own may have the name as it is, by Parse (is_asked_by_name()) or by what only it knows. */
	bool untracked = e->c->pins & SQL_PIN_PREPARED && !str_has_prefix(m->name, STR(PSTMT_PREFIX));
	if (statement && untracked && known)
		sqlprep_doubt_name(e->s, m->name);
	if (statement && m->name.n && !own && !untracked)
		ww_str(&e->ww, STR(NO_STATEMENT));
	else
		ww_str(&e->ww, m->name);
	ww_end(&e->ww);
}

static void emit_plain(struct emit *e, const uint8_t *p, const struct segment_msg *m, enum request_kind kind,
                       uint16_t index)
{
	struct request *r = push(e, kind, 0);
	r->msg = index;
	ww_bytes(&e->ww, p + m->off, m->len);
}

/* As it is, and its client stays with the backend. */
static void emit_large_parse(struct emit *e, const uint8_t *p, const struct segment_msg *m, uint16_t index)
{
	emit_plain(e, p, m, REQ_PARSE, index);
	e->s->plain.unknown = true;
	if (m->name.n)
		return;
	requests_at(&e->s->reqs, requests_len(&e->s->reqs) - 1)->flags |= REQF_UNNAMED;
	note_unnamed(e, NULL);
	client_stmts_set_sent(&e->c->stmts, &e->c->worker->texts, NULL);
	e->c->stmts.large = true;
}

/* What an Execute runs, as far as it was bound in the same part of the segment; borrowed or NULL. */
static struct stmt_text *bound_to(const struct segment *seg, unsigned i)
{
	struct str portal = seg->msgs[i].portal;
	while (i-- > 0) {
		if (seg->msgs[i].type == MSG_BIND && str_eq(seg->msgs[i].portal, portal))
			return seg->msgs[i].text;
	}
	return NULL;
}

/* The statement, when it resets what the client has brought along. */
static const struct sql_stmt *reset_of(const struct emit *e, const struct sql_shape *shape)
{
	const struct sql_facts *f = shape ? shape_facts(shape) : NULL;
	return f && !f->multi && tracking_resets_home(e->c, e->s, &f->stmts[0]) ? &f->stmts[0] : NULL;
}

static const struct sql_stmt *executed_reset(const struct emit *e, const struct segment *seg, unsigned i)
{
	struct sql_hint hint;
	const struct stmt_text *text = e->c->seg.flags & SQL_F_RESETS_SETTINGS ? bound_to(seg, i) : NULL;
	if (!text && (e->c->seg.flags & SQL_F_RESETS_SETTINGS))
		e->c->seg.pins |= SQL_PIN_RESETS; /* bound in an earlier part: which, nobody has kept */
	if (!text)
		return NULL;
	return reset_of(e, shapes_get(e->c->worker->shapes, stmt_text_sql(text), e->c->sql_options, &hint));
}

/* In one string: between two messages the backend would report what is not the client's. */
static void put_reset_query(struct emit *e, const uint8_t *p, const struct segment_msg *m, const struct sql_stmt *reset)
{
	struct buf *sql = &e->s->pool->worker->reply;
	push(e, REQ_QUERY, REQF_ONE_TAG);
	ww_begin(&e->ww, MSG_QUERY);
	ww_bytes(&e->ww, p + m->off + FRAME_HEAD_BYTES, m->len - FRAME_HEAD_BYTES - 1);
	/* The client's text may end in a comment. */
	for (unsigned i = 0; tracking_home_next(e->c, reset, &i, sql);) {
		ww_bytes(&e->ww, "\n;", 2);
		ww_bytes(&e->ww, buf_head(sql), buf_len(sql) - 1);
	}
	ww_u8(&e->ww, 0);
	ww_end(&e->ww);
}

/* DISCARD ALL leaves none of our statements. */
static void put_home(struct emit *e, const struct sql_stmt *reset)
{
	struct buf *sql = &e->s->pool->worker->reply;
	if (reset->verb == SQL_DISCARD_ALL)
		server_stmts_doubt(&e->s->stmts);
	for (unsigned i = 0; tracking_home_next(e->c, reset, &i, sql);)
		inject(e, sql, REQF_BACK);
	/* It has been committed, whatever comes behind it. */
	if (reset->verb == SQL_DISCARD_ALL) {
		inject_text(e, "BEGIN", REQF_BACK);
		inject_text(e, "COMMIT", REQF_BACK);
	}
}

static void put_parse_of(struct emit *e, struct str name, const struct buf *sql)
{
	ww_begin(&e->ww, MSG_PARSE);
	ww_str(&e->ww, name);
	ww_bytes(&e->ww, buf_head(sql), buf_len(sql));
	ww_u16(&e->ww, 0);
	ww_end(&e->ww);
}

/* E7: behind what may have reset what the client has brought along.  The statement is parsed each time: what was run
 * may have deallocated it. */
static void put_back(struct emit *e)
{
	static const struct str name = STR(PSTMT_PREFIX "back");
	struct buf *sql = &e->s->pool->worker->reply;
	buf_clear(sql);
	if (!tracking_put_back(e->c, e->s, sql)) {
		e->failed = true;
		return;
	}
	push(e, REQ_CLOSE, REQF_SWALLOW | REQF_BACK);
	msg_put_close(&e->ww, MSG_TARGET_STATEMENT, name);
	push(e, REQ_PARSE, REQF_SWALLOW | REQF_BACK);
	put_parse_of(e, name, sql);
	push(e, REQ_BIND, REQF_SWALLOW | REQF_BACK);
	msg_put_bind(&e->ww, name, name, NULL, 0);
	push(e, REQ_EXECUTE, REQF_SWALLOW | REQF_BACK);
	msg_put_execute(&e->ww, name, 0);
	push(e, REQ_CLOSE, REQF_SWALLOW | REQF_BACK);
	msg_put_close(&e->ww, MSG_TARGET_PORTAL, name);
	push(e, REQ_CLOSE, REQF_SWALLOW | REQF_BACK);
	msg_put_close(&e->ww, MSG_TARGET_STATEMENT, name);
	e->s->news = true;
}

static bool reads_copy(const struct segment *seg)
{
	const struct sql_facts *f = seg->shape ? shape_facts(seg->shape) : NULL;
	for (unsigned i = 0; f && i < f->n_stmts; i++) {
		if (f->stmts[i].verb == SQL_COPY_FROM)
			return true;
	}
	return f && f->unparsed;
}

/* Its ReadyForQuery waits for ours.  reset: DISCARD ALL, or NULL. */
static void put_back_behind(struct emit *e, const struct segment *seg, const struct sql_stmt *reset)
{
	/* While it reads COPY data the server takes no other message. */
	if ((!reset && !tracking_puts_back(e->c, e->s, seg->pins)) || reads_copy(seg))
		return;
	requests_at(&e->s->reqs, requests_len(&e->s->reqs) - 1)->flags |= REQF_NOT_READY;
	if (reset)
		put_home(e, reset);
	else
		put_back(e);
	push(e, REQ_SYNC, 0);
	msg_put_sync(&e->ww);
}

static void emit_message(struct emit *e, const struct segment *seg, unsigned i, const uint8_t *p)
{
	const struct segment_msg *m = &seg->msgs[i];
	struct client_segment *cs = &e->c->seg;
	uint16_t index = cs->next_msg++;
	bool repeated = cs->retried && index < cs->shown_msgs;
	const struct sql_stmt *reset;
	switch (m->type) {
	case MSG_PARSE:
		if (m->text)
			emit_parse(e, m, index, repeated);
		else
			emit_large_parse(e, p, m, index);
		return;
	case MSG_BIND:
		emit_bind(e, p, seg, i, index, repeated);
		return;
	case MSG_DESCRIBE:
		emit_describe(e, seg, i, index, repeated);
		return;
	case MSG_CLOSE:
		emit_close(e, m, index, repeated);
		return;
	case MSG_EXECUTE:
		emit_plain(e, p, m, REQ_EXECUTE, index);
		if ((reset = executed_reset(e, seg, i)))
			put_home(e, reset);
		return;
	case MSG_QUERY:
		note_unnamed(e, NULL);
		client_stmts_set_sent(&e->c->stmts, &e->c->worker->texts, NULL);
		client_stmts_set_unnamed(&e->c->stmts, &e->c->worker->texts, NULL);
		/* DISCARD ALL must be alone in its string. */
		reset = seg->flags & SQL_F_RESETS_SETTINGS ? reset_of(e, seg->shape) : NULL;
		/* SET LOCAL outside of a transaction does nothing but warn. */
		if (reset && reset->verb == SQL_SET_LOCAL && e->c->tx == CTX_NONE)
			reset = NULL;
		if (reset && reset->verb != SQL_DISCARD_ALL) {
			put_reset_query(e, p, m, reset);
			return;
		}
		emit_plain(e, p, m, REQ_QUERY, index);
		put_back_behind(e, seg, reset);
		return;
	case MSG_FUNCTION_CALL:
		emit_plain(e, p, m, REQ_FCALL, index);
		put_back_behind(e, seg, NULL);
		return;
	case MSG_SYNC:
		if (tracking_puts_back(e->c, e->s, e->c->seg.pins))
			put_back(e);
		emit_plain(e, p, m, REQ_SYNC, index);
		return;
	case MSG_FLUSH:
		emit_plain(e, p, m, REQ_FLUSH, index);
		return;
	default:
		return; /* stray COPY messages are dropped, as PostgreSQL does */
	}
}

/* Something is to be said of statements under names of SQL (sqlprep.h). */
static bool may_use_names(const struct segment *seg)
{
	return seg->mentions || seg->pins & SQL_PIN_UNKNOWN ||
	       (seg->flags & (SQL_F_SHOWS_PREPARED | SQL_F_MAY_TOUCH_SESSION | SQL_F_DYNAMIC));
}

/* PREPARE and DISCARD take a snapshot: they must not be in the transaction that the client's statements may begin. */
static void put_names(struct emit *e, struct segment *seg, bool discards)
{
	bool idle = e->s->tx == MSG_TX_IDLE && !e->c->seg.open;
	bool prepares = sqlprep_put_names(e, seg);
	if (discards) {
		inject_text(e, "DISCARD SEQUENCES", REQF_PRELUDE);
		e->s->sequences_of = 0;
	}
	if ((prepares || discards) && idle) {
		inject_text(e, "BEGIN", REQF_PRELUDE);
		inject_text(e, "COMMIT", REQF_PRELUDE | (e->s->pending ? REQF_SETTLES : 0u));
	}
	sqlprep_expect(e, seg);
}

/* --- the common cases --- */

static COLD enum emit_result broken(struct server *s, const char *text)
{
	char why[256];
	snprintf(why, sizeof why, "%s", text);
	server_close(s, why);
	return EMIT_BROKEN;
}

static enum emit_result send_bytes(struct server *s, const uint8_t *p, size_t n)
{
	return LIKELY(stream_send(&s->stream, p, n) != STREAM_BROKEN) ? EMIT_SENT : broken(s, stream_last_error());
}

static bool is_plain(const struct client *c, const struct server *s)
{
	return s->profile == c->profile && c->tx != CTX_DEFERRED && !c->seg.open && !c->seg.retried;
}

/* The commonest case by far: one Query and nothing of ours goes out from where it lies. */
enum emit_result emit_query(struct client *c, struct server *s, const struct segment *seg, const uint8_t *p,
                            unsigned flags)
{
	server_stmts_set_unnamed(&s->stmts, &s->pool->worker->texts, NULL);
	client_stmts_set_unnamed(&c->stmts, &c->worker->texts, NULL);
	struct request *r = requests_push(&s->reqs);
	if (!r)
		return broken(s, "out of memory");
	r->kind = REQ_QUERY;
	r->flags = flags;
	c->seg.next_msg = 1;
	return send_bytes(s, p, seg->len);
}

/* The Bind of a known segment names a statement of the client's, which this server has. */
static bool is_ready_to_bind(struct client *c, struct server *s, const struct segment_msg *bind, unsigned n)
{
	if (bind->name.n == 0)
		return false;
	struct sstmt *at = server_stmts_find(&s->stmts, bind->text, c->segment_no);
	if (!at || !at->present || at->made_for != emit_settings(c) || at->epoch != s->pool->worker->texts.epoch)
		return false;
	/* The client was told these columns, or is told no other ones now and relies on none. */
	const struct cstmt *named = client_stmts_recall(&c->stmts, bind->name);
	return named && (named->told ? named->told == at->columns : n == 3);
}

/* Bind with our name for the statement, and behind it all the rest as it is.  at: shared for an unnamed statement, with
 * its Parse before the Bind; else NULL. */
static enum emit_result send_known(struct client *c, struct server *s, const struct segment *seg, const uint8_t *p,
                                   struct sstmt *at)
{
	static const uint8_t kinds[][4] = { { REQ_BIND, REQ_EXECUTE, REQ_SYNC },
		                            { REQ_BIND, REQ_DESCRIBE_PORTAL, REQ_EXECUTE, REQ_SYNC } };
	uint16_t first = at != NULL;
	const struct segment_msg *bind = &seg->msgs[first];
	struct str name = stmt_text_server_name(bind->text);
	struct buf *out = &s->pool->worker->out;
	size_t names = 1 + name.n + 1, rest = seg->len - bind->off - bind->rest, len = FRAME_HEAD_BYTES + names + rest;
	buf_clear(out);
	if (!buf_reserve(out, len + PSTMT_NAME_MAX) || !requests_reserve(&s->reqs, seg->n))
		return broken(s, "out of memory");
	const uint8_t *kind = kinds[seg->n - first - 3];
	if (at)
		*requests_next(&s->reqs) =
		    (struct request){ .kind = REQ_PARSE, .flags = REQF_HERE | REQF_SHARED, .sstmt = at };
	for (uint16_t i = first; i < seg->n; i++)
		*requests_next(&s->reqs) = (struct request){ .kind = kind[i - first], .msg = i };
	if (at) {
		struct request *r = requests_at(&s->reqs, requests_len(&s->reqs) - seg->n + 1);
		r->flags = REQF_SHARED;
		r->sstmt = at;
	}
	p += bind->off;
	uint32_t length = htobe32((uint32_t)(FRAME_HEAD_BYTES - 1 + names + (bind->len - bind->rest)));
	uint8_t *w = buf_tail(out);
	*w = MSG_BIND;
	memcpy(w + 1, &length, sizeof length);
	w[FRAME_HEAD_BYTES] = 0;                                  /* the unnamed portal */
	memcpy(w + FRAME_HEAD_BYTES + 1, name.p, PSTMT_NAME_MAX); /* what is too much is written over */
	memcpy(w + FRAME_HEAD_BYTES + names, p + bind->rest, rest);
	c->seg.next_msg = (uint16_t)seg->n;
	s->pool->worker->stats.total.binds++;
	c->du->stats.binds++;
	return send_bytes(s, w, len);
}

/* The shared statement is parsed here, for the first time or anew: its answer is the client's. */
static enum emit_result share_anew(struct client *c, struct server *s, const struct segment *seg, const uint8_t *p)
{
	struct emit e;
	const struct segment_msg *bind = &seg->msgs[1];
	emit_begin(&e, c, s);
	struct sstmt *at = emit_fresh_entry(&e, bind->text, emit_settings(c));
	if (!at)
		return emit_finish(&e);
	unnamed_note_parsed(c, seg, at);
	at->runs = 1;
	push(&e, REQ_PARSE, REQF_SERVER_STMT | REQF_SHARED)->sstmt = at;
	put_parse(&e, stmt_text_server_name(bind->text), bind->text);
	struct request *r = push(&e, REQ_BIND, REQF_SHARED); /* its errors would show our name */
	r->msg = 1;
	r->sstmt = at;
	ww_begin(&e.ww, MSG_BIND);
	ww_str(&e.ww, STR(""));
	ww_str(&e.ww, stmt_text_server_name(bind->text));
	ww_bytes(&e.ww, p + bind->off + bind->rest, bind->len - bind->rest);
	ww_end(&e.ww);
	for (uint16_t i = 2; i < seg->n; i++) {
		const struct segment_msg *m = &seg->msgs[i];
		emit_plain(&e, p, m,
		           m->type == MSG_DESCRIBE  ? REQ_DESCRIBE_PORTAL
		           : m->type == MSG_EXECUTE ? REQ_EXECUTE
		                                    : REQ_SYNC,
		           i);
	}
	c->seg.next_msg = (uint16_t)seg->n;
	return emit_finish(&e);
}

/* False: clients who know it by a name rely on its columns (columns.h), so it cannot be parsed anew at will. */
static bool try_shared(struct client *c, struct server *s, const struct segment *seg, const uint8_t *p,
                       enum emit_result *result)
{
	struct sstmt *at = server_stmts_find(&s->stmts, seg->msgs[1].text, c->segment_no);
	struct stats_block *total = &s->pool->worker->stats.total;
	bool current = unnamed_is_current(c, seg, at);
	if (!current && at && at->columns) {
		c->seg.unnamed = UNNAMED_PLAIN;
		return false;
	}
	total->client_parses++;
	if (current) {
		at->runs++;
		*result = send_known(c, s, seg, p, at);
	} else {
		total->binds++;
		*result = share_anew(c, s, seg, p);
	}
	return true;
}

/* Its answer must come before the server looks at the COMMIT, hence the Flush. */
static void put_question_of_xid(struct emit *e)
{
	lostcommit_note_asked(e->c, e->s);
	inject_text(e, "SELECT pg_catalog.pg_current_xact_id_if_assigned()", REQF_PRELUDE | REQF_XID);
	ww_begin(&e->ww, MSG_FLUSH); /* no entry in the queue: it is not the client's */
	ww_end(&e->ww);
}

static bool begins_with_parse(const struct segment *seg) { return seg->msgs[0].type == MSG_PARSE; }

/* The general way. */
static enum emit_result put_segment(struct client *c, struct server *s, struct segment *seg, const uint8_t *p,
                                    bool discards)
{
	struct emit e;
	emit_begin(&e, c, s);
	put_prelude(&e, seg);
	if (RULE_BROKEN(A1) && requests_len(&s->reqs)) {
		push(&e, REQ_SYNC, REQF_SWALLOW);
		msg_put_sync(&e.ww);
	}
	if (discards || may_use_names(seg))
		put_names(&e, seg, discards);
	if (c->tx == CTX_DEFERRED && s->tx == MSG_TX_IDLE && !c->seg.open) {
		put_begin(&e);
		put_snapshot(&e, seg);
	}
	if (seg->flags & SQL_F_SHOWS_PREPARED) {
		e.own_names = s->tx != MSG_TX_FAILED;
		close_ours(&e);
	}
	if (!e.own_names && put_checks(&e, seg)) {
		c->seg.checking = seg->len;
		return emit_finish(&e) == EMIT_SENT ? EMIT_CHECKS : EMIT_BROKEN;
	}
	if (lostcommit_is_asked(c, s, seg))
		put_question_of_xid(&e);
	for (unsigned i = 0; i < seg->n; i++)
		emit_message(&e, seg, i, p);
	return emit_finish(&e);
}

enum emit_result emit_checked(struct client *c, struct server *s, struct segment *seg)
{
	const uint8_t *p = buf_head(&c->in) + c->emitted;
	struct emit e;
	emit_begin(&e, c, s);
	for (unsigned i = 0; i < seg->n; i++)
		emit_message(&e, seg, i, p);
	return emit_finish(&e);
}

enum emit_result emit_segment(struct client *c, struct server *s, struct segment *seg)
{
	const uint8_t *p = buf_head(&c->in) + c->emitted;
	bool discards = pins_must_discard(c, s, seg);
	if (is_plain(c, s) && !discards && !may_use_names(seg) && !(seg->flags & SQL_F_SETS) &&
	    !lostcommit_is_asked(c, s, seg)) {
		enum emit_result result;
		if (seg->n == 1 && seg->end == SEGMENT_QUERY) {
			if (UNLIKELY(c->shares_simple) && simple_try(c, s, seg, p, &result))
				return result;
			return emit_query(c, s, seg, p, 0);
		}
		if (seg->known && begins_with_parse(seg)) {
			c->seg.unnamed = (uint8_t)unnamed_choose(c, seg);
			if (c->seg.unnamed == UNNAMED_SHARED && try_shared(c, s, seg, p, &result))
				return result;
		} else if (seg->known && is_ready_to_bind(c, s, &seg->msgs[0], seg->n)) {
			return send_known(c, s, seg, p, NULL);
		}
	}
	return put_segment(c, s, seg, p, discards);
}

enum emit_result emit_prelude_only(struct client *c, struct server *s)
{
	struct emit e;
	emit_begin(&e, c, s);
	put_prelude(&e, NULL);
	push(&e, REQ_SYNC, REQF_SWALLOW | REQF_PRELUDE);
	msg_put_sync(&e.ww);
	return emit_finish(&e);
}

enum emit_result emit_own_query(struct client *c, struct server *s, struct buf *sql)
{
	struct emit e;
	emit_begin(&e, c, s);
	inject(&e, sql, REQF_AFTER);
	push(&e, REQ_SYNC, REQF_SWALLOW);
	msg_put_sync(&e.ww);
	return emit_finish(&e);
}

enum emit_result emit_failure(struct client *c, struct server *s)
{
	struct emit e;
	emit_begin(&e, c, s);
	push(&e, REQ_QUERY, REQF_SWALLOW | REQF_NOT_READY | REQF_FAILS);
	note_unnamed(&e, NULL);
	client_stmts_set_unnamed(&c->stmts, &c->worker->texts, NULL);
	msg_put_query(&e.ww, STR("ROLLBACK TO SAVEPOINT \"pgweir: its client has been told of an error\""));
	return emit_finish(&e);
}

enum emit_result emit_sync(struct server *s, bool swallow)
{
	struct emit e;
	emit_begin(&e, s->client, s);
	push(&e, REQ_SYNC, swallow ? REQF_SWALLOW : 0u);
	msg_put_sync(&e.ww);
	return emit_finish(&e);
}
